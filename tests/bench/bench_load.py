"""1,000 stills posted by 50 clients: throughput beside what the cores allow, p95, memory.

    python tests/bench/bench_load.py [--count 1000] [--clients 50]

A real `sonodose serve` in a process of its own. The CPU is that of all its processes, read from
/proc, the clients' left out, which share its cores and so are light: one event loop, kept
connections, bodies made before. `load` is the machine's before the run, since others' work takes
cores away from it. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.api.test_cli import serving  # noqa: E402 -- after the path
from tests.bench.bench_service import (  # noqa: E402 -- after the path
    ASKED,
    multipart,
    post,
    sample,
    still,
    wait_until_ready,
)

TICKS = os.sysconf("SC_CLK_TCK")
LENGTH = re.compile(rb"content-length: (\d+)")


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


class Load:
    """What the clients do and what came of it: milliseconds of each study, memory in the middle."""

    def __init__(self, pid: int, address: str, files: list[bytes], request: dict[str, Any]) -> None:
        self._pid, self._at = pid, address.removeprefix("http://")
        self._waiting = [self._wire(*multipart(file, request)) for file in files]
        self._half = len(files) // 2
        self.times: list[float] = []
        self.half_mb: list[int] = []

    def _wire(self, body: bytes, kind: str) -> bytes:
        head = (
            f"POST /api/v1/analyses HTTP/1.1\r\nHost: {self._at}\r\nContent-Type: {kind}\r\n"
            f"Prefer: wait=60\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def run(self, clients: int) -> None:
        """All studies posted, each client waiting for its plan before it sends the next."""
        await asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        host, _, port = self._at.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        while self._waiting:
            study = self._waiting.pop()
            if len(self._waiting) == self._half:
                self.half_mb = memory_mb(self._pid)
            began = time.perf_counter()
            writer.write(study)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            said = await reader.readexactly(int(LENGTH.findall(head)[0]))
            self.times.append((time.perf_counter() - began) * 1000)
            assert b'"state":"draft"' in said, said[:300]
        writer.close()


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
            for _ in range(8):
                post(address, files.pop(), request)
            idle_mb = memory_mb(process.pid)
            clients = Load(process.pid, address, files, request)
            cpu, own, began = cpu_s(process.pid), time.process_time(), time.perf_counter()
            asyncio.run(clients.run(asked.clients))
            wall = time.perf_counter() - began
            cpu, own = cpu_s(process.pid) - cpu, time.process_time() - own
            end_mb = memory_mb(process.pid)
    times = sorted(clients.times)
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
                "cpu_s_a_study": round(cpu / done, 3),
                "clients_cpu_s_a_study": round(own / done, 4),
                "share_of_ideal": round((done / wall) / (cores / (cpu / done)), 3),
                "p50_ms": round(times[done // 2]),
                "p95_ms": round(times[int(0.95 * (done - 1))]),
                "mb_idle": idle_mb,
                "mb_half": clients.half_mb,
                "mb_end": end_mb,
            }
        )
    )


if __name__ == "__main__":
    main()
