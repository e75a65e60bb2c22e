"""What decoding gives: a clip of grey frames, who they are of, and their scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imaging.arrays import GreyImage
from imaging.calibration import Calibration
from imaging.geometry import PixelBox


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSource:
    """Where a frame comes from: the file as the sender named it and its 0-based frame there."""

    file: str
    frame: int
    sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One grey frame: `pixels` (rows, columns) uint8, seconds from the clip's start if known."""

    pixels: GreyImage
    source: FrameSource
    time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIdentity:
    """Who and what a DICOM image is of, as its header says; None where it says nothing.

    Dates are DICOM's YYYYMMDD, laterality is L, R, B or U (0020,0060 or 0020,0062).
    """

    patient_id: str | None = None
    issuer: str | None = None
    patient_name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    accession: str | None = None
    laterality: str | None = None
    body_part: str | None = None
    study_date: str | None = None
    study_time: str | None = None
    study_description: str | None = None
    series_description: str | None = None
    protocol: str | None = None
    modality: str | None = None
    manufacturer: str | None = None
    model_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """A decoded file: `frames` are the ones asked for, `frame_count` is all that it holds.

    `calibration` is the file's own scale; where there is none, `calibration_problem` says why in
    words. `region` is the B-mode part of the picture, where the file names it. `identity` is
    None for plain frames, which name nobody.
    """

    file: str
    frames: tuple[Frame, ...]
    frame_count: int
    rows: int
    columns: int
    calibration: Calibration | None
    calibration_problem: str | None
    region: PixelBox | None
    identity: ImageIdentity | None
    media: Literal["dicom", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file's header says, read without decoding a pixel."""

    file: str
    media: Literal["dicom", "plain"]
    rows: int
    columns: int
    frame_count: int
    identity: ImageIdentity | None
    transfer_syntax_uid: str | None
    has_calibration: bool
