"""Jobs on a real Dask cluster: two at once, one end each, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app import review
from app.analysis import Stage
from app.services import Services, open_services
from app.settings import Settings
from tests import cluster
from tests.app import workloads
from tests.app.conftest import send, state_of, until
from tests.app.jobs.test_jobs import jobs_of
from tests.collector import collecting

OnDask = Callable[..., Services]
scale = pytest.mark.skipif(
    not {"SONODOSE_TEST_DASK", "SONODOSE_SLOW"} & set(os.environ), reason="make test-scale"
)


@pytest.fixture
def scheduler() -> Iterator[str]:
    with cluster.scheduler() as address:
        yield address


@pytest.fixture
def on_dask(tmp_path: Path, scheduler: str) -> Iterator[OnDask]:
    """Services that give their jobs to the cluster."""
    with ExitStack() as stack:

        def opener(run: Any = workloads.brief, **changes: Any) -> Services:
            given = {"data_dir": tmp_path / "data", "workers": 2, "drain_s": 0, **changes}
            settings = Settings(executor="dask", dask_scheduler=scheduler, **given)
            parts = open_services(settings, run=run, warm=None)
            parts.start()
            stack.callback(parts.close)
            return parts

        yield opener


def busy_one(parts: Services, *workers: Any) -> Any:
    """The worker of the two whose child, which does the job, is there."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for process in workers:
            tasks = Path(f"/proc/{process.pid}/task").iterdir()
            if any((task / "children").read_text().strip() for task in tasks):
                return process
        time.sleep(0.05)
    raise AssertionError("no worker works")


def test_two_jobs_run_at_once_and_a_killed_worker_fails_none(
    on_dask: OnDask, scheduler: str
) -> None:
    """Two workers do two jobs side by side; a killed one's job ends on the other, once."""
    with cluster.worker(scheduler) as one, cluster.worker(scheduler) as other:
        parts = on_dask(workloads.seconds)
        first, second = send(parts), send(parts)
        for each in (first, second):
            until(parts, each, "running")
        victim = busy_one(parts, one, other)
        os.kill(victim.pid, signal.SIGKILL)
        until(parts, first, "draft")
        until(parts, second, "draft")
        assert [(job.state, job.attempts) for job in jobs_of(parts)] == [("done", 1)] * 2


@scale
def test_a_job_is_stopped_where_it_runs(on_dask: OnDask, scheduler: str) -> None:
    """A cancelled job's process ends on its worker, its stage was seen, the next one runs there."""
    with cluster.worker(scheduler):
        parts = on_dask(workloads.slow, workers=1)
        analysis_id = send(parts)
        end = time.monotonic() + 60
        while parts.runner.stage(analysis_id) is not Stage.SEGMENT:
            assert time.monotonic() < end
            time.sleep(0.02)
        waiting = send(parts)
        review.cancel(parts.store, analysis_id, principal="tester")
        parts.runner.stop_job(analysis_id)
        until(parts, analysis_id, "cancelled")
        until(parts, waiting, "running")


@scale
def test_a_job_takes_a_worker_that_has_what_it_needs(on_dask: OnDask, scheduler: str) -> None:
    """With `dask_resources` a job waits for the worker with a GPU, beside an idle one without."""
    with cluster.worker(scheduler):
        parts = on_dask(dask_resources={"GPU": 1}, workers=1)
        analysis_id = send(parts)
        until(parts, analysis_id, "running")
        time.sleep(2)
        assert state_of(parts, analysis_id).state == "running"
        with cluster.worker(scheduler, "--resources", "GPU=1"):
            until(parts, analysis_id, "draft")


@scale
def test_a_trace_reaches_the_worker(on_dask: OnDask, scheduler: str) -> None:
    """The stages that a worker of the cluster tells are spans under the job's."""
    with collecting() as collector, cluster.worker(scheduler):
        parts = on_dask(workloads.brief, otlp_endpoint=collector.address)
        until(parts, send(parts), "draft")
        spans = collector.until(lambda seen: {"segment", "job"} <= {span.name for span in seen})
    ids = {span.name: span.id for span in spans}
    assert {span.name: span.parent for span in spans} == {"segment": ids["job"], "job": ""}


@scale
def test_a_cluster_that_is_away_delays_jobs(tmp_path: Path) -> None:
    """Without a scheduler a study is taken and waits; it is made when the cluster is there."""
    port = cluster.free_port()
    settings = Settings(
        data_dir=tmp_path, workers=1, executor="dask", dask_scheduler=f"tcp://127.0.0.1:{port}"
    )
    parts = open_services(settings, run=workloads.quick, warm=None)
    parts.start()
    try:
        analysis_id = send(parts)
        time.sleep(1)
        assert state_of(parts, analysis_id).state == "queued"
        assert not parts.ready
        with cluster.scheduler(port) as address, cluster.worker(address):
            until(parts, analysis_id, "draft", within_s=90)
    finally:
        parts.close()


def test_dask_needs_an_address() -> None:
    """The executor without a scheduler's address is refused at the start."""
    with pytest.raises(ValueError, match="dask_scheduler"):
        Settings(executor="dask")
