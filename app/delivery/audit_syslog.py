"""The audit as DICOM audit messages (PS3.15 A.5) over syslog (RFC 5424), to a site's repository.

A thread reads the chain after what it sent last and sends on; nothing waits for it. The number of
the last entry that went out is kept in a file, so a silent repository or a restart loses none
over TCP and TLS (UDP promises nothing). Messages name study and patient, as the standard demands,
looked up when they are sent: the chain itself holds neither.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import platform
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store.database import Store
from app.store.rows import AnalysisRow, AuditRow, InstanceRow, SourceRow, StudyRow

LOOK_S = 1.0
LONGEST_PAUSE_S = 60.0
BATCH = 200
CONNECT_S = 5.0
FACILITY, SEVERITY = 10, 5
"""security/authorization, notice: PS3.15 A.6.2 leaves both, and names 10."""
MSGID: Final = "DICOM+RFC3881"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an entry is to PS3.15 A.5.3: its code (CID 400), its type (CID 401), C, R, U, D or E."""

    code: str
    name: str
    action: str
    type_code: str | None = None
    type_name: str | None = None


ACCESSED = ("110103", "DICOM Instances Accessed")
TRANSFERRED = ("110104", "DICOM Instances Transferred")
LOGIN = Event(
    code="110114",
    name="User Authentication",
    action="E",
    type_code="110122",
    type_name="Login",
)
RESTRICTED = Event(
    code="110113",
    name="Security Alert",
    action="E",
    type_code="110132",
    type_name="Use of Restricted Function",
)
LOOK = Event(code=ACCESSED[0], name=ACCESSED[1], action="R")
QUERY = Event(code="110112", name="Query", action="E")
EVENTS: Mapping[str, Event] = {
    "service.started": Event(
        code="110100",
        name="Application Activity",
        action="E",
        type_code="110120",
        type_name="Application Start",
    ),
    "service.stopped": Event(
        code="110100",
        name="Application Activity",
        action="E",
        type_code="110121",
        type_name="Application Stop",
    ),
    "session.began": LOGIN,
    "session.ended": Event(
        code="110114",
        name="User Authentication",
        action="E",
        type_code="110123",
        type_name="Logout",
    ),
    "analysis.exported": Event(code="110106", name="Export", action="R"),
    "analysis.deleted": Event(code="110105", name="DICOM Study Deleted", action="D"),
    "analysis.submitted": Event(code=TRANSFERRED[0], name=TRANSFERRED[1], action="C"),
    "analysis.": Event(code=ACCESSED[0], name=ACCESSED[1], action="U"),
    "instance.": Event(code=TRANSFERRED[0], name=TRANSFERRED[1], action="C"),
    "delivery.": Event(code=TRANSFERRED[0], name=TRANSFERRED[1], action="R"),
}
"""By action, or by its beginning where that ends in a dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an entry is about, looked up when it is sent; empty where it is gone or was none."""

    studies: tuple[str, ...] = ()
    patient_id: str | None = None


def event_of(action: str, status: int | None) -> Event | None:
    """The event of an entry; None for what PS3.15 A.5.3 has no message for.

    A request is told by its method and route: seeing a study is an access, a list is a query, and
    a change is told by the entry that made it. Who was refused is told whatever it was.
    """
    if status in (401, 403):
        return LOGIN if status == 401 else RESTRICTED
    method, _, route = action.partition(" ")
    if route:
        if method not in ("GET", "HEAD") or status is None or status >= 400:
            return None
        if "{" in route and "/problems/" not in route:
            return LOOK
        return QUERY if route.endswith(("/analyses", "/studies", "/series", "/instances")) else None
    return EVENTS.get(action) or EVENTS.get(f"{action.partition('.')[0]}.")


def message_of(row: AuditRow, event: Event, subject: Subject, *, source: str) -> str:
    """The audit message of an entry, XML by the schema of PS3.15 A.5.1."""
    detail: dict[str, Any] = json.loads(row.detail)
    status = detail.get("status")
    # PS3.15 A.5.2: 0 success, 4 minor failure, 8 serious failure.
    outcome = "0" if status is None or status < 400 else "4" if status < 500 else "8"
    identification = _tag(
        "EventIdentification",
        {
            "EventActionCode": event.action,
            "EventDateTime": row.at,
            "EventOutcomeIndicator": outcome,
        },
        _coded("EventID", event.code, event.name),
        ""
        if event.type_code is None
        else _coded("EventTypeCode", event.type_code, event.type_name or ""),
    )
    # CID 402: who brings is the source, who takes the destination.
    roles = {
        TRANSFERRED[0]: ("110153", "Source Role ID", "110152", "Destination Role ID"),
        "110106": ("110152", "Destination Role ID", "110153", "Source Role ID"),
    }.get(event.code)
    requestor = _participant(row.principal, True, roles[:2] if roles else None)
    own = ("110150", "Application")
    application = _participant(source, False, roles[2:] if roles else own)
    source_of = _tag(
        "AuditSourceIdentification",
        {"AuditSourceID": source},
        # PS3.15 A.5.1: 4 is an application server process.
        _tag("AuditSourceTypeCode", {"csd-code": "4"}),
    )
    return '<?xml version="1.0" encoding="UTF-8"?>' + _tag(
        "AuditMessage",
        {},
        identification,
        requestor,
        application,
        source_of,
        *_objects(row, event, subject),
    )


def _objects(row: AuditRow, event: Event, subject: Subject) -> Iterator[str]:
    for study in subject.studies:
        yield _object(study, "2", "3", ("110180", "DCM", "Study Instance UID"))
    if subject.patient_id:
        yield _object(subject.patient_id, "1", "1", ("2", "RFC-3881", "Patient Number"))
    if row.subject:
        yield _object(row.subject, "2", "3", ("12", "RFC-3881", "URI"), entry=row)
    elif event is QUERY or event is RESTRICTED:
        yield _object(row.action, "2", "3", ("12", "RFC-3881", "URI"), entry=row)


def _object(
    name: str,
    kind: str,
    role: str,
    id_type: tuple[str, str, str],
    entry: AuditRow | None = None,
) -> str:
    code, scheme, meaning = id_type
    # The chain's own number and hash: whoever reads the repository can find the entry again.
    more = (
        ""
        if entry is None
        else _tag(
            "ParticipantObjectDetail",
            {"type": "audit entry", "value": _base64(f"{entry.seq} {entry.action} {entry.digest}")},
        )
    )
    return _tag(
        "ParticipantObjectIdentification",
        {
            "ParticipantObjectID": name,
            "ParticipantObjectTypeCode": kind,
            "ParticipantObjectTypeCodeRole": role,
        },
        _tag(
            "ParticipantObjectIDTypeCode",
            {"csd-code": code, "codeSystemName": scheme, "originalText": meaning},
        ),
        _tag("ParticipantObjectName", {}, escape(name)),
        more,
    )


def _participant(name: str, requestor: bool, role: tuple[str, ...] | None) -> str:
    return _tag(
        "ActiveParticipant",
        {"UserID": name, "UserIsRequestor": "true" if requestor else "false"},
        "" if role is None else _coded("RoleIDCode", role[0], role[1]),
    )


def _coded(name: str, code: str, meaning: str) -> str:
    return _tag(name, {"csd-code": code, "codeSystemName": "DCM", "originalText": meaning})


def _tag(name: str, attributes: Mapping[str, str], *inside: str) -> str:
    said = "".join(f' {key}="{escape(_plain(value))}"' for key, value in attributes.items())
    body = "".join(inside)
    return f"<{name}{said}>{body}</{name}>" if body else f"<{name}{said}/>"


def _plain(text: str) -> str:
    """XML 1.0 has no place for control characters."""
    return "".join(c for c in text if c >= " ")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def framed(xml: str, *, at: str, host: str, source: str) -> bytes:
    """The RFC 5424 line of a message; PS3.15 A.6 names its MSGID."""
    head = f"<{FACILITY * 8 + SEVERITY}>1 {at} {host} {source} {os.getpid()} {MSGID} - "
    return head.encode("ascii", "replace") + b"\xef\xbb\xbf" + xml.encode()


class AuditSender:
    """The thread that sends what the audit grew by."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._target = urlsplit(settings.audit_syslog or "")
        self._kept = settings.data_dir / "audit_syslog.sent"
        self._stop = threading.Event()
        self._wire: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)

    def start(self) -> None:
        """Begins to send, from what was sent last, or from now on the first time."""
        if not self._target.hostname:
            return
        if not self._kept.exists():
            with self._store.read() as session:
                self._keep(session.scalar(select(func.max(AuditRow.seq))) or 0)
        self._thread.start()

    def close(self) -> None:
        """Sends what is there, unless the repository is silent, and ends."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * CONNECT_S)
        self._hang_up()

    def _run(self) -> None:
        pause = LOOK_S
        while True:
            ending = self._stop.wait(pause)
            try:
                while self._send_some():
                    pass
                pause = LOOK_S
            except Exception as error:
                # Whatever it is, the entries are safe in the chain: they go out later.
                self._hang_up()
                pause = min(2 * pause, LONGEST_PAUSE_S)
                log.warning("the audit repository cannot be reached: %s", type(error).__name__)
            if ending:
                return

    def _send_some(self) -> bool:
        """Sends a batch; True if there may be more."""
        last = int(self._kept.read_text("ascii"))
        with self._store.read() as session:
            rows = session.scalars(
                select(AuditRow).where(AuditRow.seq > last).order_by(AuditRow.seq).limit(BATCH)
            ).all()
            lines = [(row.seq, self._line(session, row)) for row in rows]
        for seq, line in lines:
            if line is not None:
                self._send(line)
            last = seq
        if lines:
            self._keep(last)
        return len(lines) == BATCH

    def _line(self, session: Session, row: AuditRow) -> bytes | None:
        event = event_of(row.action, json.loads(row.detail).get("status"))
        if event is None:
            return None
        source = self._settings.audit_source
        xml = message_of(row, event, subject_of(session, row.subject), source=source)
        return framed(xml, at=row.at, host=platform.node() or "-", source=source)

    def _send(self, line: bytes) -> None:
        if self._wire is None:
            self._wire = self._connected()
        # RFC 6587 3.4.1 and RFC 5425 4.3: over a stream each message says its length first.
        whole = line if self._target.scheme == "udp" else b"%d %s" % (len(line), line)
        self._wire.sendall(whole)

    def _connected(self) -> socket.socket:
        host, port = self._target.hostname or "", self._target.port or 6514
        if self._target.scheme == "udp":
            kind = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            wire = socket.socket(kind[0], socket.SOCK_DGRAM)
            wire.connect(kind[4])
            return wire
        wire = socket.create_connection((host, port), CONNECT_S)
        if self._target.scheme == "tls":
            ca = self._settings.audit_syslog_ca
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            return context.wrap_socket(wire, server_hostname=host)
        return wire

    def _hang_up(self) -> None:
        if self._wire is not None:
            with contextlib.suppress(OSError):
                self._wire.close()
            self._wire = None

    def _keep(self, seq: int) -> None:
        made = self._kept.with_suffix(".new")
        made.write_text(str(seq), "ascii")
        made.replace(self._kept)


def subject_of(session: Session, subject: str) -> Subject:
    """Studies and patient of an analysis, or the study that the entry names itself."""
    row = session.get(AnalysisRow, subject) if subject else None
    if row is None:
        instance = session.get(InstanceRow, subject) if len(subject) == 64 else None
        named = subject if instance is None else instance.study_instance_uid or ""
        study = session.get(StudyRow, named)
        return Subject(
            studies=(named,) if "." in named else (),
            patient_id=None if study is None else study.patient_id,
        )
    studies: Sequence[str | None] = session.scalars(
        select(InstanceRow.study_instance_uid)
        .join(SourceRow, SourceRow.sha256 == InstanceRow.sha256)
        .where(SourceRow.analysis_id == subject)
        .distinct()
    ).all()
    return Subject(
        studies=tuple(sorted(study for study in studies if study)), patient_id=row.patient_id
    )
