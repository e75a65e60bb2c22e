"""One process at a time for work over untrusted bytes; a dead one costs its own job alone.

Each place has an executor with a single spawned worker, so that a worker's death names the job
that caused it and breaks no other. The executor is `concurrent.futures.Executor`, whose place a
cluster's can take.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_int
from functools import partial
from queue import LifoQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from app.analysis import Stage
from app.errors import TookTooLong, WorkerDied

P = ParamSpec("P")
T = TypeVar("T")
STAGES = tuple(Stage)
_SPAWN = multiprocessing.get_context("spawn")


class Place(Protocol):
    """Where one job at a time is done: a process of ours, or a cluster's."""

    @property
    def stage(self) -> Stage | None: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def warm(self) -> bool: ...
    def start(self) -> None: ...
    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    def result(self, future: Future[T], *, within_s: float) -> T: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class WorkerPlace:
    """A worker process, made when first needed and again after it died."""

    def __init__(self, *, memory_bytes: int, warm_up: Callable[[], None] | None = None) -> None:
        self._memory_bytes = memory_bytes
        self._warm_up = warm_up
        self._stage: c_int = _SPAWN.RawValue(c_int, -1)
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._pid: int | None = None

    @property
    def stage(self) -> Stage | None:
        """The stage that the running job last told."""
        index = int(self._stage.value)
        return STAGES[index] if 0 <= index < len(STAGES) else None

    @property
    def pid(self) -> int | None:
        """The living worker's process id."""
        return self._pid

    @property
    def warm(self) -> bool:
        """True while work can begin at once."""
        return self._pid is not None

    def start(self) -> None:
        """Makes the worker and waits until it is warm. Raises WorkerDied when it cannot start."""
        with self._lock:
            self._living_pool()

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `work` in the worker. Raises WorkerDied when none can be started."""
        with self._lock:
            self._stage.value = -1
            try:
                return self._living_pool().submit(work, *args, **kwargs)
            except BrokenProcessPool:
                # It died while idle: nobody's job is to blame.
                self._forget()
                return self._living_pool().submit(work, *args, **kwargs)

    def result(self, future: Future[T], *, within_s: float) -> T:
        """The future's result, or the error that the work raised.

        Raises TookTooLong after `within_s`, with the worker killed, and WorkerDied when the worker
        ended without an answer.
        """
        try:
            return future.result(within_s)
        except BrokenProcessPool as broken:
            with self._lock:
                self._forget()
            raise WorkerDied(
                "The process that read this study ended abruptly.",
                remedy="The file may be damaged: export it from the scanner again, or send it "
                "as uncompressed DICOM.",
            ) from broken
        except TimeoutError as late:
            if future.done():
                raise
            self.kill()
            with self._lock:
                self._forget()
            raise TookTooLong(
                f"The study was not finished within {within_s:g} seconds.",
                remedy="Send fewer frames (`frames` names those to use) or a shorter clip.",
            ) from late

    def kill(self) -> None:
        """Ends the worker at once; the job it runs sees WorkerDied."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the worker for good."""
        self.kill()
        with self._lock:
            self._forget()

    def _living_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=_SPAWN,
                initializer=_become_worker,
                initargs=(self._stage, self._memory_bytes, self._warm_up),
            )
            try:
                self._pid = pool.submit(os.getpid).result()
            except BrokenProcessPool as broken:
                pool.shutdown(wait=False)
                raise WorkerDied(
                    "No worker process could be started.",
                    remedy="Tell whoever runs the service: `sonodose doctor` says what is missing.",
                ) from broken
            self._pool = pool
        return self._pool

    def _forget(self) -> None:
        # The worker is dead: waiting takes no time and leaves none of its semaphores behind.
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._pid = None


class _Asked(Future[T]):
    """Work that begins when its result is waited for."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__()
        self.work = work


_TRIES = 3
"""How often the door's worker may die before its file is to blame."""


class Door(WorkerPlace):
    """Where files are looked at: a few places, each for one asker at a time.

    A file that kills its worker, or takes all its time, does so to nobody who waits. The second
    place is made only while the first one is busy, and so on.
    """

    def __init__(
        self, *, memory_bytes: int, warm_up: Callable[[], None] | None = None, places: int = 3
    ) -> None:
        super().__init__(memory_bytes=memory_bytes, warm_up=warm_up)
        more = [WorkerPlace(memory_bytes=memory_bytes, warm_up=warm_up) for _ in range(places - 1)]
        self._more = more
        self._free: LifoQueue[WorkerPlace] = LifoQueue()
        for place in (*more, self):
            self._free.put(place)

    def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `work`, which begins in `result`."""
        return _Asked(partial(work, *args, **kwargs))

    def result(self, future: Future[T], *, within_s: float) -> T:
        """The result, once a place was free for it; `within_s` counts from then.

        Work whose worker dies, while it starts or reads, is done again: the system may have ended
        it for want of memory, and a file is not to be called damaged for that. Raises what the
        work raised, TookTooLong, and WorkerDied after the third death.
        """
        assert isinstance(future, _Asked)  # noqa: S101 -- run() gives nothing else
        place = self._free.get()
        try:
            for _ in range(_TRIES - 1):
                with contextlib.suppress(WorkerDied):
                    begun: Future[T] = WorkerPlace.run(place, future.work)
                    return WorkerPlace.result(place, begun, within_s=within_s)
            last: Future[T] = WorkerPlace.run(place, future.work)
            return WorkerPlace.result(place, last, within_s=within_s)
        finally:
            self._free.put(place)

    def close(self) -> None:
        """Ends the workers for good."""
        for place in (self, *self._more):
            WorkerPlace.close(place)


def lives(pid: int) -> bool:
    """True while another process of this id is there.

    Not this one: at its start it holds nothing, so a lease under its id is of a dead one.
    """
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_stage_told: c_int | None = None


def tell_stage(stage: Stage) -> None:
    """Shows the service how far the job is; called within a worker."""
    if _stage_told is not None:
        _stage_told.value = STAGES.index(stage)


def _become_worker(stage: c_int, memory_bytes: int, warm_up: Callable[[], None] | None) -> None:
    global _stage_told
    _stage_told = stage
    # Ctrl-C in a terminal reaches the whole group: the service decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    if warm_up is not None:
        warm_up()


def _end_with_parent() -> None:
    """Ends this process when the service was killed: nothing may work on unasked."""
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)
