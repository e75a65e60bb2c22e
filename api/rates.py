"""How often one client may ask: token buckets in memory."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from starlette.requests import Request

MOST_CLIENTS = 20_000


class Buckets:
    """A bucket a client: `burst` at once, `per_s` over time. Used from the event loop alone."""

    def __init__(
        self, *, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, client: str) -> float:
        """0 if the client may ask now, else the seconds until it may."""
        left, _ = self._now(client)
        return 0.0 if left >= 1.0 else (1.0 - left) / self._per_s

    def take(self, client: str) -> float:
        """As `wait_s`, and counts this request where it may be made."""
        wait = self.wait_s(client)
        if wait == 0.0:
            left, at = self._now(client)
            self._left[client] = (left - 1.0, at)
            if len(self._left) > MOST_CLIENTS:
                self._forget_full()
        return wait

    def _now(self, client: str) -> tuple[float, float]:
        at = self._clock()
        left, before = self._left.get(client, (self._burst, at))
        return min(self._burst, left + (at - before) * self._per_s), at

    def _forget_full(self) -> None:
        """Drops who has asked nothing for long; were all busy, those who asked first."""
        kept = {client: v for client, v in self._left.items() if self._now(client)[0] < self._burst}
        self._left = dict(list(kept.items())[-MOST_CLIENTS // 2 :])


def address_of(request: Request) -> str:
    """The client's address; of IPv6 the network, since one client has all of a /64."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
