"""From a stored analysis to the objects that travel: DICOM, the printed page, FHIR.

Everything is taken from the plan document and the label maps of the run; nothing is computed
again. Objects are made when asked for, not inside the analysis.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.errors import NoObject
from app.planning.plan_document import SUGGESTION
from app.results import pictures
from app.results.plan_fhir import FhirSubject, plan_bundle
from app.results.plan_pdf import plan_pdf
from app.results.stored_analysis import (
    STANDARD_FRAME_MS,
    FrameRecord,
    SourceImage,
    StoredAnalysis,
    alike,
    calibration_of,
    captured,
    decoded,
    identity_of,
    images_of,
    named_study,
    wrapping,
)
from imaging.dicom import codes
from imaging.dicom.capture import write_capture
from imaging.dicom.codes import CodedAnatomy
from imaging.dicom.content import KeyObject
from imaging.dicom.header import SECONDARY_CAPTURE
from imaging.dicom.instance import NewInstance, derived_uid
from imaging.dicom.key_objects import write_key_objects
from imaging.dicom.seg import SEGMENTATION_STORAGE, Algorithm, write_seg
from imaging.dicom.sr import (
    COMPREHENSIVE_SR,
    ReportContent,
    ReportNumber,
    ReportSite,
    Verifier,
    write_sr,
)
from imaging.dicom.state import StateFrame, StateSite, state_class, write_state
from imaging.geometry import ImagePoint
from imaging.limits import DecodeLimits
from imaging.mask import LabelMasks
from imaging.overlay import draw_overlay, overlay_png
from imaging.read import peek

SERIES = {
    "SEG": (9001, "Muscle segmentation"),
    "SR": (9002, "Injection plan"),
    "SC": (9003, "Injection plan, picture"),
    "PR": (9004, "Injection plan, state"),
    "KO": (9005, "Injection plan, key objects"),
}
"""Number and description of the series of each kind of object."""


def pdf(stored: StoredAnalysis) -> bytes:
    """The plan on one page of A4, to be printed and taken to the bedside."""
    overlay = pictures.overlay_of(stored, None)
    standing = f"CONFIRMED BY {stored.verifier}" if stored.verifier else SUGGESTION
    target = stored.plan["target"]
    return plan_pdf(
        stored.plan,
        overlay_png(replace(overlay, heading=(), identifiers=())),
        title=f"{target['name']}, {target['side']}",
        identifiers=overlay.identifiers,
        standing=standing,
        made=f"Analysis {stored.analysis_id[:12]}, revision {stored.revision}, "
        f"{stored.created_at:%Y-%m-%d %H:%M} UTC",
    )


def fhir(stored: StoredAnalysis) -> bytes:
    """The plan as a FHIR R4 bundle (application/fhir+json)."""
    source = stored.source(stored.frame(None)["file"])
    facts = peek(Path(source.path), name=source.name, limits=DecodeLimits())
    who = identity_of(stored, facts.identity)
    bundle = plan_bundle(
        stored.plan,
        analysis_id=stored.analysis_id,
        revision=stored.revision,
        made=stored.created_at.isoformat(timespec="seconds"),
        subject=FhirSubject(
            patient_id=who.patient_id,
            issuer=who.issuer,
            patient_name=who.patient_name,
            study_instance_uid=who.study_instance_uid,
        ),
        verifier=stored.verifier,
    )
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode()


def object_frames(stored: StoredAnalysis) -> dict[str, list[str]]:
    """The frames' keys by which each of several objects of one name is asked for, and pictures.

    The first of each is the one that is made where no frame is named.
    """
    images = images_of(stored)
    lots = [stored.foremost([image.shown for image in lot]) for lot in alike(stored, images)]
    first = stored.foremost([image.shown for image in images])
    several: dict[str, list[FrameRecord]] = {
        "seg.dcm": lots,
        "pr.dcm": lots,
        "sc.dcm": captured(stored, images),
        "image.dcm": [first, *(i.shown for i in images if i.shown["key"] != first["key"])],
    }
    return {name: [frame["key"] for frame in frames] for name, frames in several.items()}


def seg(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The muscle, nerves and vessels as DICOM Segmentation of all images of one size and scale.

    They are the images like that of the frame, or the one with most sites. Raises NoObject
    without a scale, for pictures of nobody and where nothing was found.
    """
    lot, record = _lot(stored, frame)
    calibration = calibration_of(record)
    if calibration is None:
        raise NoObject(
            "There is no scale, so there is no segmentation object: viewers would measure on it.",
            remedy="Give the scale (PATCH with calibration), then ask again. The mask in pixels "
            "is at mask.png.",
        )
    if not lot[0].frames:
        raise NoObject(
            "No muscle was found, so there is nothing to put into a segmentation.",
            remedy="Click on the muscle, draw a box or outline it, then ask again.",
        )
    return write_seg(
        [image.header for image in lot],
        [{f["frame"]: _structures(stored.labels(f["key"])) for f in i.frames} for i in lot],
        calibration=calibration,
        anatomy=_anatomy(stored.plan),
        algorithm=_algorithm(stored.plan, [f for image in lot for f in image.frames]),
        instance=_instance(stored, record, "SEG"),
    )


def sr(stored: StoredAnalysis) -> bytes:
    """Measurements, dose and sites as DICOM SR (TID 1500) on the images.

    Raises NoObject without a scale and for pictures of nobody.
    """
    images = images_of(stored)
    record = stored.foremost([image.shown for image in images])
    if "dose" not in stored.plan:
        raise NoObject(
            "The network gave no answer, so there is no plan to report.",
            remedy="Click on the muscle, draw a box or outline it, then ask again.",
        )
    if calibration_of(record) is None:
        raise NoObject(
            "There is no scale, so there are no measurements to report.",
            remedy="Give the scale (PATCH with calibration), then ask again.",
        )
    verified = None
    if stored.verifier is not None:
        at = stored.verified_at or stored.created_at
        verified = Verifier(name=stored.verifier, organization="", at=at)
    return write_sr(
        [image.header for image in images],
        replace(
            _report(stored.plan, record, images),
            predecessors=stored.predecessors,
            results=_results(stored, images),
        ),
        instance=_instance(stored, record, "SR"),
        verified=verified,
    )


def capture(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The overlay as DICOM Secondary Capture in the study of the image: every PACS shows it.

    Raises NoObject for pictures of nobody, and for a frame that `object_frames` does not name.
    """
    images = images_of(stored)
    frames = captured(stored, images)
    record = _asked(frames, frame)
    image = next(i for i in images if i.shown["file"] == record["file"])
    place = sorted(int(each["key"]) for each in frames).index(int(record["key"]))
    return write_capture(
        image.header,
        [draw_overlay(pictures.overlay_of(stored, record["key"]))],
        instance=_instance(stored, record, "SC", place=place),
        source_frame=record["frame"],
        laterality="L" if stored.plan["target"]["side"] == "left" else "R",
        description="; ".join(stored.plan["marks"]),
    )


def state(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """Contours and sites as a presentation state over all images of one size, scale and colour.

    They are the images like that of the frame, or the one with most sites. Raises NoObject for
    pictures of nobody.
    """
    lot, record = _lot(stored, frame)
    sites = stored.plan.get("sites", ())
    return write_state(
        [image.header for image in lot],
        [
            StateFrame(
                image=place,
                frame=frame["frame"],
                muscle=stored.labels(frame["key"]).muscle,
                sites=tuple(
                    StateSite(
                        number=site["number"],
                        point=ImagePoint(column=site["column"], row=site["row"]),
                        label=pictures.site_label(site, stored.plan["dose"]),
                    )
                    for site in sites
                    if site["frame_key"] == frame["key"]
                ),
            )
            for place, image in enumerate(lot)
            for frame in image.frames
        ],
        instance=_instance(stored, record, "PR"),
        calibration=calibration_of(record),
        marks=stored.plan["marks"],
    )


def _lot(stored: StoredAnalysis, frame: str | None) -> tuple[list[SourceImage], FrameRecord]:
    """The images like the asked frame's, and the record of the frame that the lot is known by."""
    lots = alike(stored, images_of(stored))
    known_by = [stored.foremost([image.shown for image in lot]) for lot in lots]
    record = _asked(known_by, frame)
    return lots[known_by.index(record)], record


def _asked(frames: Sequence[FrameRecord], key: str | None) -> FrameRecord:
    """The frame with this key, without one the first. Raises NoObject for any other."""
    found = [frame for frame in frames if key in (None, frame["key"])]
    if not found:
        raise NoObject(
            f"There is no such object of frame {key}.",
            remedy=f"Ask for one of: {', '.join(frame['key'] for frame in frames)}.",
        )
    return found[0]


def key_objects(stored: StoredAnalysis) -> bytes:
    """Which frames, picture and report of the study belong to the plan, as Key Object Selection.

    Raises NoObject for pictures of nobody.
    """
    images = images_of(stored)
    record = stored.foremost([image.shown for image in images])
    with_sites = {site["frame_key"] for site in stored.plan.get("sites", ())}
    frames = [[f["frame"] for f in i.frames if f["key"] in with_sites] for i in images]
    if not any(frames):
        frames = [[i.shown["frame"]] if i.shown is record else [] for i in images]
    others = [r for r in _results(stored, images) if r.sop_class_uid == SECONDARY_CAPTURE]
    if "dose" in stored.plan and calibration_of(record) is not None:
        others.append(_key(_instance(stored, record, "SR"), COMPREHENSIVE_SR, is_image=False))
    return write_key_objects(
        [image.header for image in images],
        frames,
        instance=_instance(stored, record, "KO"),
        others=others,
        description="; ".join(stored.plan["marks"]),
    )


def image(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The plain frames of a file put under the named patient and study, as Secondary Capture.

    It is the file of the frame, or the one with most sites. Raises NoObject for DICOM images,
    which need it not, and without patient and study.
    """
    record = stored.frame(frame)
    if record["sop_instance_uid"] is not None:
        raise NoObject(
            "The images are DICOM as they came.", remedy="They are at files/0 and following."
        )
    subject = named_study(stored)
    clip = decoded(stored.source(record["file"]), None)
    times_s = [frame.time_s for frame in clip.frames if frame.time_s is not None]
    span_s = times_s[-1] - times_s[0] if len(times_s) == len(clip.frames) else 0.0
    return write_capture(
        subject,
        [each.pixels for each in clip.frames],
        frame_time_ms=1000 * span_s / (len(times_s) - 1) if span_s > 0 else STANDARD_FRAME_MS,
        **wrapping(stored, record),
    )


def _results(stored: StoredAnalysis, images: Sequence[SourceImage]) -> tuple[KeyObject, ...]:
    """The other objects of this revision, as its report names them."""
    found = []
    lots = alike(stored, images)
    for lot in lots:
        record = stored.foremost([image.shown for image in lot])
        if lot[0].frames and calibration_of(record) is not None:
            found.append(_key(_instance(stored, record, "SEG"), SEGMENTATION_STORAGE))
    found += [
        _key(_instance(stored, record, "SC"), SECONDARY_CAPTURE)
        for record in captured(stored, images)
    ]
    for lot in lots:
        record = stored.foremost([image.shown for image in lot])
        found.append(_key(_instance(stored, record, "PR"), state_class(lot[0].header)))
    return tuple(found)


def _key(instance: NewInstance, sop_class_uid: str, *, is_image: bool = True) -> KeyObject:
    return KeyObject(
        series_instance_uid=instance.series_instance_uid,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        is_image=is_image,
    )


def _anatomy(plan: Mapping[str, Any]) -> CodedAnatomy:
    target = plan["target"]
    return CodedAnatomy(
        code=target["anatomy"]["code"],
        scheme=target["anatomy"]["scheme"],
        meaning=target["anatomy"]["meaning"],
        laterality="L" if target["side"] == "left" else "R",
    )


def _algorithm(plan: Mapping[str, Any], records: Sequence[FrameRecord]) -> Algorithm:
    by_hand = [record["outlined_by"] == "operator" for record in records]
    if all(by_hand):
        return Algorithm(name="Operator's outline", version=version("sonodose"), kind="MANUAL")
    pointed = [(record["segmentation"] or {}).get("prompted", False) for record in records]
    return Algorithm(
        name="sonodose muscle network",
        version=plan["provenance"]["model"],
        kind="SEMIAUTOMATIC" if any(by_hand) or any(pointed) else "AUTOMATIC",
    )


def _instance(
    stored: StoredAnalysis, record: FrameRecord, kind: str, place: int = 0
) -> NewInstance:
    """Names that are the same each time the object of this revision and frame is made.

    `place` is its place among the objects of its series, counted from 0.
    """
    standing = "confirmed" if stored.verifier else "suggestion"
    number, description = SERIES[kind]
    parts = (stored.analysis_id, str(stored.revision), standing, kind)
    return NewInstance(
        series_instance_uid=derived_uid(*parts, "series", root=stored.uid_root),
        sop_instance_uid=derived_uid(*parts, record["key"], "instance", root=stored.uid_root),
        series_number=number,
        instance_number=place + 1,
        series_description=f"sonodose: {description} ({standing})",
        created=stored.created_at,
        software_version=version("sonodose"),
        uid_root=stored.uid_root,
    )


def _structures(labels: LabelMasks) -> dict[Any, Any]:
    masks = {"muscle": labels.muscle, "nerve": labels.nerve, "vessel": labels.vessel}
    # A long clip's empty masks would fill the memory.
    return {structure: mask for structure, mask in masks.items() if mask.any()}


def _report(
    plan: Mapping[str, Any], record: FrameRecord, images: Sequence[SourceImage]
) -> ReportContent:
    dose, sites = plan["dose"], plan["sites"]
    places = {f["key"]: (n, f["frame"]) for n, image in enumerate(images) for f in image.frames}
    calibration = record["calibration"]["used"]
    confidence = (record["segmentation"] or {}).get("confidence")
    return ReportContent(
        anatomy=_anatomy(plan),
        sites=tuple(
            ReportSite(
                number=site["number"],
                image=places[site["frame_key"]][0],
                frame=places[site["frame_key"]][1],
                point=ImagePoint(column=site["column"], row=site["row"]),
                depth_mm=site["depth_mm"],
                units=site["units"],
                ml=site["ml"],
            )
            for site in sites
        ),
        numbers=tuple(_numbers(plan, record)),
        product=dose["product"] if dose["planned"] else None,
        dose_rows=tuple(
            [a["text"] for a in dose["adjustments"]] if dose["planned"] else [dose["reason"]]
        ),
        cautions=tuple(c["text"] for c in plan["cautions"]),
        marks=tuple(plan["marks"]),
        quality="outlined by the operator"
        if confidence is None
        else f"expected Dice of the mask {confidence:.2f}",
        calibration=f"{calibration['provenance']}: {calibration['row_mm_per_px']:.5g} × "
        f"{calibration['column_mm_per_px']:.5g} mm per pixel (row × column) {calibration['note']}",
        algorithm_name="sonodose muscle network" if plan["provenance"]["model"] else None,
        algorithm_version=plan["provenance"]["model"],
        versions=(
            f"sonodose {version('sonodose')}",
            f"tables {plan['provenance']['tables']['version']} "
            f"{plan['provenance']['tables']['sha256']}",
        ),
    )


def _numbers(plan: Mapping[str, Any], record: FrameRecord) -> list[ReportNumber]:
    section, volume, dose = record["section"], plan["volume"], plan["dose"]
    found: list[ReportNumber] = []
    if section is not None and section["area_mm2"] is not None:
        if plan["target"]["view"] != "long_axis":
            found.append(
                ReportNumber(name=codes.AREA, value=section["area_mm2"] / 100.0, unit=codes.CM2)
            )
        found += [
            ReportNumber(name=codes.THICKNESS, value=section["thickness_mm"], unit=codes.MM),
            ReportNumber(name=codes.DEPTH, value=section["depth_mm"], unit=codes.MM),
        ]
    if volume["known"]:
        low, high = volume["interval_ml"]
        found.append(
            ReportNumber(
                name=codes.VOLUME,
                value=volume["volume_ml"],
                unit=codes.CM3,
                method=volume["method"],
                low=low,
                high=high,
            )
        )
    if dose["planned"]:
        low, high = dose["interval_units"]
        found.append(
            ReportNumber(
                name=codes.TOXIN_UNITS,
                value=dose["units"],
                unit=codes.ARBITRARY_UNITS,
                low=low,
                high=high,
            )
        )
    return found
