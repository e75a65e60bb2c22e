"""Searching the stored studies, series and instances by DICOM attributes (PS3.4 C.2.2.2).

Only the first file under each SOP Instance UID is found. Rows are searched by SQL over indexed
columns; what a row shows beside them is counted for the rows of the answer alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.store.catalogue import folded, marked
from app.store.rows import InstanceRow, SeriesRow, StudyRow

Level = Literal["study", "series", "instance"]
LEVELS: tuple[Level, ...] = ("study", "series", "instance")
DAY = re.compile(r"[0-9]{8}")
TIME = re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?")
NEWEST = (
    StudyRow.study_date.desc(),
    StudyRow.study_time.desc(),
    StudyRow.study_instance_uid.desc(),
)
WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Key:
    """How an attribute is searched by: its column, its level, and what its values are."""

    column: Any
    level: Level
    kind: Literal["text", "name", "uid", "date", "time", "number"]


KEYS: Mapping[str, Key] = {
    "StudyInstanceUID": Key(StudyRow.study_instance_uid, "study", "uid"),
    "StudyDate": Key(StudyRow.study_date, "study", "date"),
    "StudyTime": Key(StudyRow.study_time, "study", "time"),
    "StudyID": Key(StudyRow.study_id, "study", "text"),
    "StudyDescription": Key(StudyRow.description, "study", "text"),
    "AccessionNumber": Key(StudyRow.accession, "study", "text"),
    "ReferringPhysicianName": Key(StudyRow.referring_physician, "study", "text"),
    "ModalitiesInStudy": Key(StudyRow.modalities, "study", "text"),
    "PatientName": Key(StudyRow.folded_name, "study", "name"),
    "PatientID": Key(StudyRow.patient_id, "study", "text"),
    "IssuerOfPatientID": Key(StudyRow.issuer, "study", "text"),
    "PatientBirthDate": Key(StudyRow.birth_date, "study", "date"),
    "PatientSex": Key(StudyRow.sex, "study", "text"),
    "SeriesInstanceUID": Key(SeriesRow.series_instance_uid, "series", "uid"),
    "Modality": Key(SeriesRow.modality, "series", "text"),
    "SeriesNumber": Key(SeriesRow.series_number, "series", "number"),
    "SeriesDescription": Key(SeriesRow.description, "series", "text"),
    "BodyPartExamined": Key(SeriesRow.body_part, "series", "text"),
    "Laterality": Key(SeriesRow.laterality, "series", "text"),
    "ProtocolName": Key(SeriesRow.protocol, "series", "text"),
    "Manufacturer": Key(SeriesRow.manufacturer, "series", "text"),
    "SOPInstanceUID": Key(InstanceRow.sop_instance_uid, "instance", "uid"),
    "SOPClassUID": Key(InstanceRow.sop_class_uid, "instance", "uid"),
    "InstanceNumber": Key(InstanceRow.instance_number, "instance", "number"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row of the answer with those above it, and what was counted of those below."""

    study: StudyRow
    series: SeriesRow | None = None
    instance: InstanceRow | None = None
    modalities: tuple[str, ...] = ()
    series_count: int | None = None
    instance_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of the answer; `more` tells that there is more after it."""

    rows: tuple[Found, ...]
    more: bool


def keys_of(level: Level) -> frozenset[str]:
    """The keywords that a search at this level uses: its own and those of the levels above."""
    known = LEVELS[: LEVELS.index(level) + 1]
    return frozenset(name for name, key in KEYS.items() if key.level in known)


def search(
    session: Session, level: Level, keys: Mapping[str, str], *, limit: int, offset: int = 0
) -> Page:
    """The rows that match every key: a keyword of `keys_of`, and a value as PS3.4 C.2.2.2 has it.

    The newest studies come first; series and instances by their numbers. Raises ValueError, with
    words for a person, for a value that cannot be.
    """
    conditions = [
        condition
        for name, value in keys.items()
        if (condition := _condition(name, value.strip())) is not None
    ]
    if level == "study":
        # The page is found within the index; its rows are fetched afterwards.
        page = (
            select(StudyRow.study_instance_uid)
            .where(*conditions)
            .order_by(*NEWEST)
            .offset(offset)
            .limit(limit + 1)
        )
        uids = session.scalars(page).all()
        query: Any = select(StudyRow).where(StudyRow.study_instance_uid.in_(uids)).order_by(*NEWEST)
    else:
        by_numbers = "StudyInstanceUID" in keys
        query = _rows_of(level, by_numbers=by_numbers).where(*conditions)
        query = query.offset(offset).limit(limit + 1)
    rows = session.execute(query).all()
    found = [tuple(row) for row in rows[:limit]]
    counted = {"study": _studies, "series": _series, "instance": _instances}[level]
    return Page(rows=tuple(counted(session, found)), more=len(rows) > limit)


def instances_of(
    session: Session,
    study_instance_uid: str,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
) -> tuple[InstanceRow, ...]:
    """The stored instances of a study, a series, or the one named. Raises NotFound for none."""
    query = select(InstanceRow).where(
        InstanceRow.study_instance_uid == study_instance_uid, InstanceRow.conflicts_with.is_(None)
    )
    if series_instance_uid is not None:
        query = query.where(InstanceRow.series_instance_uid == series_instance_uid)
    if sop_instance_uid is not None:
        query = query.where(InstanceRow.sop_instance_uid == sop_instance_uid)
    rows = session.scalars(
        query.order_by(
            InstanceRow.series_instance_uid,
            InstanceRow.instance_number,
            InstanceRow.sop_instance_uid,
        )
    ).all()
    if not rows:
        what = "instance" if sop_instance_uid else "series" if series_instance_uid else "study"
        raise NotFound(
            f"There is no such {what} here.",
            remedy="GET /dicom-web/studies lists the studies that are stored.",
        )
    return tuple(rows)


def images_of(
    session: Session, study_instance_uid: str, series_instance_uid: str | None = None
) -> list[InstanceRow]:
    """The ultrasound images of others' making, in the order of series and instances.

    Raises NotFound where nothing is stored under the UIDs.
    """
    rows = instances_of(session, study_instance_uid, series_instance_uid)
    return sorted(
        (row for row in rows if row.made_for is None and row.facts.get("analysable", True)),
        key=lambda row: (
            (row.facts.get("identity") or {}).get("series_number") or 0,
            row.series_instance_uid or "",
            row.instance_number or 0,
            row.sop_instance_uid or "",
        ),
    )


def _rows_of(level: Level, *, by_numbers: bool) -> Select[*tuple[Any, ...]]:
    """The series or instances with the rows above them, by their numbers, or by an index."""
    of_study = SeriesRow.study_instance_uid == StudyRow.study_instance_uid
    by_series = (SeriesRow.series_number, SeriesRow.series_instance_uid)
    if level == "series":
        return (
            select(StudyRow, SeriesRow)
            .join(SeriesRow, of_study)
            .order_by(*(by_series if by_numbers else by_series[1:]))
        )
    of_series = and_(
        InstanceRow.study_instance_uid == SeriesRow.study_instance_uid,
        InstanceRow.series_instance_uid == SeriesRow.series_instance_uid,
    )
    by_instance = (InstanceRow.instance_number, InstanceRow.sop_instance_uid)
    return (
        select(StudyRow, SeriesRow, InstanceRow)
        .join(SeriesRow, of_study)
        .join(InstanceRow, of_series)
        .where(InstanceRow.conflicts_with.is_(None))
        .order_by(*((*by_series, *by_instance) if by_numbers else by_instance[1:]))
    )


def _condition(name: str, value: str) -> ColumnElement[bool] | None:
    """What a row must fulfil; None for a value that every row fulfils (PS3.4 C.2.2.2.3)."""
    key = KEYS[name]
    if value in ("", "*") or (key.kind == "uid" and not value.strip("\\,")):
        return None
    if name == "ModalitiesInStudy":
        # Each stands in the list between backslashes, which a wildcard must not reach over; a
        # modality is so short a word that it never does in practice.
        return or_(*(_text(_column(key), f"*{marked(one)}*") for one in value.split("\\") if one))
    if key.kind == "uid":
        wanted_uids = [uid for uid in re.split(r"[\\,]", value) if uid]
        return _column(key).in_(wanted_uids)
    if key.kind == "number":
        if not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise ValueError(f"{name} is searched by a whole number")
        return _column(key) == int(value)
    if key.kind == "date":
        return _range(key, value.replace(".", ""), name, DAY, "YYYYMMDD")
    if key.kind == "time":
        return _range(key, value.replace(":", ""), name, TIME, "HHMMSS")
    if key.kind == "name":
        return _text(_column(key), folded(value).rstrip("^"))
    return _text(_column(key), value)


def _column(key: Key) -> ColumnElement[Any]:
    found: ColumnElement[Any] = key.column
    return found


def _text(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    if not WILD.search(value):
        return column == value
    plain = re.sub(r"([%_\\])", r"\\\1", value)
    return column.like(plain.replace("*", "%").replace("?", "_"), escape="\\")


def _range(
    key: Key, value: str, name: str, form: re.Pattern[str], shown: str
) -> ColumnElement[bool]:
    """A date or a time, or a range of them with an open end (PS3.4 C.2.2.2.5)."""
    first, dash, last = value.partition("-")
    if not all(form.fullmatch(end) or (dash and not end) for end in (first, last) if dash or end):
        raise ValueError(f"{name} is searched by {shown}, {shown}-, -{shown} or {shown}-{shown}")
    column = _column(key)
    if not dash:
        return column == first
    ends = [column != ""]
    if first:
        ends.append(column >= first)
    if last:
        # A time of hours and minutes ends with its last second.
        whole = last if key.kind == "date" else f"{last.partition('.')[0]:9<6}.999999"
        ends.append(column <= whole)
    return and_(*ends)


def _studies(session: Session, rows: Sequence[Any]) -> list[Found]:
    uids = [study.study_instance_uid for (study,) in rows]
    counts = _counts(session, InstanceRow.study_instance_uid, uids)
    series = _counts(session, SeriesRow.study_instance_uid, uids)
    return [
        Found(
            study=study,
            modalities=tuple(each for each in study.modalities.split("\\") if each),
            series_count=series.get(study.study_instance_uid, 0),
            instance_count=counts.get(study.study_instance_uid, 0),
        )
        for (study,) in rows
    ]


def _series(session: Session, rows: Sequence[Any]) -> list[Found]:
    uids = [series.series_instance_uid for _, series in rows]
    counts = _counts(session, InstanceRow.series_instance_uid, uids)
    return [
        Found(study=study, series=series, instance_count=counts.get(series.series_instance_uid, 0))
        for study, series in rows
    ]


def _instances(_: Session, rows: Sequence[Any]) -> list[Found]:
    return [Found(study=study, series=series, instance=each) for study, series, each in rows]


def _counts(session: Session, column: Any, uids: Sequence[str]) -> dict[str, int]:
    query = select(column, func.count()).where(column.in_(uids)).group_by(column)
    if column.class_ is InstanceRow:
        query = query.where(InstanceRow.conflicts_with.is_(None))
    return {str(uid): int(count) for uid, count in session.execute(query)}
