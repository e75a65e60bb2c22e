"""Studies on their way in: each has the time in the database at which it counts as whole.

The time is written in the transaction that stores an instance, so that a service that dies
forgets no study, and whichever service looks first takes it up.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.rows import ArrivalRow

DIMSE = "dimse:"
"""Before the calling AE title in `received_from`."""


def expect(
    session: Session, study_instance_uid: str, *, quiet_s: float, at: dt.datetime, news: bool
) -> None:
    """Puts off the end of a study's arrival; without `news` only where it has not come yet.

    A study never heard of is watched from now on, also when all of it was stored before by
    another door. The same files once more wake none that was settled.
    """
    due = at + dt.timedelta(seconds=quiet_s)
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(
        insert(ArrivalRow)
        .values(study_instance_uid=study_instance_uid, due_at=due)
        .on_conflict_do_update(
            index_elements=[ArrivalRow.study_instance_uid],
            set_={"due_at": due},
            where=true() if news else ArrivalRow.due_at.is_not(None),
        )
    )


def any_due(session: Session, at: dt.datetime) -> bool:
    """True if a study is whole that nobody has taken up."""
    found = select(ArrivalRow.due_at).where(ArrivalRow.due_at <= at).limit(1)
    return session.scalar(found) is not None


def take_due(session: Session, at: dt.datetime) -> ArrivalRow | None:
    """The study that has been whole for longest, held by the caller's transaction alone."""
    return session.scalar(
        select(ArrivalRow)
        .where(ArrivalRow.due_at <= at)
        .order_by(ArrivalRow.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def put_off(session: Session, study_instance_uid: str, until: dt.datetime) -> None:
    """Lets a study wait for another try."""
    session.get_one(ArrivalRow, study_instance_uid).due_at = until
