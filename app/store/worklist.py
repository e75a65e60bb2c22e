"""The work list: every analysis in a line, found by words and ordered by age."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from app.analysis import State
from app.store.catalogue import folded
from app.store.rows import AnalysisRow, JobRow, RevisionRow

LONGEST = 500
"""Characters of an analysis that are searched: as much as an index may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAnalysis:
    """One line of the work list; `problem` is why it failed, stage and place how far it is."""

    id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    state: State
    revision: int
    muscle: str | None
    side: str | None
    product: str | None
    patient_id: str | None
    patient_name: str | None
    problem: dict[str, Any] | None
    stage: str | None
    queue_position: int | None


def enter(
    row: AnalysisRow,
    *,
    asked_id: str | None,
    asked_name: str | None,
    identities: Iterable[Mapping[str, Any] | None] = (),
) -> None:
    """Writes into the row whom the analysis is of, and the words that it is found by.

    The request's word comes before the images'; where neither names anybody the row's stays.
    """
    images = [identity or {} for identity in identities]
    row.patient_id = asked_id or _first(images, "patient_id") or row.patient_id
    row.patient_name = (asked_name or _first(images, "patient_name") or row.patient_name or "")[
        :400
    ] or None
    words = (row.patient_id, row.patient_name, row.muscle, row.side, row.product)
    said = " ".join(word for word in words if word)
    row.sought = folded(said.replace("^", " ").replace("_", " "))[:LONGEST]


def _first(images: Iterable[Mapping[str, Any]], key: str) -> str | None:
    return next((image[key] for image in images if image.get(key)), None)


def work_list(
    session: Session,
    *,
    limit: int,
    before: str | None = None,
    state: State | None = None,
    muscle: str | None = None,
    patient_id: str | None = None,
    words: str = "",
) -> tuple[ListedAnalysis, ...]:
    """The newest analyses first, at most `limit`, older than the id `before`.

    `words` are parts of the patient's name or id, the muscle, the side or the product, each of
    which is found, whatever its case and accents.
    """
    chosen = select(AnalysisRow.id).order_by(AnalysisRow.id.desc()).limit(limit)
    if before is not None:
        chosen = chosen.where(AnalysisRow.id < before)
    if state is not None:
        chosen = chosen.where(AnalysisRow.state == state.value)
    if muscle is not None:
        chosen = chosen.where(AnalysisRow.muscle == muscle)
    if patient_id is not None:
        chosen = chosen.where(AnalysisRow.patient_id == patient_id)
    for word in folded(words.replace("^", " ").replace("_", " ")).split():
        chosen = chosen.where(AnalysisRow.sought.contains(word, autoescape=True))
    earlier = aliased(JobRow)
    place = (
        select(func.count())
        .where(earlier.state == "queued", earlier.id <= JobRow.id)
        .correlate(JobRow)
        .scalar_subquery()
    )
    rows = session.execute(
        select(AnalysisRow, RevisionRow.problem, JobRow.state, JobRow.stage, place)
        .join(
            RevisionRow,
            and_(
                RevisionRow.analysis_id == AnalysisRow.id,
                RevisionRow.revision == AnalysisRow.revision,
            ),
        )
        .outerjoin(
            JobRow,
            and_(
                JobRow.analysis_id == AnalysisRow.id,
                JobRow.revision == AnalysisRow.revision,
                AnalysisRow.state.in_([State.QUEUED, State.RUNNING]),
            ),
        )
        .where(AnalysisRow.id.in_(chosen.scalar_subquery()))
        .order_by(AnalysisRow.id.desc())
    )
    return tuple(
        ListedAnalysis(
            id=row.id,
            created_at=row.created_at,
            updated_at=row.updated_at,
            state=State(row.state),
            revision=row.revision,
            muscle=row.muscle or None,
            side=row.side or None,
            product=row.product,
            patient_id=row.patient_id,
            patient_name=row.patient_name,
            problem=problem,
            stage=stage,
            queue_position=position if job == "queued" else None,
        )
        for row, problem, job, stage, position in rows
    )
