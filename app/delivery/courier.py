"""Empties the outbox: one thread a target, so that a dead PACS holds up nobody but itself.

A row is taken by a lease, as jobs are, so that several services share one outbox and a killed
one's work is taken over. What was not confirmed by the other side is sent again with the same
bytes and so the same UIDs: a receiver sees it twice at most and keeps it once.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.delivery.sending import SendFailed, c_store, stow, webhook
from app.destinations import ALL_OBJECTS, Destination, StowDestination, Webhook
from app.errors import AppError, NoObject
from app.jobs.processes import WorkerPlace, lives
from app.results import objects
from app.settings import Settings
from app.store import outbox, records
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.records import AnalysisRecord
from app.store.rows import DeliveryRow
from imaging.dicom.instance import names_of
from imaging.errors import ImagingError

LOOK_AGAIN_S = 1.0
LEASE_S = 180.0
"""Longer than one object can take: made within 60 s, sent within 60 s after 10 s to connect."""
AT_ONCE = 100
"""Announcements of one transaction: under load they come faster than a disk can commit each."""
LONGEST_PAUSE_S = 3600.0
LONGEST_REASON = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A delivery that this process holds."""

    id: int
    kind: str
    analysis_id: str
    revision: int
    event: str | None
    detail: dict[str, Any]
    sent: list[dict[str, Any]]
    attempt: int
    created_at: dt.datetime


class Courier:
    """The threads that send."""

    def __init__(
        self, *, store: Store, blobs: Blobs, door: WorkerPlace, settings: Settings
    ) -> None:
        self._store, self._blobs, self._door, self._settings = store, blobs, door, settings
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        self._targets: dict[str, Destination | Webhook] = {
            each.name: each for each in (*settings.destinations, *settings.webhooks)
        }
        self._wake = threading.Condition()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Takes over what a dead predecessor on this machine left and begins to send."""
        with self._store.write() as session:
            _release_dead(session, self.owner)
        for name in (None, *self._targets):
            thread = threading.Thread(
                target=self._serve, args=(name,), name=f"courier-{name or 'events'}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Tells the threads that there is something to send; called after the commit."""
        with self._wake:
            self._wake.notify_all()

    def close(self) -> None:
        """Stops taking; what is under way may end within a few seconds, the rest is given back."""
        self._stopping = True
        self.wake()
        deadline = time.monotonic() + 5.0
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._store.write() as session:
            for row in session.scalars(
                select(DeliveryRow).where(
                    DeliveryRow.owner == self.owner, DeliveryRow.state == "sending"
                )
            ):
                _give_back(row)

    def _serve(self, name: str | None) -> None:
        while not self._stopping:
            try:
                busy = self._address() if name is None else self._deliver(name)
            except Exception:
                # The database is in trouble: try again, loudly, not in a rush.
                log.exception("the outbox could not be read")
                busy = False
            if not busy:
                with self._wake:
                    if not self._stopping:
                        self._wake.wait(LOOK_AGAIN_S)

    def _address(self) -> bool:
        """Turns announcements into what they mean for the listed targets; True if more wait."""
        with self._store.read() as session:
            if session.scalar(outbox.due(None).with_only_columns(DeliveryRow.id)) is None:
                return False
        with self._store.write() as session:
            rows = session.scalars(
                outbox.due(None).limit(AT_ONCE).with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                confirmed = row.event == outbox.CONFIRMED
                outbox.address(
                    session,
                    row,
                    webhooks=[w.name for w in self._settings.webhooks if w.hears(row.event or "")],
                    destinations=[
                        d.name
                        for d in self._settings.destinations
                        if confirmed and d.on_confirmation
                    ],
                )
        self.wake()
        return len(rows) == AT_ONCE

    def _deliver(self, name: str) -> bool:
        parcel = self._take(name)
        if parcel is None:
            return False
        target = self._targets[name]
        try:
            if isinstance(target, Webhook):
                self._tell(target, parcel)
            else:
                self._hand_over(target, parcel)
        except (SendFailed, AppError, ImagingError) as refused:
            final = isinstance(refused, NoObject)
            self._not_yet(parcel, refused.args[0] if refused.args else str(refused), final=final)
        except Exception:
            # A defect of ours: the log has the trace, the record no details.
            log.exception("delivery %s failed", parcel.id)
            self._not_yet(parcel, "The service failed on this delivery; its log says why.")
        else:
            with self._store.write() as session:
                row = self._held(session, parcel)
                if row is not None:
                    row.reason = None
                    outbox.finish(session, row, "delivered")
            self.wake()
        return True

    def _take(self, name: str) -> Parcel | None:
        with self._store.read() as session:
            if session.scalar(outbox.due(name).with_only_columns(DeliveryRow.id)) is None:
                return None
        with self._store.write() as session:
            row = session.scalar(outbox.due(name).with_for_update(skip_locked=True))
            if row is None:
                return None
            if row.attempts >= self._settings.delivery_attempts:
                row.reason = row.reason or "The service ended during every attempt."
                outbox.finish(session, row, "failed")
                return None
            row.state, row.owner = "sending", self.owner
            row.attempts += 1
            row.lease_until = _now() + dt.timedelta(seconds=LEASE_S)
            return Parcel(
                id=row.id,
                kind=row.kind,
                analysis_id=row.analysis_id,
                revision=row.revision,
                event=row.event,
                detail=row.detail,
                sent=list(row.sent),
                attempt=row.attempts,
                created_at=row.created_at,
            )

    def _tell(self, hook: Webhook, parcel: Parcel) -> None:
        body = json.dumps(self._payload(parcel), separators=(",", ":")).encode()
        webhook(hook, f"msg_{parcel.id}", int(time.time()), body)

    def _payload(self, parcel: Parcel) -> dict[str, Any]:
        """Ids and addresses only: nothing of a patient leaves by a webhook."""
        return {
            "type": parcel.event,
            "timestamp": parcel.created_at.isoformat(),
            "data": {
                "analysis": parcel.analysis_id,
                "revision": parcel.revision,
                "href": f"{self._settings.public_url or ''}/api/v1/analyses/{parcel.analysis_id}",
                **parcel.detail,
            },
        }

    def _hand_over(self, destination: Destination, parcel: Parcel) -> None:
        """Sends what was not taken yet, object by object. Raises SendFailed at the first refusal,
        and NoObject where not one object can be made.
        """
        with self._store.read() as session:
            record = records.load(session, parcel.analysis_id, parcel.revision)
        sent = parcel.sent
        done = {(each["object"], each.get("frame")) for each in sent}
        wanted = parcel.detail.get("objects") or destination.objects
        for name, frame in self._list(record, [each for each in ALL_OBJECTS if each in wanted]):
            if (name, frame) in done:
                continue
            entry = {"object": name} if frame is None else {"object": name, "frame": frame}
            try:
                instance = self._object(record, name, frame)
            except NoObject as none:
                sent.append({**entry, "none": none.message})
                continue
            if isinstance(destination, StowDestination):
                stow(destination, instance)
            else:
                c_store(destination, instance)
            sent.append({**entry, **names_of(instance)})
            if not self._remember(parcel, sent):
                raise SendFailed("Another service has taken this delivery over.")
        if all("none" in each for each in sent):
            raise NoObject(
                " ".join(dict.fromkeys(each["none"] for each in sent)),
                remedy="Settle what is missing in a new revision.",
            )
        self._remember(parcel, sent)

    def _list(self, record: AnalysisRecord, names: Sequence[str]) -> list[tuple[str, str | None]]:
        """(name, frame) of each object; of several of one name the first needs no frame."""
        stored = objects.stored_analysis(record, self._blobs, uid_root=self._settings.uid_root)
        frames = objects.frames_of(stored, self._door)
        return [(name, frame) for name in names for frame in (None, *frames.get(name, [])[1:])]

    def _object(self, record: AnalysisRecord, name: str, frame: str | None) -> bytes:
        return objects.obtain(
            record,
            objects.KINDS[name],
            frame,
            store=self._store,
            blobs=self._blobs,
            door=self._door,
            uid_root=self._settings.uid_root,
        )

    def _remember(self, parcel: Parcel, sent: list[dict[str, Any]]) -> bool:
        """Writes down what was taken and renews the lease; False if it is no longer ours."""
        with self._store.write() as session:
            row = self._held(session, parcel)
            if row is None:
                return False
            row.sent = list(sent)
            row.lease_until = _now() + dt.timedelta(seconds=LEASE_S)
            return True

    def _not_yet(self, parcel: Parcel, reason: str, *, final: bool = False) -> None:
        with self._store.write() as session:
            row = self._held(session, parcel)
            if row is None:
                return
            row.reason = reason[:LONGEST_REASON]
            if final or parcel.attempt >= self._settings.delivery_attempts:
                outbox.finish(session, row, "failed")
                return
            pause = self._settings.delivery_pause_s * 2 ** (parcel.attempt - 1)
            _give_back(row)
            row.next_at = _now() + dt.timedelta(seconds=min(pause, LONGEST_PAUSE_S))

    def _held(self, session: Session, parcel: Parcel) -> DeliveryRow | None:
        return session.scalar(
            select(DeliveryRow).where(
                DeliveryRow.id == parcel.id,
                DeliveryRow.owner == self.owner,
                DeliveryRow.state == "sending",
                DeliveryRow.attempts == parcel.attempt,
            )
        )


def _give_back(row: DeliveryRow) -> None:
    row.state, row.owner, row.lease_until = "waiting", None, None


def _release_dead(session: Session, owner: str) -> None:
    """Gives back what services of this machine held that no longer live."""
    host = owner.split(":")[0]
    for row in session.scalars(select(DeliveryRow).where(DeliveryRow.state == "sending")):
        their_host, pid, *_ = [*(row.owner or "").split(":"), "", ""]
        if their_host == host and pid.isdigit() and not lives(int(pid)):
            _give_back(row)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
