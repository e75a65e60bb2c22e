"""Jobs end once, whatever happens to the process that works on them."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import Any

import pytest
from sqlalchemy import select

from app import review
from app.analysis import Stage
from app.errors import StateConflict, TooBusy
from app.store.rows import JobRow
from tests.app import workloads
from tests.app.conftest import Opener, send, state_of, until


def jobs_of(parts: Any) -> list[JobRow]:
    with parts.store.read() as session:
        return list(session.scalars(select(JobRow).order_by(JobRow.id)))


def test_a_job_ends_with_its_plan_and_masks(opened: Opener) -> None:
    """A submitted study becomes a draft with the plan and masks that the worker made."""
    parts = opened()
    record = until(parts, send(parts), "draft")
    assert record.plan == dict(workloads.DONE.plan)
    assert {k: parts.blobs.read(d) for k, d in record.masks.items()} == dict(workloads.DONE.masks)


def test_a_killed_worker_delays_its_job(opened: Opener) -> None:
    """A worker that dies costs a second attempt, not the job."""
    parts = opened(workloads.dies_once)
    until(parts, send(parts), "draft")
    assert [(job.state, job.attempts) for job in jobs_of(parts)] == [("done", 2)]


def test_a_job_that_always_kills_its_worker_fails(opened: Opener) -> None:
    """After the last attempt the job fails with a problem that says what to do."""
    parts = opened(workloads.dies, job_attempts=2)
    record = until(parts, send(parts), "failed")
    assert record.problem is not None
    assert record.problem["code"] == "worker_died"
    assert "again" in record.problem["remedy"]


@pytest.mark.skipif("SONODOSE_TEST_DASK" in os.environ, reason="test_cluster.py kills those")
def test_a_worker_killed_from_outside_loses_nothing(opened: Opener) -> None:
    """Killing the worker of a running job makes it run again and end once."""
    parts = opened(workloads.brief)
    analysis_id = send(parts)
    until(parts, analysis_id, "running")
    while not parts.runner.worker_pids():
        time.sleep(0.01)
    os.kill(parts.runner.worker_pids()[0], signal.SIGKILL)
    until(parts, analysis_id, "draft")
    assert [job.state for job in jobs_of(parts)] == ["done"]


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (workloads.unreadable, "unreadable_file"),
        (workloads.hungry, "too_large"),
        (workloads.defective, "internal"),
    ],
)
def test_a_refusal_in_the_worker_is_kept(opened: Opener, run: Any, code: str) -> None:
    """What the worker refuses is kept as a problem with a way out, without inner details."""
    parts = opened(run)
    record = until(parts, send(parts), "failed")
    assert record.problem is not None
    assert record.problem["code"] == code
    assert record.problem["remedy"]
    assert "Ada" not in str(record.problem)


def test_a_job_over_its_time_is_stopped(opened: Opener) -> None:
    """A job that runs over its time is failed and the next one is worked on."""
    parts = opened(workloads.slow, job_time_limit_s=0.5)
    record = until(parts, send(parts), "failed")
    assert record.problem is not None
    assert record.problem["code"] == "took_too_long"


def test_cancelling_a_running_job_stops_it(opened: Opener) -> None:
    """A cancelled job ends at once and its stage was visible while it ran."""
    parts = opened(workloads.slow)
    analysis_id = send(parts)
    until(parts, analysis_id, "running")
    end = time.monotonic() + 10
    while parts.runner.stage(analysis_id) is not Stage.SEGMENT:
        assert time.monotonic() < end
        time.sleep(0.01)
    review.cancel(parts.store, analysis_id, principal="tester")
    parts.runner.stop_job(analysis_id)
    until(parts, analysis_id, "cancelled", within_s=30)
    with pytest.raises(StateConflict):
        review.cancel(parts.store, analysis_id, principal="tester")


def test_cancelling_a_waiting_job_ends_it(opened: Opener) -> None:
    """A job that waits is cancelled without a worker."""
    parts = opened(workloads.slow)
    first, second = send(parts), send(parts)
    until(parts, first, "running")
    assert state_of(parts, second).queue_position == 1
    review.cancel(parts.store, second, principal="tester")
    assert state_of(parts, second).state == "cancelled"


def test_a_full_queue_takes_no_more(opened: Opener) -> None:
    """Over the limit of waiting jobs a study is refused and nothing of it is stored."""
    parts = opened(start=False, max_queued_jobs=1)
    parts.store.migrate()
    send(parts)
    with pytest.raises(TooBusy):
        send(parts)
    assert len(jobs_of(parts)) == 1
    assert len(list(parts.blobs.digests())) == 1
    parts.door.close()
    parts.store.close()


def test_a_dead_service_leaves_its_jobs_to_the_next(opened: Opener) -> None:
    """Jobs leased by a process of this machine that no longer lives are taken over at once."""
    dead = opened(start=False)
    dead.store.migrate()
    analysis_id = send(dead)
    lease = dead.runner._take()
    assert lease is not None
    with dead.store.write() as session:
        job = session.scalars(select(JobRow)).one()
        host = dead.runner.owner.split(":")[0]
        job.owner = f"{host}:{2**22 + 1}:0"
    dead.door.close()
    dead.store.close()
    parts = opened()
    until(parts, analysis_id, "draft", within_s=60)


def test_an_end_that_could_not_be_written_is_made_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose end the disk refused is done once more while others run, and ends once."""
    parts = opened(workloads.brief, lease_s=1)
    put, full = parts.blobs.put, [OSError(errno.ENOSPC, "No space left on device")]

    def refuse_once(data: bytes) -> str:
        if full:
            raise full.pop()
        return put(data)

    monkeypatch.setattr(parts.blobs, "put", refuse_once)
    sent = [send(parts) for _ in range(8)]
    for each in sent:
        until(parts, each, "draft")
    first, *others = jobs_of(parts)
    assert (first.state, first.attempts) == ("done", 2)
    assert [(job.state, job.attempts) for job in others] == [("done", 1)] * 7
    assert first.finished_at < others[-1].finished_at


def test_a_stopping_service_lets_a_job_finish(opened: Opener) -> None:
    """Closing waits for the running job, so that nothing is done twice."""
    parts = opened(workloads.brief, start=False)
    parts.start()
    analysis_id = send(parts)
    until(parts, analysis_id, "running")
    parts.runner.close()
    assert state_of(parts, analysis_id).state == "draft"
    parts.close()
