"""The studies and series that are stored, in tables to search by."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Collection

from sqlalchemy import String, delete, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.store.rows import InstanceRow, SeriesRow, StudyRow
from imaging.frame import ImageIdentity


def folded(text: str) -> str:
    """The text as names are compared: lower case, without accents and doubled spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).split())


MODALITIES = 400
"""Characters that the list of a study's modalities may have."""


def marked(modality: str) -> str:
    r"""A modality as it stands in the list of a study's: `\US\`; nothing for none."""
    return f"\\{modality}\\" if modality else ""


def enter(session: Session, identity: ImageIdentity, *, at: dt.datetime) -> None:
    """Puts the study and the series of an instance into the catalogue; the first one's word holds.

    An instance without a study or a series is in none.
    """
    study_uid, series_uid = identity.study_instance_uid, identity.series_instance_uid
    if study_uid is None or series_uid is None:
        return
    study = session.get(StudyRow, study_uid)
    if study is None:
        name = _fit(identity.patient_name, StudyRow.patient_name)
        study = StudyRow(
            study_instance_uid=study_uid,
            patient_id=_fit(identity.patient_id, StudyRow.patient_id),
            issuer=_fit(identity.issuer, StudyRow.issuer),
            patient_name=name,
            folded_name=_fit(folded(name or ""), StudyRow.folded_name) or "",
            birth_date=_fit(identity.birth_date, StudyRow.birth_date),
            sex=_fit(identity.sex, StudyRow.sex),
            # DICOM before 1993 wrote dates as yyyy.mm.dd and times as hh:mm:ss (PS3.5 6.2).
            study_date=_fit((identity.study_date or "").replace(".", ""), StudyRow.study_date)
            or "",
            study_time=_fit((identity.study_time or "").replace(":", ""), StudyRow.study_time)
            or "",
            accession=_fit(identity.accession, StudyRow.accession),
            study_id=_fit(identity.study_id, StudyRow.study_id),
            description=_fit(identity.study_description, StudyRow.description),
            referring_physician=_fit(identity.referring_physician, StudyRow.referring_physician),
            modalities="",
            received_at=at,
            changed_at=at,
        )
        session.add(study)
    study.changed_at = at
    modality = marked(identity.modality or "")
    if modality not in study.modalities and len(study.modalities + modality) <= MODALITIES:
        study.modalities += modality
    if session.get(SeriesRow, (study_uid, series_uid)) is None:
        session.add(
            SeriesRow(
                study_instance_uid=study_uid,
                series_instance_uid=series_uid,
                modality=_fit(identity.modality, SeriesRow.modality),
                series_number=identity.series_number,
                description=_fit(identity.series_description, SeriesRow.description),
                body_part=_fit(identity.body_part, SeriesRow.body_part),
                laterality=_fit(identity.laterality, SeriesRow.laterality),
                protocol=_fit(identity.protocol, SeriesRow.protocol),
                manufacturer=_fit(identity.manufacturer, SeriesRow.manufacturer),
            )
        )


def forget_empty(session: Session, studies: Collection[str]) -> None:
    """Takes series and studies out of the catalogue that no instance is left of."""
    of_series = exists().where(
        InstanceRow.study_instance_uid == SeriesRow.study_instance_uid,
        InstanceRow.series_instance_uid == SeriesRow.series_instance_uid,
    )
    session.execute(delete(SeriesRow).where(SeriesRow.study_instance_uid.in_(studies), ~of_series))
    for study in session.scalars(
        select(StudyRow).where(StudyRow.study_instance_uid.in_(studies))
    ).all():
        left = session.scalars(
            select(SeriesRow.modality)
            .where(SeriesRow.study_instance_uid == study.study_instance_uid)
            .order_by(SeriesRow.series_number)
        ).all()
        if left:
            study.modalities = "".join(dict.fromkeys(marked(m or "") for m in left))[:MODALITIES]
        else:
            session.delete(study)
    session.flush()


def _fit(
    text: str | None, column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None]
) -> str | None:
    """The text as its column takes it: no NUL, which PostgreSQL refuses, and cut to its length."""
    if text is None:
        return None
    kind = column.type
    length = kind.length if isinstance(kind, String) else None
    return text.replace("\0", "")[:length]
