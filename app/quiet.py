"""A study that came over the network becomes analyses once it is quiet: what the rules say, or a
question to a person.

Everything about one study happens in one transaction, which also marks it as settled: with
several services on one database each analysis is started once.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.analysis import State
from app.intake.routing import Image, Match, Rules, match
from app.jobs import queue
from app.jobs.hub import Hub
from app.jobs.runner import JobRunner
from app.planning.request import AnalysisRequest
from app.settings import Settings
from app.store import audit, worklist
from app.store.arrivals import DIMSE, any_due, put_off, take_due
from app.store.database import Store
from app.store.records import new_id
from app.store.rows import (
    AdministrationRow,
    AnalysisRow,
    InstanceRow,
    RevisionRow,
    RoutedRow,
    SourceRow,
)

LOOK_S = 1.0
AGAIN_S = 5.0
"""After so long a study is looked at again that could not be settled: the queue was full, or the
analysis that late images belong to was being made."""
FAILED_AGAIN_S = 60.0
ROUTING = "routing"
PENDING = frozenset({State.QUEUED, State.RUNNING})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """What images of one study are analysed together: a rule's for one side.

    Both are empty for images that no rule knows, the side where nobody named one.
    """

    rule: str
    side: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a study: the analyses that are new or have a new revision."""

    changed: tuple[str, ...]
    again: bool


def settle(
    session: Session, study_instance_uid: str, rules: Rules, settings: Settings, *, at: dt.datetime
) -> Settled:
    """Starts, within the caller's transaction, what a study that came in full asks for.

    The images of each rule and side become one analysis. If no rule knows any image of the
    study, one analysis waits for a person to name the target. Images that came late go into the
    analysis that routing made, as a new revision, as long as nobody else touched it; else it
    stays as it is, and its document tells of them.
    """
    images = _images(session, study_instance_uid)
    groups = _grouped(images, rules)
    there = {
        Key(row.rule, row.side): row.analysis_id
        for row in session.scalars(
            select(RoutedRow).where(RoutedRow.study_instance_uid == study_instance_uid)
        )
    }
    if not groups and images:
        groups = {Key("", ""): (None, images)}
    if queue.waiting(session) >= settings.max_queued_jobs:
        return Settled(changed=(), again=True)
    changed, again = [], False
    for key, (found, members) in groups.items():
        if key in there:
            done = _add_late(session, there[key], members, key, at)
            again = again or done is None
            changed += [there[key]] if done else []
        else:
            changed.append(_start(session, study_instance_uid, key, found, members, settings, at))
    return Settled(changed=tuple(changed), again=again)


def _images(session: Session, study_instance_uid: str) -> list[InstanceRow]:
    """The study's ultrasound images of others' making, in the order of series and instances."""
    rows = session.scalars(
        select(InstanceRow).where(
            InstanceRow.study_instance_uid == study_instance_uid,
            InstanceRow.conflicts_with.is_(None),
        )
    )
    return sorted(
        (row for row in rows if _is_foreign_image(row)),
        key=lambda row: (
            (row.facts["identity"] or {}).get("series_number") or 0,
            row.series_instance_uid or "",
            row.instance_number or 0,
            row.sop_instance_uid or "",
        ),
    )


def _is_foreign_image(row: InstanceRow) -> bool:
    return row.made_for is None and bool(row.facts.get("analysable", True))


def _grouped(
    images: Sequence[InstanceRow], rules: Rules
) -> dict[Key, tuple[Match | None, list[InstanceRow]]]:
    groups: dict[Key, tuple[Match | None, list[InstanceRow]]] = {}
    for row in images:
        found = match(rules, image_of(row))
        if found is not None:
            key = Key(found.rule.name, found.side or "")
            groups.setdefault(key, (found, []))[1].append(row)
    return groups


def image_of(row: InstanceRow) -> Image:
    """What rules look at in a stored instance."""
    sender = row.received_from
    return Image(
        identity=row.facts.get("identity") or {},
        calling_ae=sender.removeprefix(DIMSE) if sender.startswith(DIMSE) else None,
    )


def _start(
    session: Session,
    study_instance_uid: str,
    key: Key,
    found: Match | None,
    images: Sequence[InstanceRow],
    settings: Settings,
    at: dt.datetime,
) -> str:
    """The id of a new analysis: queued where the target is known, else waiting for a person."""
    analysis_id = new_id()
    principal = f"{ROUTING}:{key.rule}" if key.rule else ROUTING
    asked = {"jurisdiction": settings.jurisdiction}
    if found is not None:
        asked.update(found.rule.then.asked(found.side))
    ready = found is not None and found.side is not None
    state = State.QUEUED if ready else State.NEEDS_TARGET
    # What REST would keep of the same request, to the letter.
    text = (
        AnalysisRequest.model_validate(asked).model_dump_json(exclude_unset=True)
        if ready
        else json.dumps(asked)
    )
    row = AnalysisRow(
        id=analysis_id,
        created_at=at,
        updated_at=at,
        created_by=principal,
        state=state,
        revision=1,
        muscle=asked.get("muscle", ""),
        side=asked.get("side", ""),
        product=asked.get("product"),
    )
    worklist.enter(
        row,
        asked_id=None,
        asked_name=None,
        identities=[image.facts.get("identity") for image in images],
    )
    session.add(row)
    session.flush()
    _add_revision(session, analysis_id, 1, text, state, principal, at)
    _add_sources(session, analysis_id, images, first=0, revision=1)
    session.add(
        RoutedRow(
            analysis_id=analysis_id,
            study_instance_uid=study_instance_uid,
            rule=key.rule,
            side=key.side,
        )
    )
    _note(session, principal, "analysis.routed", analysis_id, state=state, images=len(images))
    return analysis_id


def _add_late(
    session: Session, analysis_id: str, members: Sequence[InstanceRow], key: Key, at: dt.datetime
) -> bool | None:
    """True if images were added, False if there are none or they may not be, None for not now."""
    have = list(
        session.scalars(select(SourceRow.sha256).where(SourceRow.analysis_id == analysis_id))
    )
    late = [row for row in members if row.sha256 not in have]
    if not late:
        return False
    row = session.get_one(AnalysisRow, analysis_id)
    principal = f"{ROUTING}:{key.rule}" if key.rule else ROUTING
    if _touched(session, row):
        _note(session, principal, "analysis.late_images", analysis_id, images=len(late))
        return False
    if row.state in PENDING:
        return None
    before = session.get_one(RevisionRow, (analysis_id, row.revision))
    state = State.NEEDS_TARGET if row.state == State.NEEDS_TARGET else State.QUEUED
    row.revision += 1
    row.state, row.updated_at = state, at
    _add_revision(session, analysis_id, row.revision, before.request, state, principal, at)
    _add_sources(session, analysis_id, late, first=len(have), revision=row.revision)
    _note(session, principal, "analysis.revised", analysis_id, images=len(late))
    return True


def _touched(session: Session, row: AnalysisRow) -> bool:
    """True once anybody but routing changed, cancelled, confirmed or carried out an analysis."""
    if row.state in (State.CONFIRMED, State.CANCELLED):
        return True
    if session.scalar(
        select(AdministrationRow.id).where(AdministrationRow.analysis_id == row.id).limit(1)
    ):
        return True
    authors = session.scalars(
        select(RevisionRow.created_by).where(RevisionRow.analysis_id == row.id)
    )
    return any(author.partition(":")[0] != ROUTING for author in authors)


def _add_revision(
    session: Session,
    analysis_id: str,
    revision: int,
    asked: str,
    state: State,
    principal: str,
    at: dt.datetime,
) -> None:
    session.add(
        RevisionRow(
            analysis_id=analysis_id,
            revision=revision,
            created_at=at,
            created_by=principal,
            request=asked,
            state=state,
        )
    )
    if state is State.QUEUED:
        queue.enqueue(session, analysis_id, revision, at)


def _add_sources(
    session: Session, analysis_id: str, images: Sequence[InstanceRow], *, first: int, revision: int
) -> None:
    for position, row in enumerate(images, start=first):
        session.add(
            SourceRow(
                analysis_id=analysis_id,
                position=position,
                sha256=row.sha256,
                name=f"{row.sop_instance_uid}.dcm",
                since_revision=revision,
            )
        )


def _note(
    session: Session, principal: str, action: str, analysis_id: str, **detail: object
) -> None:
    audit.append(
        session,
        [audit.AuditEntry(principal=principal, action=action, subject=analysis_id, detail=detail)],
    )


class QuietWatch:
    """The thread that takes up studies which have been quiet long enough."""

    def __init__(
        self, *, store: Store, hub: Hub, runner: JobRunner, rules: Rules, settings: Settings
    ) -> None:
        self._store, self._hub, self._runner = store, hub, runner
        self._rules, self._settings = rules, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quiet", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def close(self) -> None:
        """Ends after what is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def settle_one(self, at: dt.datetime) -> bool:
        """True if a study that was whole by then was settled, or put off."""
        with self._store.read() as session:
            if not any_due(session, at):
                return False
        study = None
        try:
            with self._store.write() as session:
                arrival = take_due(session, at)
                if arrival is None:
                    return False
                study = arrival.study_instance_uid
                settled = settle(session, study, self._rules, self._settings, at=at)
                arrival.due_at = at + dt.timedelta(seconds=AGAIN_S) if settled.again else None
        except Exception:
            if study is None:
                raise
            # One study that cannot be settled must not keep the others from it.
            log.exception("the study %s could not be taken up", study)
            with self._store.write() as session:
                put_off(session, study, at + dt.timedelta(seconds=FAILED_AGAIN_S))
            return True
        for analysis_id in settled.changed:
            self._hub.publish(analysis_id)
            self._runner.wake()
        return True

    def _run(self) -> None:
        pause = min(LOOK_S, self._settings.study_quiet_s / 2)
        while not self._stop.wait(pause):
            try:
                while self.settle_one(dt.datetime.now(dt.UTC)):
                    pass
            except Exception:
                # One bad moment of the database must not end the watch: the next look tries again.
                log.exception("studies that came in could not be taken up")
                self._stop.wait(AGAIN_S)
