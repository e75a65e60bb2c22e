"""The service as a process: a socket, an address to print, an orderly end."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from api.listen import ListenerNotStarted, ListenerProcess
from api.logs import set_up_logs
from api.main import create_app
from api.protocol import allow_many_connections, protocol_of
from app.services import open_services
from app.settings import Settings
from app.shipped import check_shipped


def serve(settings: Settings) -> int:
    """The exit code after the service ended: 1 if it may not start like this.

    Raises Tampered for tables or weights that are not as released.
    """
    if settings.auth == "none" and not settings.on_loopback:
        print(
            f"sonodose: {settings.host} can be reached from other machines, and access control is "
            "off.\n  Set SONODOSE_AUTH=keys with SONODOSE_API_KEYS (`sonodose new-key NAME` makes "
            "one), or listen on 127.0.0.1.",
            file=sys.stderr,
        )
        return 1
    if settings.auth == "oidc" and not (settings.oidc_issuer and settings.oidc_audience):
        print(
            "sonodose: SONODOSE_AUTH=oidc needs the identity provider.\n  Set "
            "SONODOSE_OIDC_ISSUER and SONODOSE_OIDC_AUDIENCE; docs/security.md has an example.",
            file=sys.stderr,
        )
        return 1
    check_shipped()
    set_up_logs(settings)
    allow_many_connections()
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as taken:
        print(
            f"sonodose: cannot listen on {settings.host}:{settings.port}: {taken.strerror}.\n"
            "  Another program may use the port: --port 0 takes a free one.",
            file=sys.stderr,
        )
        return 1
    listener = None
    if settings.dimse_port is not None:
        try:
            listener = ListenerProcess(settings)
        except ListenerNotStarted:
            return 1
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    app = create_app(open_services(settings))
    config = uvicorn.Config(
        app,
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nobody's slow connection keeps a stopping service alive.
        timeout_graceful_shutdown=5,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 * 1024,
        http=protocol_of(settings.slow_client_s),
        ws="none",
    )
    server = _Announcing(config, f"http://{shown}:{port}")
    try:
        server.run(sockets=[listening])
    finally:
        if listener is not None:
            listener.close()
    return 0


class _Announcing(uvicorn.Server):
    """A server that says where it is once it answers."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the service in order, and its exit code is 0 then.

        (uvicorn's own raises the signal again at the end, so that the process dies of it.)
        """
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"sonodose serves at {self._address}", flush=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named asyncio sends small answers at once (TCP_NODELAY); without it every
    # one on a kept connection waits 40 ms for the acknowledgement of its own headers.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
    except OSError:
        listening.close()
        raise
    return listening
