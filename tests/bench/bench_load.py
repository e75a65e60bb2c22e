"""1,000 stills posted by 50 clients: throughput beside what the cores allow, p95, memory.

    python tests/bench/bench_load.py [--count 1000] [--clients 50]

A real `sonodose serve` in a process of its own. The CPU is that of all its processes, read from
/proc, the clients' left out; `load` is the machine's before the run, since others' work takes
cores away from it. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.api.test_cli import serving  # noqa: E402 -- after the path
from tests.bench.bench_service import ASKED, post, sample, still, wait_until_ready  # noqa: E402 -- after the path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_s(pid: int) -> float:
    """The seconds of all processes, also of those that ended and were waited for."""
    total = 0
    for each in tree(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / TICKS


def memory_mb(pid: int) -> list[int]:
    """Resident megabytes of each process, the service first."""
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid)]
    return [page * os.sysconf("SC_PAGE_SIZE") >> 20 for page in pages]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    asked = parser.parse_args()
    grey, click = sample()
    request = {**ASKED, "clicks": [{"column": click.column, "row": click.row, "positive": True}]}
    files = [still(grey, seed) for seed in range(asked.count + 8)]
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as data:
        began = time.perf_counter()
        with serving(Path(data)) as (process, address):
            wait_until_ready(address)
            ready_s = time.perf_counter() - began
            for file in files[asked.count :]:
                post(address, file, request)
            idle_mb = memory_mb(process.pid)
            waiting, times, half_mb = files[: asked.count], [], []
            lock = threading.Lock()

            def client() -> None:
                while True:
                    with lock:
                        if not waiting:
                            return
                        file = waiting.pop()
                        if len(waiting) == asked.count // 2:
                            half_mb.extend(memory_mb(process.pid))
                    taken, found = post(address, file, request)
                    assert found["state"] == "draft", found["state"]
                    with lock:
                        times.append(taken)

            cpu, began = cpu_s(process.pid), time.perf_counter()
            clients = [threading.Thread(target=client) for _ in range(asked.clients)]
            for each in clients:
                each.start()
            for each in clients:
                each.join()
            wall = time.perf_counter() - began
            cpu = cpu_s(process.pid) - cpu
            end_mb = memory_mb(process.pid)
    times.sort()
    done = len(times)
    print(
        json.dumps(
            {
                "bench": "load",
                "studies": done,
                "clients": asked.clients,
                "cores": cores,
                "load_before": round(load, 1),
                "start_to_ready_s": round(ready_s, 2),
                "studies_a_s": round(done / wall, 2),
                "cpu_s_a_study": round(cpu / done, 3) if done else None,
                "share_of_ideal": round((done / wall) / (cores / (cpu / done)), 3),
                "p50_ms": round(times[done // 2]),
                "p95_ms": round(times[int(0.95 * (done - 1))]),
                "mb_idle": idle_mb,
                "mb_half": half_mb,
                "mb_end": end_mb,
            }
        )
    )


if __name__ == "__main__":
    main()
