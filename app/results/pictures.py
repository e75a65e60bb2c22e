"""The pictures that people look at: the frame with outline, sites, scale and words.

One geometry, many pictures: everything is drawn from the plan document and the label maps of the
run; nothing is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from app.errors import NoObject
from app.results.stored_analysis import (
    STANDARD_FRAME_MS,
    FrameRecord,
    StoredAnalysis,
    calibration_of,
    decoded,
    identity_of,
)
from imaging import overlay as picture
from imaging.arrays import GreyImage
from imaging.frame import Clip, ImageIdentity
from imaging.geometry import ImagePoint
from imaging.overlay import Overlay, OverlaySite

MOST_ANIMATED = 100
"""Frames of an animation; a longer clip is thinned out evenly."""


def mask_png(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The label map of a frame: 0 nothing, 1 muscle, 2 nerve, 3 vessel, 4 aponeurosis."""
    return stored.masks[stored.frame(frame)["key"]]


def overlay_png(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The frame with contour, sites, scale and the words that must stand on it, as PNG."""
    return picture.overlay_png(overlay_of(stored, frame))


def overlay_svg(stored: StoredAnalysis, frame: str | None = None) -> bytes:
    """The same picture as SVG, from the same shapes."""
    return picture.overlay_svg(overlay_of(stored, frame)).encode()


def overlay_webp(stored: StoredAnalysis) -> bytes:
    """The analysed frames of a clip one after the other, as animated WebP.

    At the clip's own pace; a long one is thinned out evenly. Raises NoObject for a still.
    """
    shown = stored.frame(None)
    frames = [f for f in stored.plan["frames"] if f["file"] == shown["file"]]
    if len(frames) < 2:
        raise NoObject(
            "There is one analysed frame, which does not move.",
            remedy="Ask for overlay.png, or let more frames of the clip be analysed.",
        )
    step = -(-len(frames) // MOST_ANIMATED)
    frames = frames[::step]
    clip = decoded(stored.source(shown["file"]), [f["frame"] for f in frames])
    times_s = [frame.time_s for frame in clip.frames if frame.time_s is not None]
    span_s = times_s[-1] - times_s[0] if len(times_s) == len(frames) else 0.0
    pace_ms = 1000 * span_s / (len(frames) - 1) if span_s > 0 else STANDARD_FRAME_MS * step

    def pictures() -> Iterator[Overlay]:
        # Made anew each time, one at a time: a long clip's masks would fill the memory.
        for record, frame in zip(frames, clip.frames, strict=True):
            yield _drawn(stored, record, clip, frame.pixels)

    layout = picture.common_layout(pictures())
    return picture.overlay_animation(
        (replace(each, layout=layout) for each in pictures()), frame_ms=pace_ms
    )


def overlay_of(stored: StoredAnalysis, key: str | None) -> Overlay:
    """What is drawn on a frame; None asks for the one with most sites."""
    record = stored.analysed(key) if key is not None else stored.frame(None)
    if record is None:
        return _bare(stored, key or "")
    clip = decoded(stored.source(record["file"]), [record["frame"]])
    return _drawn(stored, record, clip, clip.frames[0].pixels)


def _bare(stored: StoredAnalysis, key: str) -> Overlay:
    """A frame of the files that was not analysed: nothing is drawn on it, and it says so."""
    found = stored.locate(int(key))
    if found is None:
        stored.frame(key)
    assert found is not None  # noqa: S101 -- the line above raised
    clip = decoded(found[0], [found[1]])
    return Overlay(
        grey=clip.frames[0].pixels,
        heading=(_target(stored.plan), f"frame {key}: not analysed"),
        identifiers=identifiers(identity_of(stored, clip.identity)),
        marks=_marks(stored),
    )


def _marks(stored: StoredAnalysis) -> tuple[str, ...]:
    return tuple(
        f"CONFIRMED BY {stored.verifier}"
        if stored.verifier and mark.startswith("SUGGESTION")
        else mark
        for mark in stored.plan["marks"]
    )


def _drawn(stored: StoredAnalysis, record: FrameRecord, clip: Clip, grey: GreyImage) -> Overlay:
    plan = stored.plan
    labels = stored.labels(record["key"])
    outline = None
    if record["outlined_by"] == "operator":
        outline = tuple(ImagePoint(column=c, row=r) for c, r in record["contours"][0])
    return Overlay(
        grey=grey,
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
        calibration=calibration_of(record),
        skin_row=record["skin_row"],
        heading=tuple(heading(plan, record)),
        identifiers=identifiers(identity_of(stored, clip.identity)),
        marks=_marks(stored),
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


def _target(plan: Mapping[str, Any]) -> str:
    target = plan["target"]
    return ", ".join(word for word in (target["name"], target["side"]) if word)


def heading(plan: Mapping[str, Any], record: FrameRecord) -> list[str]:
    """The lines over the picture: muscle and side, what was measured, volume, dose."""
    target, section = plan["target"], record["section"]
    lines = [_target(plan)]
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
    if plan.get("waits_for"):
        lines.append("no volume, no dose: " + " and ".join(plan["waits_for"]["names"]) + " unnamed")
    if plan.get("abstention"):
        lines.append("no answer: " + plan["abstention"]["text"])
    return lines


def identifiers(identity: ImageIdentity | None) -> tuple[str, ...]:
    """Two identifiers of the patient, where they are known: name and id, else birth date."""
    if identity is None:
        return ()
    known = (identity.patient_name, identity.patient_id, identity.birth_date)
    return tuple(str(k).replace("^", " ").strip() for k in known if k)[:2]


def confidence_words(record: FrameRecord) -> str | None:
    """How sure the mask is, in words for the picture."""
    if record["outlined_by"] == "operator":
        return "outlined by the operator"
    if record["segmentation"] is None:
        return None
    return f"confidence {record['segmentation']['confidence']:.2f}"
