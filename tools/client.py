"""The little HTTP that the demo needs, with the standard library alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any


class Refused(Exception):
    """The service answered with a problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('title')}: {problem.get('detail')}")
        self.status = status
        self.problem = problem


def get(url: str) -> bytes:
    """The body of a GET; raises Refused for a problem."""
    return _send(urllib.request.Request(url))  # noqa: S310 -- the demo's own loopback address


def get_json(url: str) -> Any:
    """The JSON of a GET."""
    return json.loads(get(url))


def post_analysis(base: str, request: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """The finished analysis of the files, waited for."""
    boundary = uuid.uuid4().hex
    body = bytearray()
    for name, filename, kind, content in [
        ("request", None, "application/json", json.dumps(request).encode()),
        *(("files", f.name, "application/octet-stream", f.read_bytes()) for f in files),
    ]:
        where = f'; filename="{filename}"' if filename else ""
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{where}\r\n'.encode()
        body += f"Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    answer = _send(
        urllib.request.Request(  # noqa: S310 -- the demo's own loopback address
            f"{base}/api/v1/analyses",
            data=bytes(body),
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Prefer": "wait=60",
            },
        )
    )
    finished: dict[str, Any] = json.loads(answer)
    return finished


def _send(request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:  # noqa: S310 -- loopback
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        raise Refused(error.code, json.loads(error.read() or b"{}")) from error
