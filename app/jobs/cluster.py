"""Jobs on a Dask cluster, by the same door as a process of our own.

A Dask worker does not decode: it has a `WorkerPlace`, whose process it ends when a job is over its
time or cancelled, so that memory, time and a codec's crash are bounded there as they are here, and
no Dask worker is lost to a bad file. Dask's own `retries` are not used, since they would repeat
refusals too: a lost worker's task runs again on another one without them.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import distributed
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from app.analysis import Stage
from app.errors import ClusterLost, TookTooLong, WorkerDied
from app.jobs.processes import WorkerPlace

P = ParamSpec("P")
T = TypeVar("T")
WATCH_S = 0.1
STAGES = "sonodose-stages"
"""Dask's event topic under which workers tell how far their jobs are."""
_LOST = (CancelledError, FutureCancelledError, CommClosedError, OSError)

log = logging.getLogger(__name__)


class Cluster:
    """The way to one scheduler, opened when first needed and again after it was lost."""

    def __init__(self, address: str, *, resources: Mapping[str, float]) -> None:
        self._address, self._resources = address, dict(resources)
        self._lock = threading.Lock()
        self._client: Any = None
        self._stages: dict[str, Stage | None] = {}
        self._places = 0

    def client(self) -> Any:
        """The connected client. Raises ClusterLost without a scheduler or a worker."""
        with self._lock:
            try:
                if self._client is None or self._client.status != "running":
                    self._client = distributed.Client(  # type: ignore[no-untyped-call]  # no types
                        self._address, set_as_default=False, timeout=10, name="sonodose"
                    )
                    self._client.subscribe_topic(STAGES, self._told)
                if not self._client.scheduler_info(n_workers=0)["n_workers"]:
                    raise _lost("no worker has joined")
            except (OSError, TimeoutError) as gone:
                raise _lost("its scheduler does not answer") from gone
            return self._client

    def submit(self, task_id: str, *args: Any) -> Future[Any]:
        """The future of a task on any worker that has the resources."""
        self._stages[task_id] = None
        more = {"resources": self._resources} if self._resources else {}
        executor = self.client().get_executor(pure=False, **more)
        future: Future[Any] = executor.submit(*args)
        return future

    def stop(self, task_id: str) -> None:
        """Ends the process of a task that runs, wherever it does."""
        with self._lock:
            client = self._client
        if client is not None and client.status == "running":
            client.run(_stop, task_id, on_error="ignore")

    def stage(self, task_id: str) -> Stage | None:
        """The stage that a task last told."""
        return self._stages.get(task_id)

    def forget(self, task_id: str) -> None:
        """Forgets the stage of a task that ended."""
        self._stages.pop(task_id, None)

    def enter(self) -> None:
        """Counts one who uses the connection."""
        self._places += 1

    def leave(self) -> None:
        """Gives the connection back when the last one leaves; the cluster lives on."""
        with self._lock:
            self._places -= 1
            if self._client is not None and not self._places:
                self._client.close(timeout=5)
                self._client = None

    def _told(self, event: tuple[float, Any]) -> None:
        said = event[1]
        if said["task_id"] in self._stages:
            self._stages[said["task_id"]] = Stage(said["stage"])


class ClusterPlace:
    """One task at a time on the cluster, in the shape of a `WorkerPlace`."""

    pid: int | None = None

    def __init__(
        self,
        cluster: Cluster,
        *,
        memory_bytes: int,
        within_s: float,
        warm_up: Callable[[], None] | None,
    ) -> None:
        self._cluster, self._within_s = cluster, within_s
        self._memory_bytes, self._warm_up = memory_bytes, warm_up
        self._task_id = ""
        self._future: Future[Any] | None = None
        self._killed = False
        self.warm = False
        cluster.enter()

    @property
    def stage(self) -> Stage | None:
        """The stage that the running job last told."""
        return self._cluster.stage(self._task_id)

    def start(self) -> None:
        """Makes sure of the scheduler and of a worker. Raises ClusterLost."""
        self.warm = False
        self._cluster.client()
        self.warm = True

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `work` on any worker. Raises ClusterLost."""
        self._task_id, self._killed = uuid.uuid4().hex, False
        task = _Task(
            task_id=self._task_id,
            memory_bytes=self._memory_bytes,
            warm_up=self._warm_up,
            within_s=self._within_s,
        )
        future: Future[T] = self._cluster.submit(
            self._task_id, _on_worker, task, work, args, kwargs
        )
        self._future = future
        return future

    def result(self, future: Future[T], *, within_s: float) -> T:
        """The future's result, or the error that the work raised.

        Time counts from the start on the worker, which keeps to it, not from the wait for one.
        Raises TookTooLong, WorkerDied, and ClusterLost when nobody knows what became of it.
        """
        try:
            return future.result()
        except KilledWorker as killed:
            raise WorkerDied(
                "The machines that read this study ended abruptly, one after the other.",
                remedy="The file may be damaged: export it from the scanner again, or send it "
                "as uncompressed DICOM.",
            ) from killed
        except _LOST as gone:
            if self._killed:
                raise WorkerDied("The job was stopped.", remedy="Ask for it again.") from gone
            raise _lost("it forgot a task") from gone
        finally:
            self._cluster.forget(self._task_id)
            self._future = None

    def kill(self) -> None:
        """Ends the running job at once, waiting or at work; it sees WorkerDied."""
        self._killed = True
        future = self._future
        if future is not None:
            try:
                self._cluster.stop(self._task_id)
            except Exception:
                log.exception("a job on the cluster could not be stopped")
            future.cancel()

    def close(self) -> None:
        """Ends what runs for this place."""
        self.kill()
        self.warm = False
        self._cluster.leave()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    task_id: str
    memory_bytes: int
    warm_up: Callable[[], None] | None
    within_s: float


def _lost(why: str) -> ClusterLost:
    return ClusterLost(
        f"The cluster that makes the analyses cannot be used: {why}.",
        remedy="Tell whoever runs the service; waiting studies are made once it is back.",
    )


_mine = threading.local()
_running: dict[str, WorkerPlace] = {}
_stopped: deque[str] = deque(maxlen=1000)
"""The tasks that were stopped last: one may be on its way into its process."""


def _on_worker(
    task: _Task, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Runs in a Dask worker's thread: the work in this thread's own process, watched."""
    place: WorkerPlace | None = getattr(_mine, "place", None)
    if place is None:
        place = _mine.place = WorkerPlace(memory_bytes=task.memory_bytes, warm_up=task.warm_up)
    place.start()
    end = time.monotonic() + task.within_s
    future = place.run(work, *args, **kwargs)
    _running[task.task_id] = place
    try:
        # After the line above: whoever stops it from now on finds the process.
        if task.task_id in _stopped:
            place.kill()
        told = None
        while wait([future], timeout=WATCH_S).not_done and time.monotonic() < end:
            if place.stage is not None and place.stage is not told:
                told = place.stage
                distributed.get_worker().log_event(
                    STAGES, {"task_id": task.task_id, "stage": told.value}
                )
        return place.result(future, within_s=max(0.0, end - time.monotonic()))
    except TookTooLong as late:
        raise TookTooLong(
            f"The study was not finished within {task.within_s:g} seconds.", remedy=late.remedy
        ) from None
    finally:
        _running.pop(task.task_id, None)


def _stop(task_id: str) -> None:
    """Runs in every Dask worker's event loop: ends the task's process where it is."""
    _stopped.append(task_id)
    place = _running.get(task_id)
    if place is not None:
        place.kill()


def serve_worker(scheduler: str, *, jobs: int, resources: Sequence[str]) -> None:
    """Runs a Dask worker until it is told to end: one light process, and one more for each job."""
    from distributed.cli.dask_worker import main

    options = ["--no-nanny", "--nthreads", str(jobs), "--memory-limit", "0", "--no-dashboard"]
    for each in resources:
        options += ["--resources", each]
    main([scheduler, *options], standalone_mode=False)
