"""A service among clients that mean harm: it refuses in problem documents, and serves others."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from api.main import create_app
from api.protocol import protocol_of
from app.errors import TookTooLong, WorkerDied
from app.jobs.processes import Door
from app.services import open_services
from app.settings import Settings
from tests.api.conftest import ANALYSES, Serve, assert_problem, contents, parts_of, post
from tests.app import studies, workloads

SLOW_S = 0.8
RELATED = 'multipart/related; type="application/dicom"; boundary=b'


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Host and port of a service behind a real socket that waits for nobody long."""
    given = Settings(
        data_dir=tmp_path_factory.mktemp("data"), workers=1, drain_s=0, slow_client_s=SLOW_S
    )
    app = create_app(open_services(given, run=workloads.quick, warm=None))
    config = uvicorn.Config(app, port=0, log_level="critical", http=protocol_of(SLOW_S))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[:2]
    server.should_exit = True
    thread.join(30)


def answer_to(address: tuple[str, int], sent: bytes) -> tuple[int, dict[str, object]]:
    """(status, problem) of what comes back for these bytes, until the connection is closed."""
    with socket.create_connection(address, timeout=30) as wire:
        wire.sendall(sent)
        got = b""
        while piece := wire.recv(65_536):
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, got
    found = re.match(rb"HTTP/1.1 (\d+)", head)
    assert found is not None
    return int(found[1]), json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 408, "too_slow"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", 408, "too_slow"),
        (
            b"POST /api/v1/what-if HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
            b"\r\nContent-Length: 100\r\n\r\n{",
            408,
            "too_slow",
        ),
        (
            b"POST /api/v1/analyses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disp",
            408,
            "too_slow",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 80_000 + b"\r\n\r\n", 400, "bad_request"),
    ],
    ids=["silence", "half a head", "half a body", "half a part", "TLS", "two hosts", "a long head"],
)
def test_who_is_slow_or_speaks_no_http(
    address: tuple[str, int], sent: bytes, status: int, code: str
) -> None:
    """The connection ends with a problem document that says why."""
    got, problem = answer_to(address, sent)
    assert (got, problem["code"]) == (status, code)
    assert problem["remedy"]


def test_a_body_drop_by_drop(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is no progress: the body is refused all the same."""
    monkeypatch.setattr("api.middleware.LEAST_BYTES_PER_S", 100_000)

    def drops() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(200):
            time.sleep(0.1)
            yield b"x"

    answer = httpx.post(
        f"http://{address[0]}:{address[1]}{ANALYSES}",
        content=drops(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        timeout=60,
    )
    assert_problem(answer, 408, "too_slow")


def test_slow_clients_do_not_keep_the_others_waiting(address: tuple[str, int]) -> None:
    """Beside two hundred half requests the next one is answered; they are gone in a moment."""
    half = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "
    slow = [socket.create_connection(address, timeout=30) for _ in range(200)]
    for wire in slow:
        wire.sendall(half)
    assert httpx.get(f"http://{address[0]}:{address[1]}/healthz").status_code == 200
    for wire in slow:
        assert wire.recv(100).startswith(b"HTTP/1.1 408")
        wire.close()


def test_who_does_not_read_the_answer_is_cut_off(address: tuple[str, int]) -> None:
    """An answer that nobody takes is dropped, with the connection."""
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(30)
        wire.connect(address)
        ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        wire.sendall(ask * 60)
        time.sleep(SLOW_S + 2)
        with suppress(ConnectionError):
            while wire.recv(1 << 20):
                pass  # what the two sockets still held; then it ends, and is not waited for


# ---- the door


@pytest.mark.parametrize("places", [1, 2])
def test_a_worker_s_death_costs_its_own_file(places: int) -> None:
    """Those who wait at the door get their answer, from a new worker where the first one died."""
    door = Door(memory_bytes=4 << 30, places=places)
    ended: list[object] = []

    def ask(work: object, *given: object, within_s: float = 60) -> None:
        try:
            ended.append(door.result(door.run(work, *given), within_s=within_s))
        except (WorkerDied, TookTooLong) as lost:
            ended.append(type(lost))

    asked = [
        threading.Thread(target=ask, args=(os._exit, 1)),
        threading.Thread(target=ask, args=(time.sleep, 0.1)),
        threading.Thread(target=ask, args=(time.sleep, 60), kwargs={"within_s": 1}),
        threading.Thread(target=ask, args=(time.sleep, 0.1)),
        threading.Thread(target=ask, args=(os._exit, 1)),
        threading.Thread(target=ask, args=(time.sleep, 0.1)),
    ]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    door.close()
    assert ended.count(WorkerDied) == 2
    assert ended.count(TookTooLong) == 1
    assert len([each for each in ended if each is None]) == 3


def test_a_worker_that_is_ended_from_outside_costs_no_file(tmp_path: Path) -> None:
    """Work whose worker dies is done once more, so that no good file is called damaged."""
    door = Door(memory_bytes=4 << 30, places=1)
    asked = door.run(workloads.reader_ended_once, str(tmp_path / "mark"))
    assert door.result(asked, within_s=60) == "read"
    door.close()


def test_a_worker_that_is_ended_while_it_starts_costs_no_file(tmp_path: Path) -> None:
    """A death before the file was touched is not the file's."""
    start = partial(workloads.reader_ended_once, str(tmp_path / "mark"))
    door = Door(memory_bytes=4 << 30, places=1, warm_up=start)
    asked = door.run(workloads.reader_ended_once, str(tmp_path / "mark"))
    assert door.result(asked, within_s=60) == "read"
    door.close()


# ---- bodies


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        (ANALYSES, "multipart/form-data; boundary=b", b"--b\r\n"),
        ("/api/v1/what-if", "application/json", b" "),
        ("/dicom-web/studies", RELATED, b"--b\r\n"),
    ],
)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_a_packed_body_is_not_unpacked(
    client: TestClient, path: str, kind: str, body: bytes, coding: str
) -> None:
    """A bomb in Content-Encoding is refused by its name, whatever it would inflate to."""
    bomb = gzip.compress(body + b"\0" * (8 << 20), 9)
    before = contents(client)
    answer = client.post(
        path, content=bomb, headers={"Content-Type": kind, "Content-Encoding": coding}
    )
    assert_problem(answer, 415, "unsupported_media_type")
    assert answer.headers["accept-encoding"] == "identity"
    assert contents(client) == before


# ---- what a file is


PROGRAMS = [b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b"%PDF-1.7", b"\n\n<script>", b"PK\x03\x04"]


def with_preamble(begin: bytes) -> bytes:
    data = studies.dicom_still()
    return begin + data[len(begin) :]


@pytest.mark.parametrize("begin", PROGRAMS)
def test_a_file_of_two_kinds_is_refused(client: TestClient, begin: bytes) -> None:
    """An image that is also a program, a document or a page is refused by both doors."""
    before = contents(client)
    problem = assert_problem(post(client, with_preamble(begin)), 422, "unreadable_file")
    assert "at once" in problem["detail"]
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + with_preamble(begin) + b"\r\n--b--"
    answer = client.post("/dicom-web/studies", content=body, headers={"Content-Type": RELATED})
    assert answer.status_code == 409
    assert contents(client) == before


@pytest.mark.parametrize("begin", [b"Example^Ada, born 1970", b"II*\0", b"\x90" * 128])
def test_a_preamble_is_not_kept(client: TestClient, begin: bytes) -> None:
    """Whatever stands before the mark of DICOM, what is stored has zeros there."""
    answer = post(client, with_preamble(begin), headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + with_preamble(begin) + b"\r\n--b--"
    stored = client.post("/dicom-web/studies", content=body, headers={"Content-Type": RELATED})
    assert stored.status_code == 200, stored.text
    blobs = parts_of(client).blobs
    kept = [blobs.read(digest) for digest in blobs.digests()]
    dicom = [data for data in kept if data[128:132] == b"DICM"]
    assert len(dicom) == 2
    assert all(data[:128] == bytes(128) for data in dicom)


def test_no_name_of_a_file_is_a_path(client: TestClient, tmp_path: Path) -> None:
    """UIDs and file names lead nowhere: every stored file is named by its own hash."""
    post(client, name="../../../../tmp/x.dcm", headers={"Prefer": "wait=30"})
    for name in ("..%2f..%2fetc", "C:\\windows\\x", "\u2025/\u2215x", "a\0b", "x" * 4000):
        post(client, name=name, headers={"Prefer": "wait=30"})
    root = parts_of(client).blobs.root
    files = [path for path in root.rglob("*") if path.is_file()]
    assert files
    assert all(re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{64}", str(p.relative_to(root))) for p in files)
    outside = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {
        p.name for p in files
    }
    assert not [name for name in outside if "sqlite" not in name]


# ---- memory


def test_a_job_without_memory_fails_alone(serve: Serve) -> None:
    """A worker that gets no more memory fails its own job in plain words, and does the next one."""
    client = serve(workloads.hungry_on_the_right)
    wait = {"Prefer": "wait=60"}
    assert post(client, headers=wait).json()["state"] == "draft"
    problem = assert_problem(post(client, headers=wait, side="right"), 413, "too_large")
    assert "memory" in problem["detail"]
    assert client.get(problem["analysis"]).json()["state"] == "failed"
    assert post(client, headers=wait).json()["state"] == "draft"


def test_a_header_that_takes_all_memory(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is too large, by both doors, nothing of it is kept, and the next client is served."""
    before = contents(client)
    with monkeypatch.context() as hungry:
        hungry.setattr("app.intake.examine.peek_all", workloads.hungry_reader)
        hungry.setattr("app.intake.examine.look_at_all", workloads.hungry_reader)
        problem = assert_problem(post(client), 413, "too_large")
        assert "memory" in problem["detail"]
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + studies.dicom_still()
        answer = client.post(
            "/dicom-web/studies", content=body + b"\r\n--b--", headers={"Content-Type": RELATED}
        )
        assert answer.status_code == 409
    assert contents(client) == before
    assert post(client).status_code == 202


def test_a_request_that_takes_all_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the service gets no more memory, the one who asked is told, and others are served."""
    client = serve()

    def hungry(*_: object, **__: object) -> None:
        bytearray(1 << 60)

    with monkeypatch.context() as once:
        once.setattr(parts_of(client).store, "read", hungry)
        problem = assert_problem(client.get(ANALYSES), 413, "too_large")
        assert "memory" in problem["detail"]
    assert client.get(ANALYSES).status_code == 200
