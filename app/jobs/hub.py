"""News of analyses, from the threads that make them to the requests that wait for them."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Hub:
    """Wakes whoever waits for an analysis in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]]
        self._waiting = defaultdict(set)

    @contextmanager
    def listen(self, analysis_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at every change of the analysis; the listener clears it."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting[analysis_id].add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting[analysis_id].discard(entry)
                if not self._waiting[analysis_id]:
                    del self._waiting[analysis_id]

    def publish(self, analysis_id: str) -> None:
        """Tells every listener; may be called from any thread."""
        with self._lock:
            entries = tuple(self._waiting.get(analysis_id, ()))
        for loop, event in entries:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
