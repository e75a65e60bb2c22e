"""The DICOM listener: who may call, C-ECHO, C-STORE straight to the disk; queries stand beside.

It runs in a process of its own, under `serve` or alone, over the same store: long receptions
cost the HTTP side nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from errno import EDQUOT, ENOSPC
from pathlib import Path
from socketserver import BaseServer
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
    RLELossless,
)
from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    Verification,
    register_uid,
    uid_to_service_class,
)
from pynetdicom.transport import (
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from api.dimse_query import QUERY_HANDLERS, add_query_contexts
from app.errors import AppError, DiskFull, InstanceConflict, RequestConflict
from app.intake.archive import keep_instance
from app.intake.examine import Examined, Upload, examine_objects
from app.intake.reception import Reception
from app.settings import LOOPBACK, Settings
from app.store.arrivals import DIMSE
from app.store.blobs import Incoming
from imaging.dicom.header import RETIRED_US
from imaging.dicom.instance import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from imaging.dicom.storage import STORAGE_CLASSES
from imaging.errors import ImagingError, TooLarge, UnknownClass

LOSSLESS = (
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGLosslessSV1,
    JPEGLossless,
    RLELossless,
)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
PLAIN = (
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)
SYNTAXES: tuple[str, ...] = (*LOSSLESS, *LOSSY, *MPEGTransferSyntaxes, *PLAIN)
"""In our order of choice, which decides where a sender offers several in one context: as it is
stored before uncompressed, and implicit, which forgets the types, last."""

SUCCESS = 0x0000
COERCED = 0xB000
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
NOT_UNDERSTOOD = 0xC000
CONFLICT = 0xC111
CLASS_NOT_SUPPORTED = 0x0122
SPACE_EVERY_BYTES = 16 << 20
IDLE_AFTER_S = 2.0
BUSY_DELAY_S, IDLE_DELAY_S = 0.001, 0.1

log = logging.getLogger(__name__)


class Listener:
    """The listening server over the store of these reception."""

    def __init__(self, reception: Reception) -> None:
        settings = reception.settings
        if settings.dimse_host not in LOOPBACK and not settings.dimse_peers:
            raise RequestConflict(
                f"{settings.dimse_host} can be reached from other machines, and no DICOM peers "
                "are listed.",
                remedy="List who may call in SONODOSE_DIMSE_PEERS, or listen on 127.0.0.1.",
            )
        # What arrives is written where it will stay, so that keeping it is a rename.
        _config.STORE_RECV_CHUNKED_DATASET = True
        tempfile.tempdir = str(reception.blobs.staging)
        _config.LOG_HANDLER_LEVEL = "none"
        ae = AE(settings.dimse_ae)
        ae.implementation_class_uid = UID(IMPLEMENTATION_UID)
        ae.implementation_version_name = IMPLEMENTATION_NAME
        ae.require_called_aet = True
        ae.maximum_associations = settings.dimse_max_associations
        ae.maximum_pdu_size = settings.dimse_max_pdu_bytes
        ae.acse_timeout = settings.dimse_acse_s
        ae.dimse_timeout = settings.dimse_reply_s
        ae.network_timeout = settings.dimse_idle_s
        ae.add_supported_context(Verification)
        for uid in _storage_classes():
            # Both roles: who fetches with C-GET is a storage SCP on its own association.
            ae.add_supported_context(uid, list(SYNTAXES), scu_role=True, scp_role=True)
        add_query_contexts(ae)
        self._server = _Server(
            ae,
            (settings.dimse_host, settings.dimse_port or 0),
            settings.dimse_ae,
            _Contexts(ae.supported_contexts),
            _tls(settings),
            evt_handlers=[
                (evt.EVT_REQUESTED, _check_peer, [settings]),
                (evt.EVT_PDU_RECV, _check_size, [reception]),
                (evt.EVT_CONN_CLOSE, _forget_partial),
                (evt.EVT_C_ECHO, lambda event: SUCCESS),
                (evt.EVT_C_STORE, _store, [reception]),
                *((event, handler, [reception]) for event, handler in QUERY_HANDLERS),
            ],
            request_handler=_Handler,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def serve(self) -> None:
        """Answers until `close` is called from another thread."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Takes no more calls, and ends those that are open."""
        BaseServer.shutdown(self._server)
        self._server.server_close()


class _Contexts(list[Any]):
    """What is offered to every caller: read alone, so that no call pays for a copy of its own."""

    def __deepcopy__(self, memo: object) -> _Contexts:
        return self


class _Server(ThreadedAssociationServer):
    """A server that shakes hands with nobody in the thread that takes the calls."""

    request_queue_size = 128
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = self.socket.accept()  # type: ignore[union-attr]  # it listens
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that stops in the middle of a PDU must not hold its thread for ever.
        client.settimeout(self.ae.network_timeout)
        if self.ssl_context is not None:
            client = self.ssl_context.wrap_socket(
                client, server_side=True, do_handshake_on_connect=False
            )
        return client, address


class _Handler(RequestHandler):
    """A call: its TLS handshake, in its own thread, and a socket that reads in large pieces."""

    def handle(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            try:
                self.request.do_handshake()
            except OSError as failed:
                log.warning("no TLS with %s: %s", self.client_address[0], failed)
                self.server.shutdown_request(self.request)
                return
        super().handle()

    def _create_association(self) -> Any:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # the plain socket's word that it is connected
        association.dul.socket = _Socket(association, client_socket=self.request)
        return association


class _Socket(AssociationSocket):
    """A socket that reads a PDU at once, takes none over the limit, and rests when idle.

    pynetdicom looks for news a thousand times a second in two threads an association: hundreds
    of idle ones would take a core. Here they look ten times a second until news comes.
    """

    def __init__(self, assoc: Any, client_socket: socket.socket) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._news_at = self._looked_at = time.monotonic()
        self.message_bytes = 0

    def recv(self, nr_bytes: int) -> bytearray:
        # An association request may be longer than a data PDU, which the peer was told about.
        if nr_bytes > max(self.assoc.ae.maximum_pdu_size, 1 << 20) + 6:
            raise OSError(f"a PDU of {nr_bytes} bytes is over the limit")
        data = bytearray(nr_bytes)
        view, read = memoryview(data), 0
        while read < nr_bytes:
            count = self.socket.recv_into(view[read:])  # type: ignore[union-attr]  # it is open
            if not count:
                view.release()
                return data[:read]
            read += count
        view.release()
        return data

    @property
    def ready(self) -> bool:
        found = super().ready
        checkpoint, now = self.assoc._reactor_checkpoint, time.monotonic()
        if found:
            self._news_at = now
            self.assoc.dul._run_loop_delay = BUSY_DELAY_S
            checkpoint.set()
        elif now - self._news_at > IDLE_AFTER_S:
            self.assoc.dul._run_loop_delay = IDLE_DELAY_S
            if now - self._looked_at > 1.0:
                # Once a second the association looks at its own time-outs.
                self._looked_at = now
                checkpoint.set()
            else:
                checkpoint.clear()
        return found

    def close(self) -> None:
        super().close()
        self.assoc._reactor_checkpoint.set()


def _storage_classes() -> list[str]:
    """What is both stored here and known to pynetdicom, which is taught the old ultrasound ones."""
    for number, uid in enumerate(RETIRED_US):
        register_uid(uid, f"RetiredUltrasoundImageStorage{number}", StorageServiceClass)
    return sorted(u for u in STORAGE_CLASSES if uid_to_service_class(u) is StorageServiceClass)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 and up (PS3.15 B.9 to B.12), None without; with a CA both sides show who they are."""
    if settings.dimse_tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.dimse_tls_cert, settings.dimse_tls_key)
    if settings.dimse_tls_ca is not None:
        context.load_verify_locations(settings.dimse_tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_peer(event: Event, settings: Settings) -> None:
    """Rejects a caller that is not listed with its AE title and its address."""
    if not settings.dimse_peers:
        return
    asked = event.assoc.requestor.primitive
    title = "" if asked is None else asked.calling_ae_title.strip()
    address = ipaddress.ip_address(event.assoc.requestor.address.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(peer.ae.strip() == title and address in peer.address for peer in settings.dimse_peers):
        return
    log.warning("rejected %r at %s, which is not listed", title, address)
    event.assoc.acse.send_reject(0x01, 0x01, 0x03)
    event.assoc.kill()


def _check_size(event: Event, reception: Reception) -> None:
    """Aborts an association whose message is over the limit or whose bytes find no room."""
    counted: _Socket = event.assoc.dul.socket  # type: ignore[assignment]  # made in our server
    if event.assoc.dimse.message is None:
        counted.message_bytes = 0
    before = counted.message_bytes
    counted.message_bytes = now = before + event.pdu.pdu_length
    if now > reception.settings.max_file_bytes:
        log.warning("aborted %s: an object over the limit", event.assoc.requestor.address)
        event.assoc.abort()
    elif before // SPACE_EVERY_BYTES != now // SPACE_EVERY_BYTES:
        try:
            reception.blobs.check_space()
        except DiskFull:
            event.assoc.abort()


def _forget_partial(event: Event) -> None:
    """Removes what arrived of an object whose association ended in the middle of it."""
    message = event.assoc.dimse.message
    if message is not None and message._data_set_file:
        with contextlib.suppress(OSError):
            message._data_set_file.close()
            Path(message._data_set_file.name).unlink()


def _store(event: Event, reception: Reception) -> Dataset:
    """The status of a C-STORE (PS3.4 B.2.3): the object is durable before it is Success."""
    request = event.request
    assert isinstance(request, C_STORE)  # noqa: S101 -- bound to C-STORE alone
    try:
        with _arrived(event.dataset_path, reception) as incoming:
            return _keep(request, incoming, event.assoc.requestor.ae_title.strip(), reception)
    except DiskFull as full:
        return _status(OUT_OF_RESOURCES, full.message)
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        return _status(OUT_OF_RESOURCES, "The disk is full.")
    except TooLarge as refused:
        return _status(OUT_OF_RESOURCES, refused.message)
    except UnknownClass as refused:
        return _status(CLASS_NOT_SUPPORTED, refused.message)
    except InstanceConflict as refused:
        return _status(CONFLICT, refused.message)
    except (ImagingError, AppError) as refused:
        return _status(NOT_UNDERSTOOD, refused.message)


def _keep(request: C_STORE, incoming: Incoming, caller: str, reception: Reception) -> Dataset:
    uid = str(request.AffectedSOPInstanceUID)
    (found,) = examine_objects(
        [Upload(name=f"{uid}.dcm", incoming=incoming)],
        door=reception.door,
        limits=reception.limits,
    )
    if not isinstance(found, Examined):
        raise found
    who = found.facts.identity
    if (
        who is None
        or who.sop_instance_uid != uid
        or who.sop_class_uid != str(request.AffectedSOPClassUID)
    ):
        return _status(MISMATCH, "The data set has another SOP class or instance UID.")
    kept = keep_instance(
        found,
        principal=f"{DIMSE}{caller}",
        store=reception.store,
        blobs=reception.blobs,
        door=reception.door,
        settings=reception.settings,
    )
    if kept.outcome == "stored_beside" and not kept.same_pixels:
        return _status(COERCED, "Stored beside another image of the same UID.")
    return _status(SUCCESS)


@contextlib.contextmanager
def _arrived(path: Path, reception: Reception) -> Iterator[Incoming]:
    reception.blobs.check_space()
    with reception.blobs.adopt(path) as incoming:
        yield incoming


def _status(code: int, comment: str = "") -> Dataset:
    status = Dataset()
    status.Status = code
    if comment:
        # LO (PS3.5 table 6.2-1): 64 characters of the default repertoire.
        status.ErrorComment = comment.encode("ascii", "replace").decode()[:64].replace("\\", "/")
    return status
