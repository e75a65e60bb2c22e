"""Durable jobs: the table is the truth, a lease says who works, a thread a worker does the work.

A service that dies leaves its leases: the next one on this machine takes them at once, one on
another machine when they run out.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import tracing
from app.analysis import Analysis, SourceFile, Stage, State
from app.clinic.errors import ClinicError
from app.errors import AppError, CanaryFailed, ClusterLost, TookTooLong, WorkerDied
from app.jobs import queue
from app.jobs.drift import Drift, scanner_of
from app.jobs.hub import Hub
from app.jobs.processes import Place
from app.jobs.worker import AnalysisTask, Work, with_stages
from app.planning.plan_text import canonical_json
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.rows import AnalysisRow, InstanceRow, JobRow, MaskRow, RevisionRow, SourceRow
from app.store.treatments import recorded_treatments
from imaging.errors import ImagingError
from models.errors import ModelError

Run = Work
LOOK_AGAIN_S = 2.0
"""How often the table is asked for work that nobody told of: other processes' jobs, lost leases."""
CANARY_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A job that this process holds."""

    job_id: int
    analysis_id: str
    revision: int
    attempt: int
    task: AnalysisTask
    traceparent: str | None = None


@dataclass(slots=True)
class _Lane:
    place: Place
    lease: Lease | None = None
    cancelled: bool = False
    thread: threading.Thread = field(init=False)


class JobRunner:
    """The threads that take jobs, and the worker processes that do them."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: Blobs,
        hub: Hub,
        settings: Settings,
        run: Run,
        make_place: Callable[[], Place],
        traces: tracing.Traces,
        canary: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self._store, self._blobs, self._hub, self._settings = store, blobs, hub, settings
        self._run, self._traces = run, traces
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        self._lanes = [_Lane(make_place()) for _ in range(settings.workers)]
        self._ends = ThreadPoolExecutor(settings.workers, thread_name_prefix="ends")
        self._work = threading.Condition()
        self.drift = Drift()
        self._canary = canary
        self.canary: dict[str, Any] = {"state": "unasked" if canary else "none"}
        self._ask_at = 0.0
        self._news = 0
        self._stopping = False
        self._closed = threading.Event()
        self._leases = threading.Thread(target=self._keep_leases, name="leases", daemon=True)
        self._average_s = 0.2

    def start(self) -> None:
        """Takes over what a dead predecessor left and begins to work."""
        with self._store.write() as session:
            queue.release_dead(session, self.owner)
        for index, lane in enumerate(self._lanes):
            lane.thread = threading.Thread(
                target=self._serve, args=(lane,), name=f"lane-{index}", daemon=True
            )
            lane.thread.start()
        self._leases.start()

    @property
    def ready(self) -> bool:
        """True while every worker is warm and jobs are taken."""
        return (
            not self._stopping
            and self.canary["state"] in ("sings", "none")
            and all(lane.place.warm for lane in self._lanes)
        )

    @property
    def stopping(self) -> bool:
        """True once the service is on its way to its end."""
        return self._stopping

    @property
    def running(self) -> int:
        """How many jobs this process works on."""
        return sum(lane.lease is not None for lane in self._lanes)

    def worker_pids(self) -> list[int]:
        """The process ids of the living workers."""
        return [lane.place.pid for lane in self._lanes if lane.place.pid is not None]

    def wake(self) -> None:
        """Tells the lanes that there is work; called after the commit that added it."""
        with self._work:
            self._news += 1
            self._work.notify()

    def stage(self, analysis_id: str) -> Stage | None:
        """How far a job is that runs in this process."""
        for lane in self._lanes:
            if lane.lease is not None and lane.lease.analysis_id == analysis_id:
                return lane.place.stage
        return None

    def wait_estimate_s(self, position: int) -> float:
        """About how long the job at this place of the queue still takes."""
        rounds = -(-(position + self.running) // len(self._lanes))
        return round(rounds * self._average_s, 1)

    def stop_job(self, analysis_id: str) -> None:
        """Ends the analysis's job at once if it runs here; its cancellation is in the table."""
        for lane in self._lanes:
            lease = lane.lease
            if lease is not None and lease.analysis_id == analysis_id:
                lane.cancelled = True
                lane.place.kill()

    def close(self) -> None:
        """Lets running jobs finish within the drain time, then gives the rest back."""
        self._stopping = True
        with self._work:
            self._work.notify_all()
        deadline = time.monotonic() + self._settings.drain_s
        for lane in self._lanes:
            lane.thread.join(max(0.0, deadline - time.monotonic()))
        for lane in self._lanes:
            lane.place.close()
            lane.thread.join(5)
        self._ends.shutdown()
        self._closed.set()
        if self._leases.is_alive():
            self._leases.join(5)
        with self._store.write() as session:
            for job in session.scalars(
                select(JobRow).where(JobRow.owner == self.owner, JobRow.state == "running")
            ):
                queue.requeue(session, job)

    def _serve(self, lane: _Lane) -> None:
        seen = -1
        while not self._stopping:
            try:
                lane.place.start()
                self._ask_canary(lane)
                lease = self._take()
            except ClusterLost as away:
                log.warning("%s", away.message)
                time.sleep(LOOK_AGAIN_S)
                continue
            except Exception:
                # The database or the machine is in trouble: try again, loudly, not in a rush.
                log.exception("no job could be taken")
                time.sleep(LOOK_AGAIN_S)
                continue
            if lease is None:
                with self._work:
                    if self._news == seen and not self._stopping:
                        self._work.wait(LOOK_AGAIN_S)
                    seen = self._news
                continue
            lane.cancelled, lane.lease = False, lease
            try:
                self._work_on(lane, lease)
            except Exception:
                log.exception("job %s was lost here; its lease will run out", lease.job_id)
            finally:
                lane.lease = None

    def _ask_canary(self, lane: _Lane) -> None:
        """Has the network asked for what is known, when it is time. Raises CanaryFailed."""
        with self._work:
            if self._canary is None or time.monotonic() < self._ask_at:
                return
            self._ask_at = time.monotonic() + self._settings.canary_minutes * 60
        try:
            said = lane.place.result(lane.place.run(self._canary), within_s=CANARY_S)
        except Exception as failed:
            self._ask_at = 0.0
            if isinstance(failed, CanaryFailed):
                self.canary = {"state": "silent", "at": queue.now().isoformat(timespec="seconds")}
            raise
        self.canary = {"state": "sings", "at": queue.now().isoformat(timespec="seconds"), **said}

    def _take(self) -> Lease | None:
        with self._store.read() as session:
            if session.scalar(queue.takeable().with_only_columns(JobRow.id)) is None:
                return None
        with self._store.write() as session:
            job = session.scalar(queue.takeable().with_for_update(skip_locked=True))
            if job is None:
                return None
            if job.cancel:
                queue.end(session, job, State.CANCELLED)
                self._hub.publish(job.analysis_id)
                return None
            if job.attempts >= self._settings.job_attempts:
                queue.end(session, job, State.FAILED, problem=_gave_up())
                self._hub.publish(job.analysis_id)
                return None
            job.state, job.owner, job.stage = "running", self.owner, None
            job.attempts += 1
            job.started_at = queue.now()
            job.lease_until = job.started_at + dt.timedelta(seconds=self._settings.lease_s)
            analysis = session.get_one(AnalysisRow, job.analysis_id)
            if analysis.revision == job.revision:
                analysis.state = State.RUNNING
            return self._lease(session, job)

    def _lease(self, session: Session, job: JobRow) -> Lease:
        revision = session.get_one(RevisionRow, (job.analysis_id, job.revision))
        sources = session.execute(
            select(SourceRow.sha256, SourceRow.name, InstanceRow.sop_instance_uid)
            .join(InstanceRow, InstanceRow.sha256 == SourceRow.sha256)
            .where(
                SourceRow.analysis_id == job.analysis_id,
                SourceRow.since_revision <= job.revision,
            )
            .order_by(SourceRow.position)
        )
        override = self._settings.table_override
        return Lease(
            job_id=job.id,
            analysis_id=job.analysis_id,
            revision=job.revision,
            attempt=job.attempts,
            traceparent=job.traceparent,
            task=AnalysisTask(
                sources=tuple(
                    SourceFile(
                        path=self._blobs.address(source.sha256),
                        name=source.name,
                        sop_instance_uid=source.sop_instance_uid,
                    )
                    for source in sources
                ),
                request_json=revision.request,
                today=revision.created_at.astimezone().date().isoformat(),
                limits=self._settings.decode_limits,
                table_override=None if override is None else str(override),
                recorded=recorded_treatments(session, job.analysis_id),
            ),
        )

    def _work_on(self, lane: _Lane, lease: Lease) -> None:
        began = time.monotonic()
        try:
            with self._traces.job(lease.traceparent, _told(lease)) as trail:
                future = lane.place.run(with_stages, self._run, lease.task, trail)
                analysis = lane.place.result(future, within_s=self._settings.job_time_limit_s)
        except ClusterLost as away:
            log.warning("job %s waits: %s", lease.job_id, away.message)
            self._give_back(lease)
        except WorkerDied as died:
            if lane.cancelled:
                self._end_soon(lease, State.CANCELLED)
            elif not self._stopping:
                self._lost(lease, died)
        except TookTooLong as late:
            self._end_soon(lease, State.FAILED, problem=problem_of(late))
        except MemoryError:
            self._end_soon(lease, State.FAILED, problem=_out_of_memory())
        except (ImagingError, ClinicError, ModelError, AppError) as refused:
            self._end_soon(lease, State.FAILED, problem=problem_of(refused))
        except Exception:
            # A defect of ours, not of the file: the log has the trace, the record no details.
            log.exception("job %s failed", lease.job_id)
            self._end_soon(lease, State.FAILED, problem=_our_fault())
        else:
            self._average_s += 0.2 * (time.monotonic() - began - self._average_s)
            self._end_soon(lease, analysis.state, analysis=analysis)

    def _lost(self, lease: Lease, died: WorkerDied) -> None:
        if lease.attempt >= self._settings.job_attempts:
            self._end_soon(lease, State.FAILED, problem=problem_of(died))
            return
        with self._store.write() as session:
            job = self._held(session, lease)
            if job is not None:
                queue.requeue(session, job)
        self.wake()

    def _give_back(self, lease: Lease) -> None:
        """Lets a job wait that nothing was wrong with: its attempt does not count."""
        with self._store.write() as session:
            job = self._held(session, lease)
            if job is not None:
                job.attempts -= 1
                queue.requeue(session, job)

    def _end_soon(self, lease: Lease, state: State, **outcome: Any) -> None:
        """Has a job's end written down while its lane goes on: a worker waits for no disk."""
        self._ends.submit(self._try_to_end, lease, state, **outcome)

    def _try_to_end(self, lease: Lease, state: State, **outcome: Any) -> None:
        try:
            self._ended(lease, state, **outcome)
        except Exception:
            log.exception("job %s ended without a record; its lease will run out", lease.job_id)

    def _ended(
        self,
        lease: Lease,
        state: State,
        *,
        analysis: Analysis | None = None,
        problem: dict[str, Any] | None = None,
    ) -> None:
        masks = {} if analysis is None else dict(analysis.masks)
        digests = {key: self._blobs.put(png) for key, png in masks.items()}
        plan = None if analysis is None else canonical_json(analysis.plan)
        with self._store.write() as session:
            job = self._held(session, lease)
            if job is None:
                return  # somebody else has it by now, and ends it
            for key, digest in digests.items():
                session.add(
                    MaskRow(
                        analysis_id=lease.analysis_id,
                        revision=lease.revision,
                        frame_key=key,
                        sha256=digest,
                    )
                )
            queue.end(session, job, state, plan=plan, problem=problem)
            scanner, patient = _scanner(session, lease.analysis_id) if analysis else ("", None)
        if analysis is not None:
            self.drift.count(scanner, analysis.plan, patient=patient)
        self._hub.publish(lease.analysis_id)

    def _held(self, session: Session, lease: Lease) -> JobRow | None:
        return session.scalar(
            select(JobRow).where(
                JobRow.id == lease.job_id,
                JobRow.owner == self.owner,
                JobRow.state == "running",
                JobRow.attempts == lease.attempt,
            )
        )

    def _keep_leases(self) -> None:
        pause = self._settings.lease_s / 3
        while not self._closed.wait(min(pause, LOOK_AGAIN_S)):
            held = [lane.lease.job_id for lane in self._lanes if lane.lease is not None]
            if not held:
                continue
            try:
                cancelled = self._renew(held)
            except Exception:
                log.exception("leases could not be renewed")
                continue
            for analysis_id in cancelled:
                self.stop_job(analysis_id)

    def _renew(self, held: Sequence[int]) -> list[str]:
        with self._store.write() as session:
            jobs = session.scalars(
                select(JobRow).where(
                    JobRow.id.in_(held), JobRow.owner == self.owner, JobRow.state == "running"
                )
            ).all()
            for job in jobs:
                job.lease_until = queue.now() + dt.timedelta(seconds=self._settings.lease_s)
                stage = self.stage(job.analysis_id)
                job.stage = None if stage is None else stage.value
            return [job.analysis_id for job in jobs if job.cancel]


def _told(lease: Lease) -> dict[str, str | int]:
    """What a job's span says of it."""
    return {
        "sonodose.analysis": lease.analysis_id,
        "sonodose.revision": lease.revision,
        "sonodose.attempt": lease.attempt,
    }


def _scanner(session: Session, analysis_id: str) -> tuple[str, str | None]:
    """The scanner of an analysis's first file, as a metric names it, and whose image it is."""
    facts = session.scalar(
        select(InstanceRow.facts)
        .join(SourceRow, SourceRow.sha256 == InstanceRow.sha256)
        .where(SourceRow.analysis_id == analysis_id)
        .order_by(SourceRow.position)
        .limit(1)
    )
    identity = (facts or {}).get("identity") or {}
    return scanner_of(identity), identity.get("patient_id")


def problem_of(error: ImagingError | ClinicError | ModelError | AppError) -> dict[str, Any]:
    """What is kept of a refusal: the API makes the same problem document of it as at once."""
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


def _gave_up() -> dict[str, Any]:
    return problem_of(
        WorkerDied(
            "The process that read this study ended abruptly on every attempt.",
            remedy="The file may be damaged: export it from the scanner again, or send it as "
            "uncompressed DICOM.",
        )
    )


def _out_of_memory() -> dict[str, Any]:
    return {
        "code": "too_large",
        "message": "The study needs more memory than one job may take.",
        "remedy": "Send fewer frames (`frames` names those to use) or a smaller image.",
    }


def _our_fault() -> dict[str, Any]:
    return {
        "code": "internal",
        "message": "The service failed on this study; it is not your fault.",
        "remedy": "Try once more; if it fails again, tell whoever runs the service the "
        "analysis's id.",
    }
