"""Real HTTP servers on this machine that take what the service sends, and keep it."""

from __future__ import annotations

import email
import email.policy
import io
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydicom import dcmread


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def instance(self) -> bytes:
        """The DICOM file within a STOW-RS request, parsed by the library's own MIME parser."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        (part,) = message.iter_parts()
        assert part.get_content_type() == "application/dicom"
        # The parser takes bytes for lines: what stands between the boundaries is the file.
        boundary = message.get_boundary()
        return self.body.split(b"\r\n\r\n", 1)[1].rsplit(f"\r\n--{boundary}--".encode(), 1)[0]

    @property
    def sop_instance_uid(self) -> str:
        return str(dcmread(io.BytesIO(self.instance), stop_before_pixels=True).SOPInstanceUID)


@dataclass
class Receiver:
    """What came, and how the next request is answered."""

    address: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], int] = lambda _: 200
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A server that answers every POST as its `answer` says."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            named = {key.lower(): value for key, value in self.headers.items()}
            received = Received(self.path, named, body)
            receiver.received.append(received)
            status = receiver.answer(received)
            try:
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # the sender was killed meanwhile
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.address = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
