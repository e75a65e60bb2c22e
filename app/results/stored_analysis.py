"""An analysis as the store holds it, and the images that its objects refer to.

One analysis may be of many images: nine stills of a sweep, each an instance of its own. Its
report names them all. A segmentation and a presentation state have one size, one scale and one
kind of colour, so there is one for each lot of images that are alike in these, nearly always
one; a picture to be captured there is of every frame that bears a site.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from app.analysis import SourceFile, State
from app.errors import NoObject
from imaging.calibration import Calibration, CalibrationProvenance
from imaging.dicom.capture import capture_header
from imaging.dicom.instance import NewInstance, derived_uid, header_of
from imaging.dicom.sr import PredecessorDocument
from imaging.dicom.state import state_class
from imaging.dicom.ultrasound import StudyFacts
from imaging.frame import Clip, ImageIdentity
from imaging.limits import DecodeLimits
from imaging.mask import LabelMasks, masks_from_png
from imaging.read import peek, read_clip

IMAGE_SERIES_NUMBER = 9006
NEEDED = {
    "StudyInstanceUID": "study (Study Instance UID)",
    "SeriesInstanceUID": "series (Series Instance UID)",
    "SOPClassUID": "kind (SOP Class UID)",
}
"""What an object must be able to say of the image that it is about (PS3.3 C.17.2)."""
STANDARD_FRAME_MS = 40.0
"""Of a clip that does not tell its pace."""
FrameRecord = Mapping[str, Any]
"""What the plan says of one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnalysis:
    """One revision as the store holds it; `verifier` confirmed it at `verified_at`.

    `uid_root` is the site's own root of UIDs; None takes UUIDs under 2.25. `request` names the
    patient and the study where the images do not; `submitted_at` is when these came, whatever
    the revision. `predecessors` are the reports that this one's report takes the place of.
    """

    analysis_id: str
    revision: int
    created_at: dt.datetime
    state: State
    plan: Mapping[str, Any]
    masks: Mapping[str, bytes]
    sources: tuple[SourceFile, ...]
    verifier: str | None = None
    verified_at: dt.datetime | None = None
    uid_root: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    submitted_at: dt.datetime | None = None
    predecessors: tuple[PredecessorDocument, ...] = ()

    def frame(self, key: str | None) -> FrameRecord:
        """The plan's record of a frame; without a key the one with most sites, then muscle.

        Raises NoObject for a frame that was not analysed.
        """
        frames: list[FrameRecord] = self.plan["frames"]
        if key is None:
            return self.foremost(frames)
        found = self.analysed(key)
        if found is None:
            raise NoObject(
                f"Frame {key} was not analysed.",
                remedy=f"Ask for one of: {', '.join(f['key'] for f in frames)}.",
            )
        return found

    def foremost(self, frames: Sequence[FrameRecord]) -> FrameRecord:
        """Of these frames the one with most sites, then muscle."""
        sites = [site["frame_key"] for site in self.plan.get("sites", ())]
        return max(
            frames,
            key=lambda f: (sites.count(f["key"]), (f["section"] or {}).get("area_px", 0.0)),
        )

    def analysed(self, key: str) -> FrameRecord | None:
        """The plan's record of the frame with this key; None for one that was not analysed."""
        return next((frame for frame in self.plan["frames"] if frame["key"] == key), None)

    def locate(self, number: int) -> tuple[SourceFile, int] | None:
        """The file of a frame that is counted over all files from 0, and its number there."""
        left = number
        for source in self.sources:
            count = peek(Path(source.path), name=source.name, limits=DecodeLimits()).frame_count
            if left < count:
                return source, left
            left -= count
        return None

    def source(self, name: str) -> SourceFile:
        """The stored file that the plan, or the sender, calls `name`."""
        return next(s for s in self.sources if name in s.names)

    def labels(self, key: str) -> LabelMasks:
        """The masks of an analysed frame."""
        return masks_from_png(self.masks[key])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceImage:
    """An image that objects refer to.

    `frames` are those on which a muscle was found. `shown` is the first of them, by sites, then
    by muscle; of an image without any it is just a frame that was looked at.
    """

    header: Dataset
    frames: tuple[FrameRecord, ...]
    shown: FrameRecord

    @property
    def kind(self) -> tuple[str, ...]:
        """What images must have in common to be in one segmentation and one state."""
        return (
            str(self.header.StudyInstanceUID),
            f"{self.header.Rows} x {self.header.Columns}",
            json.dumps(self.shown["calibration"]["used"], sort_keys=True),
            state_class(self.header),
        )


def images_of(stored: StoredAnalysis) -> list[SourceImage]:
    """The images with a muscle on them, in the plan's order; where none has any, the first one.

    Of plain pictures they are the headers of the Secondary Captures that `wrapping` names. Raises
    NoObject where the request does not say whose pictures they are.
    """
    files: dict[str, list[FrameRecord]] = {}
    for frame in stored.plan["frames"]:
        if frame["section"] is not None:
            files.setdefault(frame["file"], []).append(frame)
    if not files:
        shown = stored.frame(None)
        return [SourceImage(header=_header(stored, shown), frames=(), shown=shown)]
    return [
        SourceImage(
            header=_header(stored, frames[0]),
            frames=tuple(frames),
            shown=stored.foremost(frames),
        )
        for frames in files.values()
    ]


def alike(stored: StoredAnalysis, images: Sequence[SourceImage]) -> list[list[SourceImage]]:
    """The images in lots of one kind; the lot of the frame with most sites comes first."""
    lots: dict[tuple[str, ...], list[SourceImage]] = {}
    for image in images:
        lots.setdefault(image.kind, []).append(image)
    first = stored.foremost([image.shown for image in images])
    return sorted(lots.values(), key=lambda lot: all(image.shown != first for image in lot))


def captured(stored: StoredAnalysis, images: Sequence[SourceImage]) -> list[FrameRecord]:
    """The frames that become pictures: those with a site, of an image without any the one with
    most muscle; first the one with most sites."""
    with_sites = {site["frame_key"] for site in stored.plan.get("sites", ())}
    found = [
        frame
        for image in images
        for frame in [f for f in image.frames if f["key"] in with_sites] or [image.shown]
    ]
    first = stored.foremost(found)
    return [first, *(frame for frame in found if frame["key"] != first["key"])]


def _header(stored: StoredAnalysis, record: FrameRecord) -> Dataset:
    source = stored.source(record["file"])
    if record["sop_instance_uid"] is not None:
        header = header_of(Path(source.path))
        missing = [words for keyword, words in NEEDED.items() if not header.get(keyword)]
        if missing:
            raise NoObject(
                f"The image does not say its {' and '.join(missing)}, so no DICOM object can "
                "point to it.",
                remedy="Export it again from the scanner or PACS, and send that.",
            )
        return header
    facts = peek(Path(source.path), name=source.name, limits=DecodeLimits())
    return capture_header(
        named_study(stored),
        rows=facts.rows,
        columns=facts.columns,
        frames=facts.frame_count,
        colour=False,
        **wrapping(stored, record),
    )


def named_study(stored: StoredAnalysis) -> StudyFacts:
    """Whose picture it is, as the request says. Raises NoObject unless patient and study are."""
    patient, study = stored.request.get("patient") or {}, stored.request.get("study") or {}
    missing = [
        words
        for words, value in (
            ("the patient's id (patient.id)", patient.get("id")),
            ("the Study Instance UID (study.instance_uid)", study.get("instance_uid")),
        )
        if not value
    ]
    if missing:
        raise NoObject(
            "A plain picture does not say whose it is, so no DICOM object can point to it.",
            remedy=f"Give {' and '.join(missing)} with PATCH, or send the image as DICOM.",
        )
    return StudyFacts(
        patient_id=patient["id"],
        issuer=patient.get("issuer") or "",
        patient_name=patient.get("name") or "",
        birth_date=(patient.get("birth_date") or "").replace("-", ""),
        study_instance_uid=study["instance_uid"],
        study_date=(study.get("date") or "").replace("-", ""),
        study_time=(study.get("time") or "").replace(":", ""),
        study_id=study.get("id") or "",
        study_description=study.get("description") or "",
        accession=study.get("accession") or "",
        laterality="L" if stored.plan["target"]["side"] == "left" else "R",
    )


def wrapping(stored: StoredAnalysis, record: FrameRecord) -> dict[str, Any]:
    """How a plain file is wrapped: the same each time for one patient, study and scale.

    So its revisions share one image, until another patient or scale makes another image of it.
    The files of one analysis with one scale are one series.
    """
    used = record["calibration"]["used"]
    subject = json.dumps([asdict(named_study(stored)), used], sort_keys=True)
    position = [source.name for source in stored.sources].index(record["file"])
    return {
        "instance": NewInstance(
            series_instance_uid=derived_uid(
                stored.analysis_id, subject, "image series", root=stored.uid_root
            ),
            sop_instance_uid=derived_uid(
                stored.analysis_id, record["file"], subject, "image", root=stored.uid_root
            ),
            series_number=IMAGE_SERIES_NUMBER,
            instance_number=position + 1,
            series_description="sonodose: picture as it was sent",
            created=stored.submitted_at or stored.created_at,
            software_version=version("sonodose"),
            uid_root=stored.uid_root,
        ),
        "modality": "US",
        "calibration": calibration_of(record),
    }


def calibration_of(record: FrameRecord) -> Calibration | None:
    """The scale that the frame was measured by."""
    used = record["calibration"]["used"]
    if used is None:
        return None
    return Calibration(
        row_mm_per_px=used["row_mm_per_px"],
        column_mm_per_px=used["column_mm_per_px"],
        provenance=CalibrationProvenance(used["provenance"]),
        note=used["note"],
    )


def decoded(source: SourceFile, frames: list[int] | None) -> Clip:
    """The frames of a file that are named by their numbers; None asks for all."""
    return read_clip(Path(source.path), name=source.name, frames=frames, limits=DecodeLimits())


def identity_of(stored: StoredAnalysis, identity: ImageIdentity | None) -> ImageIdentity:
    """Whose the image is: as it says itself, or as the request says where it names nobody."""
    if identity is not None and (identity.patient_id or identity.patient_name):
        return identity
    patient, study = stored.request.get("patient") or {}, stored.request.get("study") or {}
    known = identity or ImageIdentity()
    return replace(
        known,
        patient_id=patient.get("id"),
        issuer=patient.get("issuer"),
        patient_name=patient.get("name"),
        birth_date=known.birth_date or (patient.get("birth_date") or "").replace("-", "") or None,
        study_instance_uid=known.study_instance_uid or study.get("instance_uid"),
    )
