"""From a stored analysis to what people look at: pictures, DICOM segmentation and report.

One geometry, many pictures: everything is drawn from the plan document and the label maps of the
run; nothing is computed again. Objects are made when asked for, not inside the analysis.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.analysis import SourceFile, State
from app.errors import NoObject
from app.plan_document import SUGGESTION
from app.plan_fhir import FhirSubject, plan_bundle
from app.plan_pdf import plan_pdf
from imaging import overlay as picture
from imaging.calibration import Calibration, CalibrationProvenance
from imaging.dicom import codes
from imaging.dicom.capture import write_capture
from imaging.dicom.codes import CodedAnatomy
from imaging.dicom.instance import NewInstance, derived_uid
from imaging.dicom.seg import Algorithm, write_seg
from imaging.dicom.sr import ReportContent, ReportNumber, ReportSite, Verifier, write_sr
from imaging.dicom.state import StateFrame, StateSite, write_state
from imaging.frame import Clip, ImageIdentity
from imaging.geometry import ImagePoint
from imaging.limits import DecodeLimits
from imaging.mask import LabelMasks, grey_png, masks_from_png
from imaging.overlay import Overlay, OverlaySite
from imaging.read import peek, read_clip

SEG_SERIES_NUMBER = 9001
SR_SERIES_NUMBER = 9002
SC_SERIES_NUMBER = 9003
PR_SERIES_NUMBER = 9004


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnalysis:
    """One revision as the store holds it; `verifier` confirmed it at `verified_at`.

    `uid_root` is the site's own root of UIDs; None takes UUIDs under 2.25.
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

    def frame(self, key: str | None) -> Mapping[str, Any]:
        """The plan's record of a frame; without a key the one with most sites, then muscle.

        Raises NoObject for a frame that was not analysed.
        """
        frames: list[Mapping[str, Any]] = self.plan["frames"]
        if key is None:
            sites = [site["frame_key"] for site in self.plan.get("sites", ())]
            return max(
                frames,
                key=lambda f: (sites.count(f["key"]), (f["section"] or {}).get("area_px", 0.0)),
            )
        for frame in frames:
            if frame["key"] == key:
                return frame
        raise NoObject(
            f"Frame {key} was not analysed.",
            remedy=f"Ask for one of: {', '.join(f['key'] for f in frames)}.",
        )

    def source(self, name: str) -> SourceFile:
        """The stored file that the sender called `name`."""
        return next(s for s in self.sources if s.name == name)

    def labels(self, key: str) -> LabelMasks:
        """The masks of an analysed frame."""
        return masks_from_png(self.masks[key])


def frame_png(stored: StoredAnalysis, number: int) -> bytes:
    """A frame as it is segmented, 8-bit grey PNG; frames are counted over all files from 0."""
    limits = DecodeLimits()
    left = number
    for source in stored.sources:
        count = peek(Path(source.path), name=source.name, limits=limits).frame_count
        if left < count:
            clip = read_clip(Path(source.path), name=source.name, frames=[left], limits=limits)
            return grey_png(clip.frames[0].pixels)
        left -= count
    raise NoObject(
        f"There is no frame {number}.",
        remedy="Frames are counted from 0 over all files of the analysis.",
    )


def mask_png(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The label map of a frame: 0 nothing, 1 muscle, 2 nerve, 3 vessel."""
    return stored.masks[stored.frame(frame)["key"]]


def overlay_png(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The frame with contour, sites, scale and the words that must stand on it, as PNG."""
    return picture.overlay_png(_overlay(stored, frame))


def overlay_svg(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The same picture as SVG, from the same shapes."""
    return picture.overlay_svg(_overlay(stored, frame)).encode()


def pdf(stored: StoredAnalysis) -> bytes:
    """The plan on one page of A4, to be printed and taken to the bedside."""
    overlay = _overlay(stored, None)
    standing = f"CONFIRMED BY {stored.verifier}" if stored.verifier else SUGGESTION
    target = stored.plan["target"]
    return plan_pdf(
        stored.plan,
        picture.overlay_png(replace(overlay, heading=(), identifiers=())),
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
    who = facts.identity or ImageIdentity()
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


def seg(stored: StoredAnalysis) -> bytes:
    """The muscle, nerves and vessels as DICOM Segmentation of the first analysed file.

    Raises NoObject without a scale, for plain pictures and where nothing was found.
    """
    record = _first_dicom(stored)
    calibration = _calibration(record)
    if calibration is None:
        raise NoObject(
            "There is no scale, so there is no segmentation object: viewers would measure on it.",
            remedy="Give the scale (PATCH with calibration), then ask again. The mask in pixels "
            "is at mask.png.",
        )
    masks = {
        f["frame"]: _structures(stored.labels(f["key"]))
        for f in stored.plan["frames"]
        if f["file"] == record["file"] and f["section"] is not None
    }
    if not masks:
        raise NoObject(
            "No muscle was found, so there is nothing to put into a segmentation.",
            remedy="Click on the muscle, draw a box or outline it, then ask again.",
        )
    return write_seg(
        Path(stored.source(record["file"]).path),
        masks,
        calibration=calibration,
        anatomy=_anatomy(stored.plan),
        algorithm=_algorithm(stored.plan, record),
        instance=_instance(stored, record, "SEG", SEG_SERIES_NUMBER, "Muscle segmentation"),
    )


def sr(stored: StoredAnalysis) -> bytes:
    """Measurements, dose and sites as DICOM SR (TID 1500) on the first analysed file.

    Raises NoObject without a scale and for plain pictures.
    """
    record = _first_dicom(stored)
    if "dose" not in stored.plan:
        raise NoObject(
            "The network gave no answer, so there is no plan to report.",
            remedy="Click on the muscle, draw a box or outline it, then ask again.",
        )
    if _calibration(record) is None:
        raise NoObject(
            "There is no scale, so there are no measurements to report.",
            remedy="Give the scale (PATCH with calibration), then ask again.",
        )
    verified = None
    if stored.verifier is not None:
        at = stored.verified_at or stored.created_at
        verified = Verifier(name=stored.verifier, organization="", at=at)
    return write_sr(
        Path(stored.source(record["file"]).path),
        _report(stored.plan, record),
        instance=_instance(stored, record, "SR", SR_SERIES_NUMBER, "Injection plan"),
        verified=verified,
    )


def capture(stored: StoredAnalysis) -> bytes:
    """The overlay as DICOM Secondary Capture in the study of the image: every PACS shows it."""
    record = _first_dicom(stored)
    drawn = picture.draw_overlay(_overlay(stored, None))
    return write_capture(
        Path(stored.source(record["file"]).path),
        [drawn],
        instance=_instance(stored, record, "SC", SC_SERIES_NUMBER, "Injection plan, picture"),
        source_frame=record["frame"],
        laterality="L" if stored.plan["target"]["side"] == "left" else "R",
        description="; ".join(stored.plan["marks"]),
    )


def state(stored: StoredAnalysis) -> bytes:
    """Contours and sites as a presentation state over the first analysed file.

    Raises NoObject for plain pictures.
    """
    record = _first_dicom(stored)
    sites = stored.plan.get("sites", ())
    return write_state(
        Path(stored.source(record["file"]).path),
        [
            StateFrame(
                frame=frame["frame"],
                muscle=stored.labels(frame["key"]).muscle,
                sites=tuple(
                    StateSite(
                        number=site["number"],
                        point=ImagePoint(column=site["column"], row=site["row"]),
                        label=site_label(site, stored.plan["dose"]),
                    )
                    for site in sites
                    if site["frame_key"] == frame["key"]
                ),
            )
            for frame in stored.plan["frames"]
            if frame["file"] == record["file"] and frame["section"] is not None
        ],
        instance=_instance(stored, record, "PR", PR_SERIES_NUMBER, "Injection plan, state"),
        calibration=_calibration(record),
        marks=stored.plan["marks"],
    )


def _clip_of(stored: StoredAnalysis, record: Mapping[str, Any]) -> Clip:
    source = stored.source(record["file"])
    return read_clip(
        Path(source.path), name=source.name, frames=[record["frame"]], limits=DecodeLimits()
    )


def _calibration(record: Mapping[str, Any]) -> Calibration | None:
    used = record["calibration"]["used"]
    if used is None:
        return None
    return Calibration(
        row_mm_per_px=used["row_mm_per_px"],
        column_mm_per_px=used["column_mm_per_px"],
        provenance=CalibrationProvenance(used["provenance"]),
        note=used["note"],
    )


def _first_dicom(stored: StoredAnalysis) -> Mapping[str, Any]:
    """The frame record that objects hang on: of the file with most muscle that is DICOM."""
    record = stored.frame(None)
    if record["sop_instance_uid"] is None:
        raise NoObject(
            "A plain picture names no patient and no study, so no DICOM object can point to it.",
            remedy="Send the image as DICOM, or use overlay.png and the plan.",
        )
    return record


def _anatomy(plan: Mapping[str, Any]) -> CodedAnatomy:
    target = plan["target"]
    return CodedAnatomy(
        code=target["anatomy"]["code"],
        scheme=target["anatomy"]["scheme"],
        meaning=target["anatomy"]["meaning"],
        laterality="L" if target["side"] == "left" else "R",
    )


def _algorithm(plan: Mapping[str, Any], record: Mapping[str, Any]) -> Algorithm:
    if record["outlined_by"] == "operator":
        return Algorithm(name="Operator's outline", version=version("sonodose"), kind="MANUAL")
    pointed = record["segmentation"] is not None and record["segmentation"]["prompted"]
    return Algorithm(
        name="sonodose muscle network",
        version=plan["provenance"]["model"],
        kind="SEMIAUTOMATIC" if pointed else "AUTOMATIC",
    )


def _instance(
    stored: StoredAnalysis, record: Mapping[str, Any], kind: str, number: int, description: str
) -> NewInstance:
    """Names that are the same each time the object of this revision is made."""
    standing = "confirmed" if stored.verifier else "suggestion"
    parts = (stored.analysis_id, str(stored.revision), standing, kind, record["file"])
    return NewInstance(
        series_instance_uid=derived_uid(*parts, "series", root=stored.uid_root),
        sop_instance_uid=derived_uid(*parts, "instance", root=stored.uid_root),
        series_number=number,
        series_description=f"sonodose: {description} ({standing})",
        created=stored.created_at,
        software_version=version("sonodose"),
    )


def _structures(labels: LabelMasks) -> dict[Any, Any]:
    return {"muscle": labels.muscle, "nerve": labels.nerve, "vessel": labels.vessel}


def _report(plan: Mapping[str, Any], record: Mapping[str, Any]) -> ReportContent:
    dose, sites = plan["dose"], plan["sites"]
    frames = {f["key"]: f for f in plan["frames"]}
    calibration = record["calibration"]["used"]
    confidence = (record["segmentation"] or {}).get("confidence")
    return ReportContent(
        anatomy=_anatomy(plan),
        sites=tuple(
            ReportSite(
                number=site["number"],
                frame=frames[site["frame_key"]]["frame"],
                point=ImagePoint(column=site["column"], row=site["row"]),
                depth_mm=site["depth_mm"],
                units=site["units"],
                ml=site["ml"],
            )
            for site in sites
            if frames[site["frame_key"]]["file"] == record["file"]
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


def _numbers(plan: Mapping[str, Any], record: Mapping[str, Any]) -> list[ReportNumber]:
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


def _overlay(stored: StoredAnalysis, key: str | None) -> Overlay:
    plan, record = stored.plan, stored.frame(key)
    clip = _clip_of(stored, record)
    labels = stored.labels(record["key"])
    outline = None
    if record["outlined_by"] == "operator":
        outline = tuple(ImagePoint(column=c, row=r) for c, r in record["contours"][0])
    return Overlay(
        grey=clip.frames[0].pixels,
        muscle=labels.muscle,
        nerve=labels.nerve,
        vessel=labels.vessel,
        outline=outline,
        sites=tuple(
            OverlaySite(
                number=site["number"],
                point=ImagePoint(column=site["column"], row=site["row"]),
                label=site_label(site, plan["dose"]),
                entry=None
                if site["needle"] is None
                else ImagePoint(
                    column=site["needle"]["entry_column"], row=site["needle"]["entry_row"]
                ),
                clear=site["needle"] is None or site["needle"]["clear"],
            )
            for site in plan.get("sites", ())
            if site["frame_key"] == record["key"]
        ),
        calibration=_calibration(record),
        skin_row=record["skin_row"],
        heading=tuple(heading(plan, record)),
        identifiers=identifiers(clip.identity),
        marks=tuple(
            f"CONFIRMED BY {stored.verifier}"
            if stored.verifier and mark.startswith("SUGGESTION")
            else mark
            for mark in plan["marks"]
        ),
        confidence=confidence_words(record),
    )


def site_label(site: Mapping[str, Any], dose: Mapping[str, Any]) -> str:
    """What stands beside a site: depth, Units of the product, millilitres, as far as known."""
    parts = []
    if site["depth_mm"] is not None:
        parts.append(f"{site['depth_mm']:.0f} mm deep")
    if site["units"] is not None and dose["planned"]:
        parts.append(f"{site['units']:g} U {dose['product']}")
    if site["ml"] is not None:
        parts.append(f"{site['ml']:.2g} mL")
    return ", ".join(parts)


def heading(plan: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """The lines over the picture: muscle and side, what was measured, volume, dose."""
    target, section = plan["target"], record["section"]
    lines = [f"{target['name']}, {target['side']}"]
    if section is not None and section["area_mm2"] is not None:
        area = (
            "" if target["view"] == "long_axis" else f"area {section['area_mm2'] / 100:.2f} cm², "
        )
        lines.append(
            f"{area}thickness {section['thickness_mm']:.1f} mm, depth {section['depth_mm']:.1f} mm"
        )
    elif section is not None:
        lines.append("no scale: no millimetres, no volume, no dose")
    volume, dose = plan.get("volume"), plan.get("dose")
    if volume is not None and volume["known"]:
        low, high = volume["interval_ml"]
        lines.append(f"volume {volume['volume_ml']:.0f} mL ({low:.0f} to {high:.0f})")
    if dose is not None and dose["planned"]:
        group = f" for {dose['group'].replace('_', ' ')} as a group" if dose["group"] else ""
        lines.append(f"{dose['units']:g} U {dose['product']}{group}")
    if plan.get("abstention"):
        lines.append("no answer: " + plan["abstention"]["text"])
    return lines


def identifiers(identity: ImageIdentity | None) -> tuple[str, ...]:
    """Two identifiers of the patient, where they are known: name and id, else birth date."""
    if identity is None:
        return ()
    known = (identity.patient_name, identity.patient_id, identity.birth_date)
    return tuple(str(k).replace("^", " ").strip() for k in known if k)[:2]


def confidence_words(record: Mapping[str, Any]) -> str | None:
    """How sure the mask is, in words for the picture."""
    if record["outlined_by"] == "operator":
        return "outlined by the operator"
    if record["segmentation"] is None:
        return None
    return f"confidence {record['segmentation']['confidence']:.2f}"
