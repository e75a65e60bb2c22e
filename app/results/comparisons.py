"""Volumes of two analyses side by side: left and right, or the last session and today."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.clinic.comparison import ComparisonRefused, compare_volumes
from app.clinic.tables import ClinicalTables
from app.clinic.volume import MuscleVolume
from app.errors import RequestConflict
from app.planning.what_if import volume_of_plan
from app.store.records import AnalysisRecord, load
from app.store.rows import AnalysisRow

MOST_LOOKED_AT = 50
"""How many of a patient's analyses of one muscle are looked at for one to compare with."""


def comparison(
    first: AnalysisRecord, second: AnalysisRecord, tables: ClinicalTables
) -> dict[str, Any]:
    """Right against left, or the later analysis against the earlier, with what is more than error.

    Raises RequestConflict, with the reason, for two that cannot be compared.
    """
    _check_alike(first, second)
    sides = first.request["side"] != second.request["side"]
    first, second = sorted(
        (first, second), key=lambda r: r.request["side"] if sides else (taken_on(r), r.created_at)
    )
    before, after = _volume(first), _volume(second)
    name = tables.english(first.request["muscle"])
    what = (
        f"{name}, left and right"
        if sides
        else f"{name}, {first.request['side']}, {taken_on(first)} and {taken_on(second)}"
    )
    found = compare_volumes(before, after, tables, what=what)
    if isinstance(found, ComparisonRefused):
        raise RequestConflict(found.reason, remedy=found.remedy)
    smallest = found.smallest_change
    return {
        "kind": "sides" if sides else "sessions",
        "muscle": first.request["muscle"],
        "name": name,
        "first": _side(first, before),
        "second": _side(second, after),
        "days_apart": abs((taken_on(second) - taken_on(first)).days),
        "method": before.method,
        "difference_ml": round(found.difference_ml, 2),
        "difference_percent": round(100 * found.difference_fraction, 1),
        "smallest_change_ml": round(found.smallest_change_ml, 2),
        "smallest_change_percent": round(100 * float(smallest.value), 1),
        "more_than_error": found.more_than_error,
        "sources": list(smallest.sources),
        "grade": smallest.grade,
        "why": smallest.why,
        "text": found.text,
    }


def comparisons_of(
    session: Session, record: AnalysisRecord, tables: ClinicalTables
) -> dict[str, Any]:
    """The analysis beside the last session's of the same side, and beside the other side's latest.

    `refused` names the one that would be compared, and why it cannot be.
    """
    found: dict[str, list[dict[str, Any]]] = {"comparisons": [], "refused": []}
    for other in _partners(session, record):
        try:
            found["comparisons"].append(comparison(other, record, tables))
        except RequestConflict as refused:
            found["refused"].append(
                {"analysis": other.id, "reason": refused.message, "remedy": refused.remedy}
            )
    return found


def taken_on(record: AnalysisRecord) -> dt.date:
    """The day of the images (Study Date, 0008,0020), else the day on which they came in."""
    for file in record.files:
        day = (file.facts.get("identity") or {}).get("study_date") or ""
        if len(day) == 8 and day.isdigit():
            try:
                return dt.datetime.strptime(day, "%Y%m%d").date()
            except ValueError:
                continue
    return record.created_at.astimezone().date()


def _partners(session: Session, record: AnalysisRecord) -> Sequence[AnalysisRecord]:
    """The latest analysis of an earlier day of the same side, and the latest of the other side,
    each with a volume."""
    if record.patient_id is None or not _has_volume(record):
        return ()
    ids = session.scalars(
        select(AnalysisRow.id)
        .where(
            AnalysisRow.patient_id == record.patient_id,
            AnalysisRow.muscle == record.request["muscle"],
            AnalysisRow.id != record.id,
        )
        .order_by(AnalysisRow.id.desc())
        .limit(MOST_LOOKED_AT)
    ).all()
    others = [other for other in (load(session, name) for name in ids) if _has_volume(other)]
    others.sort(key=lambda other: (taken_on(other), other.created_at), reverse=True)
    side, day = record.request["side"], taken_on(record)
    last = [o for o in others if o.request["side"] == side and taken_on(o) < day]
    beside = [o for o in others if o.request["side"] != side and taken_on(o) <= day]
    return (*last[:1], *beside[:1])


def _has_volume(record: AnalysisRecord) -> bool:
    return bool(((record.plan or {}).get("volume") or {}).get("known"))


def _volume(record: AnalysisRecord) -> MuscleVolume:
    found = volume_of_plan(record.plan["volume"]) if record.plan and _has_volume(record) else None
    if not isinstance(found, MuscleVolume):
        raise RequestConflict(
            f"The analysis {record.id} has no volume.",
            remedy="Give it what its volume needs: a sweep, or one section and the length.",
        )
    return found


def _check_alike(first: AnalysisRecord, second: AnalysisRecord) -> None:
    if first.id == second.id:
        raise RequestConflict(
            "An analysis cannot be compared with itself.",
            remedy="Name two analyses.",
        )
    if first.patient_id is None or first.patient_id != second.patient_id:
        raise RequestConflict(
            "The two analyses are of different patients, or it is not known of whom they are.",
            remedy="Name two analyses of one patient; plain pictures need patient.id.",
        )
    muscles = [record.request.get("muscle") for record in (first, second)]
    if None in muscles or len(set(muscles)) > 1:
        raise RequestConflict(
            f"{muscles[0]} and {muscles[1]} are different muscles.",
            remedy="Name two analyses of one muscle.",
        )
    for record in (first, second):
        scales = [f["calibration"]["used"] or {} for f in (record.plan or {}).get("frames", [])]
        if any(scale.get("provenance") == "nominal" for scale in scales):
            raise RequestConflict(
                f"The scale of the analysis {record.id} is nominal, so its volume is no "
                "measurement.",
                remedy="Give the true scale first.",
            )


def _side(record: AnalysisRecord, volume: MuscleVolume) -> dict[str, Any]:
    low, high = volume.interval_ml
    return {
        "analysis": record.id,
        "revision": record.revision,
        "state": record.state.value,
        "side": record.request["side"],
        "date": taken_on(record).isoformat(),
        "volume_ml": round(volume.volume_ml, 2),
        "interval_ml": [round(low, 2), round(high, 2)],
    }
