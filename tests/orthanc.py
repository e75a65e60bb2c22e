"""A real PACS for a test: Debian's Orthanc over an empty folder, DICOMweb and DIMSE on loopback."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.judges import judge

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "sonodose", "a password"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Orthanc:
    """Where it listens."""

    http_port: int
    dicom_port: int

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def get(self, path: str) -> bytes:
        """The answer of its REST interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", headers={"Authorization": BASIC}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
            found: bytes = answer.read()
            return found

    def send(self, method: str, path: str, body: Any) -> Any:
        """The JSON answer of its REST interface to JSON, or to the bytes of a file."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}",
            data=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Authorization": BASIC},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
            return json.loads(answer.read() or b"null")

    def instances(self) -> list[str]:
        """Its own identifiers of everything stored."""
        found: list[str] = json.loads(self.get("/instances"))
        return found

    def file(self, identifier: str) -> bytes:
        """A stored instance as a DICOM file."""
        return self.get(f"/instances/{identifier}/file")

    def files(self) -> dict[str, bytes]:
        """Every stored instance as a file, by its SOP Instance UID."""
        found = {}
        for identifier in self.instances():
            tags: dict[str, Any] = json.loads(self.get(f"/instances/{identifier}"))
            found[tags["MainDicomTags"]["SOPInstanceUID"]] = self.file(identifier)
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc(folder: Path, *, dicom_port: int | None = None) -> Iterator[Orthanc]:
    """A running Orthanc that stores what it gets; skipped by name where it is not installed."""
    program = judge("Orthanc")
    server = Orthanc(http_port=free_port(), dicom_port=dicom_port or free_port())
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "Name": "judge",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": server.http_port,
        "DicomPort": server.dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomAlwaysAllowStore": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, str(path)], stdout=log, stderr=log)  # noqa: S603 -- Orthanc
        try:
            end = time.monotonic() + 30
            while True:
                with suppress(OSError):
                    server.get("/system")
                    break
                assert process.poll() is None, (folder / "log.txt").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield server
        finally:
            process.kill()
            process.wait()
