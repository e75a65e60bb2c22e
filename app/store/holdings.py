"""What is stored, searched as DICOM queries ask (PS3.4 C.2.2.2): studies, series, instances."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select
from sqlalchemy.orm import Session

from app.store.catalogue import folded
from app.store.rows import InstanceRow, SeriesRow, StudyRow

Level = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
Kind = Literal["uid", "text", "name", "date", "number"]

KEYS: Mapping[str, tuple[Any, Kind]] = {
    "PatientID": (StudyRow.patient_id, "text"),
    "IssuerOfPatientID": (StudyRow.issuer, "text"),
    "PatientName": (StudyRow.folded_name, "name"),
    "PatientBirthDate": (StudyRow.birth_date, "date"),
    "PatientSex": (StudyRow.sex, "text"),
    "StudyInstanceUID": (StudyRow.study_instance_uid, "uid"),
    "StudyDate": (StudyRow.study_date, "date"),
    "StudyTime": (StudyRow.study_time, "date"),
    "AccessionNumber": (StudyRow.accession, "text"),
    "StudyID": (StudyRow.study_id, "text"),
    "StudyDescription": (StudyRow.description, "text"),
    "ReferringPhysicianName": (StudyRow.referring_physician, "text"),
    "SeriesInstanceUID": (SeriesRow.series_instance_uid, "uid"),
    "Modality": (SeriesRow.modality, "text"),
    "SeriesNumber": (SeriesRow.series_number, "number"),
    "SeriesDescription": (SeriesRow.description, "text"),
    "BodyPartExamined": (SeriesRow.body_part, "text"),
    "Laterality": (SeriesRow.laterality, "text"),
    "ProtocolName": (SeriesRow.protocol, "text"),
    "SOPInstanceUID": (InstanceRow.sop_instance_uid, "uid"),
    "SOPClassUID": (InstanceRow.sop_class_uid, "uid"),
    "InstanceNumber": (InstanceRow.instance_number, "number"),
}
"""The attributes that can be searched by; others are told where they are known, and match all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A study with its series and instance as far as the level of the search goes down."""

    study: StudyRow
    series: SeriesRow | None = None
    instance: InstanceRow | None = None


def search(
    session: Session, level: Level, keys: Mapping[str, str], *, limit: int = 100_000
) -> list[Held]:
    """What is stored and matches every key that is not empty, at most `limit`, in a fixed order."""
    wanted = [_matches(name, value) for name, value in keys.items() if name in KEYS and value]
    modalities = keys.get("ModalitiesInStudy")
    if modalities:
        wanted.append(
            exists().where(
                SeriesRow.study_instance_uid == StudyRow.study_instance_uid,
                _text(SeriesRow.modality, modalities),
            )
        )
    order: list[Any] = [StudyRow.study_date, StudyRow.study_time, StudyRow.study_instance_uid]
    if level in ("PATIENT", "STUDY"):
        query = select(StudyRow).where(*wanted).order_by(*order).limit(limit)
        return [Held(study=row) for row in session.scalars(query)]
    of_study = SeriesRow.study_instance_uid == StudyRow.study_instance_uid
    order += [SeriesRow.series_number, SeriesRow.series_instance_uid]
    if level == "SERIES":
        pairs = session.execute(
            select(StudyRow, SeriesRow)
            .join(SeriesRow, of_study)
            .where(*wanted)
            .order_by(*order)
            .limit(limit)
        )
        return [Held(study=study, series=series) for study, series in pairs]
    of_series = and_(
        InstanceRow.study_instance_uid == SeriesRow.study_instance_uid,
        InstanceRow.series_instance_uid == SeriesRow.series_instance_uid,
        InstanceRow.conflicts_with.is_(None),
    )
    order += [InstanceRow.instance_number, InstanceRow.sop_instance_uid]
    triples = session.execute(
        select(StudyRow, SeriesRow, InstanceRow)
        .join(SeriesRow, of_study)
        .join(InstanceRow, of_series)
        .where(*wanted)
        .order_by(*order)
        .limit(limit)
    )
    return [Held(study=a, series=b, instance=c) for a, b, c in triples]


def modalities_of(session: Session, study_instance_uid: str) -> list[str]:
    """The modalities of a study's series."""
    found = select(SeriesRow.modality).where(SeriesRow.study_instance_uid == study_instance_uid)
    return sorted({modality for modality in session.scalars(found) if modality})


def counts_of(session: Session, study_instance_uid: str) -> dict[str, int]:
    """How many instances each series of a study has, by its UID."""
    rows = session.execute(
        select(InstanceRow.series_instance_uid, func.count())
        .where(
            InstanceRow.study_instance_uid == study_instance_uid,
            InstanceRow.conflicts_with.is_(None),
        )
        .group_by(InstanceRow.series_instance_uid)
    )
    return {uid: count for uid, count in rows if uid is not None}


def known(session: Session, uids: Sequence[str]) -> dict[str, str | None]:
    """The SOP class of each of these SOP instances that is stored, by its UID."""
    rows = session.execute(
        select(InstanceRow.sop_instance_uid, InstanceRow.sop_class_uid).where(
            InstanceRow.sop_instance_uid.in_(uids), InstanceRow.conflicts_with.is_(None)
        )
    )
    return {uid: sop_class for uid, sop_class in rows if uid is not None}


def _matches(name: str, value: str) -> ColumnElement[bool]:
    column, kind = KEYS[name]
    if kind == "uid":
        found: ColumnElement[bool] = column.in_(value.split("\\"))
        return found
    if kind == "number":
        number = value.strip()
        # A number that is none is nobody's: a foreign key must not become an error of ours.
        is_number = re.fullmatch(r"-?\d{1,9}", number)
        return column == int(number) if is_number else false()
    if kind == "name":
        return _text(column, folded(value))
    if kind == "date" and "-" in value:
        first, _, last = value.partition("-")
        ends = [column >= first.strip()] if first.strip() else []
        # A time or date that is told more finely than its end still lies before it.
        ends += [column <= f"{last.strip()}~"] if last.strip() else []
        return and_(column != "", *ends)
    return _text(column, value)


def _text(column: Any, value: str) -> ColumnElement[bool]:
    """One value, several, or wild cards (PS3.4 C.2.2.2.1 and .4)."""
    return or_(
        *(
            column.like(_like(one), escape="!") if re.search(r"[*?]", one) else column == one
            for one in value.split("\\")
        ),
    )


def _like(text: str) -> str:
    plain = re.sub(r"([!%_])", r"!\1", text)
    return plain.replace("*", "%").replace("?", "_")
