"""A plan as a table for the terminal."""

from __future__ import annotations

import textwrap
from typing import Any


def plan_text(answer: dict[str, Any]) -> str:
    """The plan's lines: muscle, measures, volume, dose with every clamp, sites, cautions."""
    plan = answer["plan"]
    rows = [
        *_target(answer),
        *_measures(plan),
        *_volume(plan.get("volume")),
        *_dose(plan.get("dose")),
    ]
    width = max(len(label) for label, _ in rows)
    lines = []
    for label, text in rows:
        wrapped = textwrap.wrap(text, 100) or [""]
        lines.append(f"  {label:<{width}}  {wrapped[0]}")
        lines += [" " * (width + 4) + rest for rest in wrapped[1:]]
    return "\n".join([*lines, *_sites(plan), *_cautions(plan)])


def _target(answer: dict[str, Any]) -> list[tuple[str, str]]:
    target = answer["plan"]["target"]
    view = (target["view"] or "unknown view").replace("_", " ")
    rows = [
        ("state", answer["state"]),
        ("muscle", f"{target['name']}, {target['side']}, {view}"),
        ("marks", "; ".join(answer["plan"]["marks"])),
    ]
    if answer["plan"].get("abstention"):
        rows.append(("no answer", answer["plan"]["abstention"]["text"]))
    return rows


def _measures(plan: dict[str, Any]) -> list[tuple[str, str]]:
    sections = [f for f in plan["frames"] if f["section"]]
    if not sections:
        return []
    best = max(sections, key=lambda f: f["section"]["area_px"])
    section, scale = best["section"], best["calibration"]["used"]
    if scale is None:
        return [
            ("area", f"{section['area_px']:.0f} pixels; no millimetres without a scale"),
            ("scale", best["calibration"]["problem"] or "none"),
        ]
    area = f"{section['area_mm2'] / 100:.2f} cm², "
    if plan["target"]["view"] == "long_axis":
        area = ""
    found = "outlined by the operator"
    if best["segmentation"]:
        found = f"network, confidence {best['segmentation']['confidence']:.2f}"
    return [
        (
            "section",
            f"{area}thickness {section['thickness_mm']:.1f} mm, width {section['width_mm']:.1f} "
            f"mm, depth {section['depth_mm']:.1f} mm ({found}; {len(sections)} frame"
            f"{'s' if len(sections) > 1 else ''})",
        ),
        (
            "scale",
            f"{scale['row_mm_per_px']:.4f} × {scale['column_mm_per_px']:.4f} mm per pixel, "
            f"{scale['provenance'].replace('_', ' ')}",
        ),
    ]


def _volume(volume: dict[str, Any] | None) -> list[tuple[str, str]]:
    if volume is None:
        return []
    if not volume["known"]:
        return [("volume", f"unknown: {volume['reason']} {volume['remedy']}")]
    low, high = volume["interval_ml"]
    error = f"; {volume['published_error']}" if volume["published_error"] else ""
    return [
        (
            "volume",
            f"{volume['volume_ml']:.1f} mL ({low:.1f} to {high:.1f}) by "
            f"{volume['method'].replace('_', ' ')}{error}",
        )
    ]


def _dose(dose: dict[str, Any] | None) -> list[tuple[str, str]]:
    if dose is None:
        return []
    if not dose["planned"]:
        return [("dose", f"refused ({dose['code']}): {dose['reason']} {dose['remedy']}")]
    low, high = dose["interval_units"]
    group = f" for {dose['group'].replace('_', ' ')} as a group" if dose["group"] else ""
    rows = [
        (
            "dose",
            f"{dose['units']:g} U {dose['product']}{group} ({low:g} to {high:g}); range "
            f"{dose['label_min_units']:g} to {dose['label_max_units']:g} U, {dose['grade']} "
            f"[{', '.join(dose['sources'])}]",
        )
    ]
    rows += [
        (
            "  clamp",
            f"{a['before_units']:g} → {a['after_units']:g} U: {a['text']} "
            f"({a['grade']}) [{', '.join(a['sources'])}]",
        )
        for a in dose["adjustments"]
    ]
    rows += [
        ("  cap", f"{cap['text']} ({cap['grade']}) [{', '.join(cap['sources'])}]")
        for cap in dose["caps"]
    ]
    return rows


def _sites(plan: dict[str, Any]) -> list[str]:
    if not plan.get("sites"):
        refused = plan.get("sites_refused")
        return [f"  sites: none. {refused['reason']} {refused['remedy']}"] if refused else []
    lines = ["  site  frame   depth    Units      mL   needle"]
    for site in plan["sites"]:
        needle = site["needle"]
        way = "no safe path found"
        if needle:
            way = (
                f"{needle['approach'].replace('_', ' ')}, {needle['angle_deg']:.0f}°, "
                f"{needle['length_mm']:.0f} mm"
            )
        lines.append(
            f"  {site['number']:>4}  {site['frame_key']:>5}  {_or_dash(site['depth_mm'], '.1f'):>6}"
            f"  {_or_dash(site['units'], 'g'):>7}  {_or_dash(site['ml'], '.2f'):>6}   {way}"
        )
    return lines


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _cautions(plan: dict[str, Any]) -> list[str]:
    lines = []
    for caution in plan["cautions"]:
        mark = "STOP" if caution["blocks_confirmation"] else "caution"
        text = f"{caution['text']} [{caution['source']}]"
        lines += textwrap.wrap(text, 110, initial_indent=f"  {mark}: ", subsequent_indent="    ")
    if plan.get("unanswered"):
        lines.append(f"  {len(plan['unanswered'])} questions must be answered before confirming")
    return lines
