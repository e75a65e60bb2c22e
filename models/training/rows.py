"""One question asked of the network as a row: kept as CSV beside the weights.

The rows are small enough to be kept, so that the card's table is rebuilt without training again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question asked of the network; empty numbers are NaN."""

    run: str
    kind: str
    """`muscle`, `nerve`, `vessel` or `negative`."""
    collection: str
    device: str
    group: str
    name: str
    view: str
    mode: str = ""
    outline: str = ""
    """The confidence of the outline it is held against: high, medium, low."""
    automatic: bool = True
    """True if the outline is the muscle to find without a click."""
    dice: float = math.nan
    log_area: float = math.nan
    """log(true area / found area)."""
    log_thickness: float = math.nan
    """log(true thickness / found thickness), over the middle half."""
    log_observers: float = math.nan
    """log(observers' mean thickness / found thickness)."""
    quality: float = math.nan
    not_muscle: float = math.nan
    second_share: float = math.nan
    view_right: float = math.nan
    objects: int = 0
    """Nerves or vessels that are there."""
    found: int = 0
    false: int = 0


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Nothing; the rows lie at `path` as CSV, numbers with four decimals."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([one.name for one in fields(Row)])
        for row in rows:
            writer.writerow([_text(value) for value in asdict(row).values()])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file that `write_rows` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(record) for record in csv.DictReader(file)]


def _row(record: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {}
    for one in fields(Row):
        text = record[one.name]
        if one.type == "float":
            values[one.name] = float(text) if text else math.nan
        elif one.type == "int":
            values[one.name] = int(text)
        elif one.type == "bool":
            values[one.name] = text == "1"
        else:
            values[one.name] = text
    return Row(**values)


def counted_objects(rows: Sequence[Row], least: float) -> list[Row]:
    """The image rows with the objects of at least this score counted into `found` and `false`."""
    counts: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.mode == "object" and row.quality >= least:
            found, false = counts.get(row.name, (0, 0))
            counts[row.name] = (found + row.found, false + row.false)
    return [
        replace(
            row,
            found=min(row.objects, counts.get(row.name, (0, 0))[0]),
            false=counts.get(row.name, (0, 0))[1],
        )
        for row in rows
        if row.mode == "image"
    ]


def score_limit(rows: Sequence[Row], *, false_an_image: float = 0.3) -> float:
    """The lowest score, in steps of 0.01 from 0.5, with at most so many false objects an image."""
    images = sum(row.mode == "image" for row in rows)
    for step in range(50, 96):
        least = step / 100.0
        false = sum(row.false for row in rows if row.mode == "object" and row.quality >= least)
        if false <= false_an_image * images:
            return least
    return 0.95
