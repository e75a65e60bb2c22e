"""The plan on one page of A4 for the bedside: picture, sites, arithmetic, cautions, signature.

It is drawn from the same plan document as every other picture. The rulers let the reader check
that the printer kept the scale before anything is measured on paper.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepInFrame, Paragraph, Spacer, Table, TableStyle

from imaging.lettering import FONT_FILES, FONT_FOLDER

PLAIN, BOLD = "DejaVu", "DejaVu-Bold"
INK, QUIET, RULE = HexColor("#14181f"), HexColor("#59626f"), HexColor("#c9ced6")
NAME_BY_HAND, BIRTH_BY_HAND = "Patient " + "_" * 28, "Id or birth date " + "_" * 21
ORANGE, VERMILION = HexColor("#e69f00"), HexColor("#d55e00")
PAGE_WIDTH, PAGE_HEIGHT = A4
MARGIN = 15 * mm
COLUMN = PAGE_WIDTH - 2 * MARGIN
PICTURE_HEIGHT = 92 * mm
HEAD_HEIGHT, FOOT_HEIGHT = 22 * mm, 36 * mm

TEXT = ParagraphStyle("text", fontName=PLAIN, fontSize=8, leading=10.4, textColor=INK)
SMALL = ParagraphStyle("small", parent=TEXT, fontSize=6.8, leading=8.6, textColor=QUIET)
STOP = ParagraphStyle("stop", parent=TEXT, fontName=BOLD, textColor=HexColor("#a34400"))
NOTE = ParagraphStyle("note", parent=SMALL, fontSize=6.5, leading=8.2)
HEADING = ParagraphStyle(
    "heading", parent=TEXT, fontName=BOLD, fontSize=9, leading=12, spaceBefore=5, spaceAfter=2
)


def plan_pdf(
    plan: Mapping[str, Any],
    picture_png: bytes,
    *,
    title: str,
    identifiers: Sequence[str],
    standing: str,
    made: str,
) -> bytes:
    """The page as PDF bytes, the same for the same arguments.

    `standing` is the mark under the title (a suggestion, or who confirmed it); `made` names the
    analysis, its revision and its time. What finds no room is made smaller, never left out.
    """
    _fonts()
    out = io.BytesIO()
    page = Canvas(out, pagesize=A4, invariant=1)
    page.setTitle(f"Injection plan: {title}")
    _head(page, plan, title, identifiers, standing)
    _picture(page, picture_png)
    top = PAGE_HEIGHT - MARGIN - HEAD_HEIGHT - PICTURE_HEIGHT - 3 * mm
    room = top - MARGIN - FOOT_HEIGHT
    body = KeepInFrame(COLUMN, room, _body(plan), mode="shrink")
    _, height = body.wrapOn(page, COLUMN, room)
    body.drawOn(page, MARGIN, top - height)
    _foot(page, plan, made)
    page.showPage()
    page.save()
    return out.getvalue()


def _fonts() -> None:
    for name, bold in ((PLAIN, False), (BOLD, True)):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(FONT_FOLDER / FONT_FILES[bold])))
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=BOLD, italic=PLAIN, boldItalic=BOLD)


def _head(
    page: Canvas,
    plan: Mapping[str, Any],
    title: str,
    identifiers: Sequence[str],
    standing: str,
) -> None:
    top = PAGE_HEIGHT - MARGIN
    page.setFillColor(INK)
    page.setFont(BOLD, 15)
    page.drawString(MARGIN, top - 12, title)
    page.setFont(PLAIN, 9)
    # Of nobody that the image or the request names: a person writes it on the print.
    for index, line in enumerate(identifiers or (NAME_BY_HAND, BIRTH_BY_HAND)):
        page.drawRightString(MARGIN + COLUMN, top - 9 - index * 11, line)
    left = MARGIN
    warnings = [mark for mark in plan["marks"] if not mark.startswith("SUGGESTION")]
    for mark, colour in [(standing, ORANGE), *((mark, VERMILION) for mark in warnings)]:
        width = pdfmetrics.stringWidth(mark, BOLD, 8) + 10
        page.setFillColor(colour)
        page.roundRect(left, top - 37, width, 15, 3, stroke=0, fill=1)
        page.setFillColor(INK if colour is ORANGE else white)
        page.setFont(BOLD, 8)
        page.drawString(left + 5, top - 32.5, mark)
        left += width + 6


def _picture(page: Canvas, picture_png: bytes) -> None:
    image = ImageReader(io.BytesIO(picture_png))
    width, height = image.getSize()
    factor = min(COLUMN / width, PICTURE_HEIGHT / height)
    page.drawImage(
        image,
        MARGIN + (COLUMN - width * factor) / 2,
        PAGE_HEIGHT - MARGIN - HEAD_HEIGHT - height * factor,
        width * factor,
        height * factor,
    )


def _body(plan: Mapping[str, Any]) -> list[Flowable]:
    return [
        _heading("Sites"),
        _sites(plan),
        _heading("Volume"),
        *_volume(plan),
        _heading("Dose"),
        *_dose(plan),
        _heading("Cautions"),
        *_cautions(plan),
    ]


def _heading(text: str) -> Paragraph:
    return Paragraph(escape(text), HEADING)


def _words(text: str, style: ParagraphStyle = TEXT) -> Paragraph:
    # Paragraph reads markup: text from files and tables must stay text.
    return Paragraph(escape(text), style)


def _sites(plan: Mapping[str, Any]) -> Flowable:
    sites = plan.get("sites") or []
    if not sites:
        refused = plan.get("sites_refused") or {}
        return _words(f"No site is suggested. {refused.get('reason') or ''}")
    rows = [["Site", "Frame", "Depth", "Units", "mL", "Needle", "Given: Units / mL"]]
    for site in sites:
        needle = site["needle"]
        rows.append(
            [
                str(site["number"]),
                site["frame_key"],
                _unit(site["depth_mm"], ".1f", "mm"),
                _unit(site["units"], "g", f"U {plan['dose'].get('product', '')}"),
                _unit(site["ml"], ".2f", "mL"),
                "no safe path"
                if needle is None
                else f"{needle['approach'].replace('_', ' ')}, {needle['angle_deg']:.0f}°, "
                f"{needle['length_mm']:.0f} mm",
                "",
            ]
        )
    table = Table(rows, colWidths=[13 * mm, 14 * mm, 18 * mm, 30 * mm, 17 * mm, 50 * mm, 38 * mm])
    table.setStyle(
        TableStyle(
            [
                ("FONT", (0, 0), (-1, 0), BOLD, 7.5),
                ("FONT", (0, 1), (-1, -1), PLAIN, 8),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
            ]
        )
    )
    return table


def _unit(value: float | None, form: str, unit: str) -> str:
    return "–" if value is None else f"{value:{form}} {unit}"


def _volume(plan: Mapping[str, Any]) -> list[Flowable]:
    volume = plan.get("volume")
    if volume is None:
        return [_words("None: " + plan["abstention"]["text"])]
    if not volume["known"]:
        return [_words(f"Unknown. {volume['reason']}")]
    low, high = volume["interval_ml"]
    error = f" Published error: {volume['published_error']}." if volume["published_error"] else ""
    return [
        _words(
            f"{volume['volume_ml']:.1f} mL ({low:.1f} to {high:.1f} mL) by "
            f"{volume['method'].replace('_', ' ')}.{error}"
        )
    ]


def _dose(plan: Mapping[str, Any]) -> list[Flowable]:
    dose = plan.get("dose")
    if dose is None:
        return [_words("None.")]
    if not dose["planned"]:
        return [_words(f"Refused. {dose['reason']} {dose['remedy']}")]
    low, high = dose["interval_units"]
    group = f" for {dose['group'].replace('_', ' ')} as a group" if dose["group"] else ""
    total = "" if dose["total_ml"] is None else f", {dose['total_ml']:g} mL in all"
    lines = [
        f"{dose['units']:g} U {dose['product']}{group} ({low:g} to {high:g} U{total}). Range "
        f"{dose['label_min_units']:g} to {dose['label_max_units']:g} U, {dose['grade']} "
        f"[{', '.join(dose['sources'])}]."
    ]
    steps = [
        f"{a['before_units']:g} → {a['after_units']:g} U: {a['text']} [{', '.join(a['sources'])}]"
        for a in dose["adjustments"]
    ]
    caps = [f"{cap['text']} [{', '.join(cap['sources'])}]" for cap in dose["caps"]]
    return [_words(lines[0]), *(_words(text, SMALL) for text in [*steps, *caps])]


def _cautions(plan: Mapping[str, Any]) -> list[Flowable]:
    found: list[Flowable] = [
        _words(f"STOP. {c['text']} [{c['source']}]", STOP)
        if c["blocks_confirmation"]
        else _words(f"{c['text']} [{c['source']}]", SMALL)
        for c in sorted(plan["cautions"], key=lambda c: not c["blocks_confirmation"])
    ]
    found += [_words(f"Unanswered: {q['text']}", SMALL) for q in plan.get("unanswered", ())]
    return found or [Spacer(1, 1)]


def _foot(page: Canvas, plan: Mapping[str, Any], made: str) -> None:
    base = MARGIN + FOOT_HEIGHT
    page.setStrokeColor(RULE)
    page.setFillColor(INK)
    page.setFont(PLAIN, 8)
    line = base - 15 * mm
    page.line(MARGIN, line, MARGIN + 78 * mm, line)
    page.line(MARGIN + 84 * mm, line, MARGIN + 130 * mm, line)
    page.line(MARGIN + 136 * mm, line, MARGIN + COLUMN, line)
    for left, text in ((0, "Clinician: name and signature"), (84, "Role"), (136, "Date and time")):
        page.drawString(MARGIN + left * mm, line - 9, text)
    _ruler(page, MARGIN, MARGIN + 6 * mm)
    versions = plan["provenance"]
    notes = (
        "This ruler is 50 mm: if it is not, the print is scaled and must not be measured on.",
        f"{made}. Network {versions['model'] or 'not used'}, tables "
        f"{versions['tables']['version']} ({versions['tables']['sha256'][:12]}).",
        plan["intended_use"],
    )
    beside = KeepInFrame(
        COLUMN - 58 * mm, 13 * mm, [_words(note, NOTE) for note in notes], mode="shrink"
    )
    _, height = beside.wrapOn(page, COLUMN - 58 * mm, 13 * mm)
    beside.drawOn(page, MARGIN + 58 * mm, MARGIN + 12 * mm - height)


def _ruler(page: Canvas, left: float, bottom: float) -> None:
    page.setStrokeColor(INK)
    page.setLineWidth(0.6)
    page.line(left, bottom, left + 50 * mm, bottom)
    for step in range(0, 51, 5):
        tall = 3.2 * mm if step % 10 == 0 else 1.8 * mm
        page.line(left + step * mm, bottom, left + step * mm, bottom + tall)
        if step % 10 == 0:
            page.setFont(PLAIN, 5.5)
            page.drawCentredString(left + step * mm, bottom - 7, str(step))
