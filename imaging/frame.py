"""What decoding gives: a clip of grey frames, who they are of, and their scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imaging.arrays import ColourImage, GreyImage, colour_share, luma
from imaging.calibration import Calibration
from imaging.geometry import PixelBox
from imaging.plane import ImagePlane


def plan_name(file: str, sop_instance_uid: str | None) -> str:
    """What a plan calls a file: a DICOM image by its SOP Instance UID, whatever its sender did."""
    return file if sop_instance_uid is None else f"{sop_instance_uid}.dcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSource:
    """Where a frame comes from: the file as the sender named it and its 0-based frame there."""

    file: str
    frame: int
    sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One grey frame: `pixels` (rows, columns) uint8, seconds from the clip's start if known.

    `colour_share` is the share, 0 to 1, of its B-mode part that was strongly coloured before it
    became grey: colour Doppler over the tissue, whose brightness is no echo. `plane` is where the
    frame lies in space, None where that is not known.
    """

    pixels: GreyImage
    source: FrameSource
    time_s: float | None = None
    colour_share: float = 0.0
    plane: ImagePlane | None = None


def grey_frame(
    picture: GreyImage | ColourImage,
    *,
    source: FrameSource,
    time_s: float | None = None,
    region: PixelBox | None = None,
    plane: ImagePlane | None = None,
) -> Frame:
    """The frame of a picture, grey (rows, columns) or RGB (rows, columns, 3) uint8.

    Colour becomes grey by its luma, and its share within `region` (None: everywhere) is kept.
    """
    if picture.ndim == 2:
        return Frame(pixels=picture, source=source, time_s=time_s, plane=plane)
    part = picture if region is None else picture[region.slices]
    return Frame(
        pixels=luma(picture),
        source=source,
        time_s=time_s,
        colour_share=colour_share(part),
        plane=plane,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIdentity:
    """Who and what a DICOM image is of, as its header says; None where it says nothing.

    Dates are DICOM's YYYYMMDD, laterality is L, R, B or U (0020,0060 or 0020,0062). Codes are
    SCHEME:VALUE; orders are the numbers under which the study may have been ordered.
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
    study_id: str | None = None
    referring_physician: str | None = None
    series_number: int | None = None
    instance_number: int | None = None
    anatomic_regions: tuple[str, ...] = ()
    procedures: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()


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

    @property
    def plan_name(self) -> str:
        """What a plan calls the file, the same by whichever door it came."""
        return plan_name(
            self.file, None if self.identity is None else self.identity.sop_instance_uid
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file's header says, read without decoding a pixel.

    `analysable` is False for what is stored with a study and never analysed: reports, masks and
    pictures of ours, images of other kinds. Without pixels the sizes are 0.
    """

    file: str
    media: Literal["dicom", "plain"]
    rows: int
    columns: int
    frame_count: int
    identity: ImageIdentity | None
    transfer_syntax_uid: str | None
    has_calibration: bool
    analysable: bool = True
