"""DICOM audit messages over syslog: what is sent, by which wire, and that nobody waits for it."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.delivery.audit_syslog import EVENTS, AuditSender, event_of, message_of, subject_of
from app.settings import Settings
from app.store import audit
from app.store.database import Store
from app.store.rows import AnalysisRow, AuditRow, InstanceRow, SourceRow
from tests.app.conftest import fresh_database

NAME = "A < B & \"C\" 'ü' \x07"
CODED = {"csd-code", "codeSystemName", "originalText"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    given = {"data_dir": tmp_path, **fresh_database()}
    found = Store(Settings(**given).database)
    found.migrate()
    yield found
    found.close()


def write(store: Store, action: str, subject: str = "", **detail: Any) -> None:
    entry = audit.AuditEntry(principal=NAME, action=action, subject=subject, detail=detail)
    with store.write() as session:
        audit.append(session, [entry])


def rows_of(store: Store) -> list[AuditRow]:
    with store.read() as session:
        return list(session.scalars(audit.select(AuditRow).order_by(AuditRow.seq)))


def check_message(xml: str) -> Any:
    """The message, held to the schema of PS3.15 A.5.1.1: order, attributes, values."""
    root = ElementTree.fromstring(xml)  # noqa: S314 -- reads what we wrote ourselves
    assert root.tag == "AuditMessage"
    order = [child.tag for child in root]
    assert re.fullmatch(
        r"EventIdentification( ActiveParticipant)+ AuditSourceIdentification"
        r"( ParticipantObjectIdentification)*",
        " ".join(order),
    ), order
    event = root[0]
    assert [c.tag for c in event] in (["EventID"], ["EventID", "EventTypeCode"])
    assert event.attrib["EventActionCode"] in "CRUDE"
    assert event.attrib["EventOutcomeIndicator"] in ("0", "4", "8", "12")
    assert dt.datetime.fromisoformat(event.attrib["EventDateTime"]).tzinfo is not None
    for coded in (*event, *root.iter("RoleIDCode"), *root.iter("ParticipantObjectIDTypeCode")):
        assert set(coded.attrib) == CODED
    for person in root.iter("ActiveParticipant"):
        assert person.attrib["UserIsRequestor"] in ("true", "false")
        assert person.attrib["UserID"]
    source = root.find("AuditSourceIdentification")
    assert source is not None
    assert source.attrib["AuditSourceID"] == "sonodose"
    assert source[0].attrib == {"csd-code": "4"}
    for found in root.iter("ParticipantObjectIdentification"):
        tags = [child.tag for child in found]
        assert tags[:2] == ["ParticipantObjectIDTypeCode", "ParticipantObjectName"]
        assert set(tags[2:]) <= {"ParticipantObjectDetail"}
        for detail in found.iter("ParticipantObjectDetail"):
            base64.b64decode(detail.attrib["value"], validate=True)
    return root


@pytest.mark.parametrize(
    ("action", "detail", "code", "doing", "outcome"),
    [
        ("session.began", {}, "110114", "E", "0"),
        ("GET /api/v1/analyses", {"status": 401}, "110114", "E", "4"),
        ("POST /api/v1/analyses/{analysis_id}/confirmation", {"status": 403}, "110113", "E", "4"),
        ("GET /api/v1/analyses", {"status": 200}, "110112", "E", "0"),
        ("GET /api/v1/analyses/{analysis_id}/seg.dcm", {"status": 200}, "110103", "R", "0"),
        ("analysis.submitted", {}, "110104", "C", "0"),
        ("analysis.revised", {}, "110103", "U", "0"),
        ("analysis.confirmed", {}, "110103", "U", "0"),
        ("analysis.exported", {}, "110106", "R", "0"),
        ("analysis.deleted", {}, "110105", "D", "0"),
        ("delivery.sent", {}, "110104", "R", "0"),
        ("instance.stored", {}, "110104", "C", "0"),
        ("service.started", {}, "110100", "E", "0"),
    ],
)
def test_every_deed_has_its_message(
    store: Store, action: str, detail: dict[str, Any], code: str, doing: str, outcome: str
) -> None:
    """Who saw, sent, changed, confirmed, exported and deleted: each its event of PS3.15 A.5.3."""
    write(store, action, "0" * 32, **detail)
    row = rows_of(store)[0]
    event = event_of(row.action, detail.get("status"))
    assert event is not None
    with store.read() as session:
        xml = message_of(row, event, subject_of(session, row.subject), source="sonodose")
    root = check_message(xml)
    assert root[0][0].attrib["csd-code"] == code
    assert root[0].attrib["EventActionCode"] == doing
    assert root[0].attrib["EventOutcomeIndicator"] == outcome
    assert root[1].attrib == {"UserID": NAME.replace("\x07", ""), "UserIsRequestor": "true"}
    told = base64.b64decode(next(root.iter("ParticipantObjectDetail")).attrib["value"]).decode()
    assert told == f"{row.seq} {action} {row.digest}"


def test_what_concerns_nobody_is_not_sent() -> None:
    """Looking at the tables, a failed request, a change told by its own entry: no message."""
    for action, status in (
        ("GET /api/v1/products", 200),
        ("GET /api/v1/analyses/{analysis_id}", 404),
        ("POST /api/v1/analyses", 202),
        ("nothing.known", None),
    ):
        assert event_of(action, status) is None
    assert all(event.action in "CRUDE" for event in EVENTS.values())


def test_the_message_names_study_and_patient_and_the_chain_does_not(store: Store) -> None:
    """The standard wants both in the message; they are looked up, and are nowhere in the chain."""
    at, name = dt.datetime.now(dt.UTC), "a" * 32
    with store.write() as session:
        session.add(
            AnalysisRow(
                id=name,
                created_at=at,
                updated_at=at,
                created_by="x",
                state="draft",
                revision=1,
                muscle="m",
                side="left",
                patient_id="P-77",
            )
        )
        session.add(
            InstanceRow(
                sha256="b" * 64,
                size_bytes=1,
                received_at=at,
                received_from="x",
                study_instance_uid="1.2.3.77",
                facts={},
                archived=False,
            )
        )
        session.flush()
        session.add(SourceRow(analysis_id=name, position=0, sha256="b" * 64, name="x"))
    write(store, "analysis.confirmed", name)
    row = rows_of(store)[0]
    event = event_of(row.action, None)
    assert event is not None
    with store.read() as session:
        root = check_message(message_of(row, event, subject_of(session, name), source="sonodose"))
    ids = {
        found[0].attrib["csd-code"]: found.attrib["ParticipantObjectID"]
        for found in root.iter("ParticipantObjectIdentification")
    }
    assert ids == {"110180": "1.2.3.77", "2": "P-77", "12": name}
    assert "P-77" not in f"{row.detail}{row.subject}"


class Repository:
    """An audit repository on a free port: keeps what comes."""

    def __init__(self, kind: str, context: ssl.SSLContext | None = None) -> None:
        self.got: list[bytes] = []
        self._context, self._done = context, threading.Event()
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
        )
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        if kind != "udp":
            self._socket.listen()
        self._thread = threading.Thread(target=self._datagrams if kind == "udp" else self._streams)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def _datagrams(self) -> None:
        while not self._done.is_set():
            try:
                self.got.append(self._socket.recv(65536))
            except TimeoutError:
                continue

    def _streams(self) -> None:
        while not self._done.is_set():
            try:
                wire, _ = self._socket.accept()
            except TimeoutError:
                continue
            wire.settimeout(0.1)
            if self._context is not None:
                wire.settimeout(5)
                wire = self._context.wrap_socket(wire, server_side=True)
                wire.settimeout(0.1)
            with wire:
                self._read(wire)

    def _read(self, wire: socket.socket) -> None:
        held = b""
        while not self._done.is_set():
            try:
                data = wire.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            held += data
            while (found := re.match(rb"(\d+) ", held)) is not None:
                end = found.end() + int(found[1])
                if len(held) < end:
                    break
                self.got.append(held[found.end() : end])
                held = held[end:]


@contextmanager
def sending(store: Store, folder: Path, url: str, **more: Any) -> Iterator[AuditSender]:
    sender = AuditSender(store, Settings(data_dir=folder, audit_syslog=url, **more))
    sender.start()
    try:
        yield sender
    finally:
        sender.close()


def wait_for(repository: Repository, count: int) -> None:
    until = time.monotonic() + 20
    while len(repository.got) < count and time.monotonic() < until:
        time.sleep(0.02)
    assert len(repository.got) == count


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of its own, and the file to trust."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    trusted, secret = folder / "ca.pem", folder / "key.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return context, trusted


@pytest.mark.parametrize("kind", ["udp", "tcp", "tls"])
def test_messages_arrive_as_rfc_5424(store: Store, tmp_path: Path, kind: str) -> None:
    """Over UDP, TCP and TLS: one line of syslog, its MSGID the standard's, the XML behind a BOM."""
    context, trusted = certificate(tmp_path) if kind == "tls" else (None, None)
    repository = Repository(kind, context)
    try:
        url = f"{kind}://127.0.0.1:{repository.port}"
        with sending(store, tmp_path, url, audit_syslog_ca=trusted):
            write(store, "analysis.confirmed", "0" * 32)
            write(store, "GET /api/v1/products", status=200)
            write(store, "session.ended")
            wait_for(repository, 2)
    finally:
        repository.close()
    for line in repository.got:
        head, _, xml = line.partition(b"\xef\xbb\xbf")
        assert re.fullmatch(rb"<85>1 \S+ \S+ sonodose \d+ DICOM\+RFC3881 - ", head)
        check_message(xml.decode())


def test_a_silent_repository_loses_nothing_and_holds_up_nobody(
    store: Store, tmp_path: Path
) -> None:
    """Entries wait in the chain; another process sends on where the first one stopped."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    write(store, "session.began")
    with sending(store, tmp_path, url):
        began = time.monotonic()
        for _ in range(20):
            write(store, "analysis.confirmed", "0" * 32)
        assert time.monotonic() - began < 10
    repository = Repository("tcp")
    try:
        (tmp_path / "audit_syslog.sent").write_text("1", "ascii")
        with sending(store, tmp_path, f"tcp://127.0.0.1:{repository.port}"):
            wait_for(repository, 20)
    finally:
        repository.close()
    assert (tmp_path / "audit_syslog.sent").read_text("ascii") == "21"


def test_an_untrusted_repository_gets_nothing(store: Store, tmp_path: Path) -> None:
    """A certificate that nobody vouches for ends the call before a word is said."""
    context, _ = certificate(tmp_path)
    sender = AuditSender(store, Settings(data_dir=tmp_path, audit_syslog="tls://127.0.0.1:1"))
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    def answer() -> None:
        wire, _ = listening.accept()
        with wire, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(wire, server_side=True)

    thread = threading.Thread(target=answer)
    thread.start()
    sender = AuditSender(store, Settings(data_dir=tmp_path, audit_syslog=f"tls://127.0.0.1:{port}"))
    with pytest.raises(ssl.SSLCertVerificationError):
        sender._send(b"x")
    thread.join(10)
    listening.close()
