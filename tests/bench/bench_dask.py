"""What Dask's scheduling costs: jobs of a known time on two workers, beside the time they sleep.

    python tests/bench/bench_dask.py [--count 40]

Prints one line of JSON; `lost` is the share of the time in which a worker had nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.services import open_services  # noqa: E402 -- after the path
from app.settings import Settings  # noqa: E402 -- after the path
from tests import cluster  # noqa: E402 -- after the path
from tests.app import workloads  # noqa: E402 -- after the path
from tests.app.conftest import send, until  # noqa: E402 -- after the path

JOB_S = 0.3


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=40)
    count = parser.parse_args().count
    with (
        cluster.scheduler() as address,
        cluster.worker(address),
        cluster.worker(address),
        tempfile.TemporaryDirectory() as data,
    ):
        settings = Settings(data_dir=Path(data), executor="dask", dask_scheduler=address, workers=4)
        parts = open_services(settings, run=workloads.brief, warm=None)
        parts.start()
        for each in [send(parts) for _ in range(4)]:
            until(parts, each, "draft")
        load, began = os.getloadavg()[0], time.perf_counter()
        for each in [send(parts) for _ in range(count)]:
            until(parts, each, "draft", within_s=120)
        wall = time.perf_counter() - began
        parts.close()
    ideal = count * JOB_S / 2
    figures = {"bench": "dask", "jobs": count, "job_s": JOB_S, "workers": 2}
    figures |= {"wall_s": round(wall, 2), "ideal_s": ideal, "lost": round(1 - ideal / wall, 3)}
    print(json.dumps({**figures, "load_before": round(load, 1)}))


if __name__ == "__main__":
    main()
