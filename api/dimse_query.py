"""Queries of the DICOM listener: C-FIND, C-GET, C-MOVE and storage commitment."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from app.errors import AppError
from app.intake.reception import Reception
from app.settings import Peer, Settings
from app.store import holdings
from app.store.audit import AuditEntry, append
from app.store.holdings import Held, Level
from app.store.rows import InstanceRow
from imaging.dicom.plain_syntax import decompress
from imaging.errors import ImagingError

MODELS = (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
)
LEVELS: tuple[Level, ...] = ("PATIENT", "STUDY", "SERIES", "IMAGE")
UID_OF: dict[str, str] = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
SUCCESS, PENDING, CANCELLED = 0x0000, 0xFF00, 0xFE00
NOT_THIS_MODEL, UNABLE, UNKNOWN_DESTINATION = 0xA900, 0xC000, 0xA801
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119
ALL_THERE, SOME_MISSING = 1, 2
TRIES, BETWEEN_TRIES_S = 3, 5.0
DECOMPRESS_S = 120.0
log = logging.getLogger(__name__)


def add_query_contexts(ae: AE) -> None:
    """What can be asked for; explicit before implicit."""
    for uid in MODELS:
        ae.add_supported_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


def _keys(event: Event) -> tuple[Level | None, Dataset, dict[str, str]]:
    """(level, identifier, the keys to match as text); no level for one that is none."""
    asked = event.identifier
    level = str(asked.get("QueryRetrieveLevel", "")).strip()
    keys = {}
    for element in asked:
        if element.keyword and element.VR != "SQ" and element.value not in (None, ""):
            value = element.value
            many = isinstance(value, list) or hasattr(value, "append")
            keys[element.keyword] = "\\".join(map(str, value)) if many else str(value)
    return (level if level in LEVELS else None), asked, keys


def _find(event: Event, reception: Reception) -> Iterator[tuple[int, Dataset | None]]:
    """The matches of a C-FIND (PS3.4 C.4.1), each with what it asked for and is known."""
    level, asked, keys = _keys(event)
    if level is None:
        yield NOT_THIS_MODEL, None
        return
    _note(reception, event, "dimse.find", level)
    told: set[tuple[str | None, str | None]] = set()
    with reception.store.read() as session:
        for held in holdings.search(session, level, keys):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            patient = (held.study.patient_id, held.study.issuer)
            if level == "PATIENT" and patient in told:
                continue
            told.add(patient)
            yield PENDING, _answer(session, held, level, asked, reception.settings)


def _answer(session: Any, held: Held, level: Level, asked: Dataset, settings: Settings) -> Dataset:
    known = _known(held)
    answer = Dataset()
    answer.SpecificCharacterSet = "ISO_IR 192"
    for element in asked:
        word = element.keyword
        if word == "ModalitiesInStudy":
            found: Any = holdings.modalities_of(session, held.study.study_instance_uid)
        elif word.startswith("NumberOf") and word.endswith("Instances"):
            counts = holdings.counts_of(session, held.study.study_instance_uid)
            of_series = held.series and counts.get(held.series.series_instance_uid, 0)
            found = of_series if word == "NumberOfSeriesRelatedInstances" else sum(counts.values())
        elif word == "NumberOfStudyRelatedSeries":
            found = len(holdings.counts_of(session, held.study.study_instance_uid))
        else:
            found = known.get(word)
        if word in ("SpecificCharacterSet", "") or element.VR == "SQ" or element.tag.group == 0:
            continue
        answer.add_new(element.tag, element.VR, "" if found is None else found)
    answer.QueryRetrieveLevel = level
    answer.RetrieveAETitle = settings.dimse_ae
    answer.InstanceAvailability = "ONLINE"
    return answer


def _known(held: Held) -> dict[str, Any]:
    """What the catalogue says by DICOM keyword."""
    study, series, instance = held.study, held.series, held.instance
    known: dict[str, Any] = {
        "PatientID": study.patient_id,
        "IssuerOfPatientID": study.issuer,
        "PatientName": study.patient_name,
        "PatientBirthDate": study.birth_date,
        "PatientSex": study.sex,
        "StudyInstanceUID": study.study_instance_uid,
        "StudyDate": study.study_date,
        "StudyTime": study.study_time,
        "AccessionNumber": study.accession,
        "StudyID": study.study_id,
        "StudyDescription": study.description,
        "ReferringPhysicianName": study.referring_physician,
    }
    if series is not None:
        known |= {
            "SeriesInstanceUID": series.series_instance_uid,
            "Modality": series.modality,
            "SeriesNumber": series.series_number,
            "SeriesDescription": series.description,
            "BodyPartExamined": series.body_part,
            "Laterality": series.laterality,
            "ProtocolName": series.protocol,
            "Manufacturer": series.manufacturer,
        }
    if instance is not None:
        facts = instance.facts
        known |= {
            "SOPInstanceUID": instance.sop_instance_uid,
            "SOPClassUID": instance.sop_class_uid,
            "InstanceNumber": instance.instance_number,
            "NumberOfFrames": facts.get("frame_count") or None,
            "Rows": facts.get("rows") or None,
            "Columns": facts.get("columns") or None,
            "AvailableTransferSyntaxUID": instance.transfer_syntax_uid,
        }
    return known


def _wanted(event: Event, reception: Reception) -> list[InstanceRow] | None:
    """The instances that a C-GET or C-MOVE names by unique keys; None where it names none."""
    level, _, keys = _keys(event)
    if level is None or not keys.get(UID_OF[level]):
        return None
    unique = {name: keys[name] for name in UID_OF.values() if keys.get(name)}
    if any(c in unique.get("PatientID", "") for c in "*?"):
        return None
    _note(reception, event, "dimse.retrieve", level)
    with reception.store.read() as session:
        found = holdings.search(session, "IMAGE", unique)
    return [held.instance for held in found if held.instance is not None]


def _get(event: Event, reception: Reception) -> Iterator[Any]:
    """A C-GET (PS3.4 C.4.3): how many, then each as it is stored, uncompressed if need be."""
    wanted = _wanted(event, reception)
    if wanted is None:
        yield 0
        yield NOT_THIS_MODEL, None
        return
    yield len(wanted)
    accepted = {
        (str(c.abstract_syntax), str(c.transfer_syntax[0]))
        for c in event.assoc.accepted_contexts
        if c.transfer_syntax
    }
    for row in wanted:
        if event.is_cancelled:
            yield CANCELLED, None
            return
        yield PENDING, _data_set(row, reception, accepted)


def _move(event: Event, reception: Reception) -> Iterator[Any]:
    """A C-MOVE (PS3.4 C.4.2) to a listed peer: where, how many, then each as it is stored."""
    title = str(event.move_destination or "").strip()
    peer = next((p for p in reception.settings.dimse_peers if _is_callable(p, title)), None)
    if peer is None:
        yield None, None
        return
    wanted = _wanted(event, reception) or []
    pairs = dict.fromkeys((row.sop_class_uid, row.transfer_syntax_uid) for row in wanted)
    contexts = [build_context(str(c), [str(s)]) for c, s in pairs][:128]
    yield str(peer.address.network_address), peer.port, {"contexts": contexts}
    yield len(wanted)
    for row in wanted:
        if event.is_cancelled:
            yield CANCELLED, None
            return
        yield PENDING, _data_set(row, reception, None)


def _is_callable(peer: Peer, title: str) -> bool:
    return peer.ae.strip() == title and peer.port is not None and peer.address.num_addresses == 1


def _data_set(
    row: InstanceRow, reception: Reception, accepted: set[tuple[str, str]] | None
) -> Dataset:
    """The stored object; decoded where the peer takes it, but not in the syntax it is stored in."""
    path = reception.blobs.path(row.sha256)
    syntax = UID(str(row.transfer_syntax_uid or ImplicitVRLittleEndian))
    takes = {s for c, s in accepted or () if c == row.sop_class_uid}
    if not syntax.is_compressed or accepted is None or syntax in takes or not takes:
        return dcmread(path, force=True)
    with contextlib.suppress(ImagingError, AppError), reception.blobs.incoming() as plain:
        reception.door.result(
            reception.door.run(decompress, path, plain.path), within_s=DECOMPRESS_S
        )
        return dcmread(plain.path)
    return dcmread(path, force=True)


def _commit(event: Event, reception: Reception) -> tuple[int, Dataset | None]:
    """A storage commitment request (PS3.4 J.3.2): taken, and reported a moment later."""
    asked = event.action_information
    items = list(asked.get("ReferencedSOPSequence") or ())
    if event.action_type != 1 or not asked.get("TransactionUID") or not items:
        return 0x0115, None
    with reception.store.read() as session:
        known = holdings.known(session, [str(i.get("ReferencedSOPInstanceUID")) for i in items])
    report, there, missing = Dataset(), [], []
    report.TransactionUID = asked.TransactionUID
    report.RetrieveAETitle = reception.settings.dimse_ae
    for item in items:
        said = Dataset()
        said.ReferencedSOPClassUID = item.get("ReferencedSOPClassUID")
        said.ReferencedSOPInstanceUID = uid = item.get("ReferencedSOPInstanceUID")
        if known.get(str(uid)) == str(item.get("ReferencedSOPClassUID")):
            there.append(said)
            continue
        said.FailureReason = CLASS_CONFLICT if str(uid) in known else NO_SUCH_INSTANCE
        missing.append(said)
    if there:
        report.ReferencedSOPSequence = Sequence(there)
    if missing:
        report.FailedSOPSequence = Sequence(missing)
    _note(reception, event, "dimse.commitment", f"{len(there)} of {len(items)}")
    threading.Thread(
        target=_report, args=(event.assoc, report, reception.settings), daemon=True
    ).start()
    return SUCCESS, None


def _report(association: Any, report: Dataset, settings: Settings) -> None:
    """The outcome to who asked: by a call to its listed port, else on its own association."""
    kind = SOME_MISSING if "FailedSOPSequence" in report else ALL_THERE
    sent = (report, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    title = association.requestor.ae_title.strip()
    peer = next((p for p in settings.dimse_peers if _is_callable(p, title)), None)
    time.sleep(0.1)  # the answer to the request comes first
    if peer is None:
        if association.is_established:
            association.send_n_event_report(*sent)
        return
    ae = AE(settings.dimse_ae)
    ae.acse_timeout, ae.dimse_timeout = settings.dimse_acse_s, settings.dimse_reply_s
    ae.connection_timeout = settings.dimse_acse_s
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    for _ in range(TRIES):
        call = ae.associate(
            str(peer.address.network_address),
            cast(int, peer.port),
            ae_title=title,
            ext_neg=[role],
        )
        if call.is_established:
            status, _reply = call.send_n_event_report(*sent)
            call.release()
            if status and status.Status == SUCCESS:
                return
        time.sleep(BETWEEN_TRIES_S)
    log.error("the storage commitment report to %s was not taken", title)


def _note(reception: Reception, event: Event, action: str, detail: str) -> None:
    """Who asked for what kind of thing; no patient data stands in the audit."""
    caller = event.assoc.requestor.ae_title.strip()
    with reception.store.write() as session:
        append(
            session,
            [
                AuditEntry(
                    principal=f"dimse:{caller}",
                    action=action,
                    subject=event.assoc.requestor.address or "",
                    detail={"what": detail},
                )
            ],
        )


QUERY_HANDLERS: tuple[tuple[Any, Any], ...] = (
    (evt.EVT_C_FIND, _find),
    (evt.EVT_C_GET, _get),
    (evt.EVT_C_MOVE, _move),
    (evt.EVT_N_ACTION, _commit),
)
