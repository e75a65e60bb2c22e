"""Counters and timings in Prometheus' text form. No label holds anything of a patient."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What this process counted since it started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_S) + 1))
        self._seconds: dict[str, float] = defaultdict(float)
        self._ended: dict[tuple[str, str], int] = defaultdict(int)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answered request under its route's template."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[route] += seconds
            index = sum(seconds > bound for bound in BUCKETS_S)
            self._buckets[route][index] += 1

    def problem(self, route: str, code: str) -> None:
        """Counts one refusal under its code."""
        with self._lock:
            self._ended[route, code] += 1

    def text(self, gauges: Iterable[tuple[str, str, float]]) -> str:
        """The exposition; `gauges` are (name, help, value) of the moment."""
        with self._lock:
            lines = [
                "# HELP sonodose_requests_total Answered requests.",
                "# TYPE sonodose_requests_total counter",
            ]
            for (method, route, status), count in sorted(self._requests.items()):
                labels = f'method="{method}",route="{route}",status="{status}"'
                lines.append(f"sonodose_requests_total{{{labels}}} {count}")
            lines += [
                "# HELP sonodose_request_seconds Time from the first byte in to the last out.",
                "# TYPE sonodose_request_seconds histogram",
            ]
            for route, counts in sorted(self._buckets.items()):
                total = 0
                for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
                    total += count
                    lines.append(
                        f'sonodose_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
                    )
                lines.append(
                    f'sonodose_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
                )
                lines.append(f'sonodose_request_seconds_count{{route="{route}"}} {total}')
            lines += [
                "# HELP sonodose_problems_total Refusals by their code.",
                "# TYPE sonodose_problems_total counter",
            ]
            for (route, code), count in sorted(self._ended.items()):
                labels = f'route="{route}",code="{code}"'
                lines.append(f"sonodose_problems_total{{{labels}}} {count}")
        for name, meaning, value in gauges:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
