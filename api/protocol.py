"""HTTP/1.1 on a socket: who is slow on purpose does not keep it.

uvicorn waits for a request's head, and for its answer to be read, without end. Here the head must
be there, and each piece of an answer be taken, within `slow_client_s`; the body is timed in
`api/middleware.py`. What is no HTTP is answered by a problem document, too.
"""

from __future__ import annotations

import asyncio
import json
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import MEDIA_TYPE, document


class TimedProtocol(H11Protocol):
    """A connection with a limit of time for what the client does."""

    slow_client_s = 30.0
    _head: asyncio.TimerHandle | None = None
    _answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Waits for a head from now on."""
        super().connection_made(transport)
        self._mind_head()

    def data_received(self, data: bytes) -> None:
        """Stops waiting once the head is whole; a byte of the next one begins it again."""
        super().data_received(data)
        self._mind_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        for timer in (self._head, self._answer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read: it has some time to begin again."""
        super().pause_writing()
        self._answer = self.loop.call_later(self.slow_client_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP/1.1 is told so, and the connection ends."""
        self._refuse(
            document(
                "bad_request",
                "This is no HTTP/1.1 request.",
                "Check the program that sends it, and the proxy between.",
            )
        )

    def _mind_head(self) -> None:
        between = self.cycle is None or self.cycle.response_complete
        idle = self.timeout_keep_alive_task is not None
        if between and not idle and not self.transport.is_closing():
            if self._head is None:
                self._head = self.loop.call_later(self.slow_client_s, self._too_slow)
        elif self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        self._refuse(
            document(
                "too_slow",
                f"The request's head was not there within {self.slow_client_s:g} seconds.",
                "Send the request again; check the network if it was slow.",
            )
        )

    def _refuse(self, problem: dict[str, object]) -> None:
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        status = int(str(problem["status"]))
        try:
            events = (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer has begun already: the end of the connection must do
        self.transport.close()


def protocol_of(slow_client_s: float) -> type[TimedProtocol]:
    """The protocol with a site's limit."""
    return type("SiteProtocol", (TimedProtocol,), {"slow_client_s": slow_client_s})


def allow_many_connections() -> None:
    """Raises this process's limit of open files, and so of sockets, to what it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
