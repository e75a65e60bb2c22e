"""The DICOM listener, judged by dcmtk and by a real Orthanc: what it takes, refuses and gives."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    P_DATA,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from sqlalchemy import func, select

from api.documents import SHOWN
from api.listen import ListenerProcess, listen
from app.jobs.worker import run_analysis
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.rows import InstanceRow, Row
from tests.api.conftest import Serve, parts_of, post
from tests.api.test_cli import alive, get, serving
from tests.api.test_dicomweb_store import stow
from tests.app import studies
from tests.judges import judge
from tests.listener import Listening, listening
from tests.orthanc import free_port, orthanc

pytestmark = pytest.mark.timeout(180)
SAMPLES = Path(__file__).parents[2] / "sample_dicoms"


def contents(data: Path) -> dict[str, int]:
    """How many rows and files a store holds, the audit aside."""
    store, blobs = Store(f"sqlite:///{data / 'sonodose.sqlite'}"), Blobs(data / "blobs")
    with store.read() as session:
        rows = {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Row.metadata.tables.items()
            if name != "audit"
        }
    store.close()
    return {
        **{name: count for name, count in rows.items() if count},
        "(blobs)": len(list(blobs.digests())),
        "(staging)": len(list(blobs.staging.iterdir())),
    }


def instances(data: Path) -> dict[str, InstanceRow]:
    store = Store(f"sqlite:///{data / 'sonodose.sqlite'}")
    with store.read() as session:
        found = {str(row.sop_instance_uid): row for row in session.scalars(select(InstanceRow))}
    store.close()
    return found


def write(folder: Path, name: str = "still.dcm", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(studies.dicom_still(rows=64, columns=64, **changes))
    return path


PORTS = {"TARGET": free_port(), "CALLED": free_port(), "ORTHANC": free_port()}
PEERS = [
    {"ae": "SCANNER", "address": "127.0.0.0/8"},
    {"ae": "AWAY", "address": "10.0.0.1"},
    *({"ae": ae, "address": "127.0.0.1", "port": port} for ae, port in PORTS.items()),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Listening, Path]]:
    """A listener that many tests share, and its data folder."""
    data = tmp_path_factory.mktemp("dimse")
    with listening(data, dimse_peers=PEERS) as listener:
        yield listener, data


def test_echo(here: tuple[Listening, Path]) -> None:
    """C-ECHO is answered to whoever calls us by our name, and to nobody who calls another's."""
    listener, _ = here
    assert listener.call("echoscu").returncode == 0
    wrong = listener.call("echoscu", called="OTHER")
    assert wrong.returncode != 0
    assert "Called AE Title Not Recognized" in wrong.stderr + wrong.stdout


def test_store_keeps_what_was_sent(here: tuple[Listening, Path], tmp_path: Path) -> None:
    """A sent image is stored with the bytes of its data set, in its own transfer syntax."""
    listener, data = here
    path = write(tmp_path)
    sent = dcmread(path)
    assert listener.call("storescu", path).returncode == 0
    row = instances(data)[sent.SOPInstanceUID]
    assert row.received_from == "dimse:SCANNER"
    assert row.transfer_syntax_uid == ExplicitVRLittleEndian
    stored = Blobs(data / "blobs").read(row.sha256)
    assert stored[:132] == b"\0" * 128 + b"DICM"
    assert hashlib.sha256(stored).hexdigest() == row.sha256
    whole = path.read_bytes()
    body = whole[whole.index(b"\x08\x00\x08\x00CS") :]
    assert stored.endswith(body)


def compressed(tmp_path: Path) -> dict[str, Path]:
    """The same still in syntaxes that dcmtk writes."""
    plain = write(tmp_path)
    made = {}
    for program, uid in (("dcmcjpeg", JPEGLosslessSV1), ("dcmcrle", RLELossless)):
        target = tmp_path / f"{program}.dcm"
        subprocess.run(  # noqa: S603 -- a fixed program on a file of the test's own
            [judge(program), "+ua", str(plain), str(target)], check=True, capture_output=True
        )
        made[str(uid)] = target
    return made


def test_compressed_images_stay_compressed(here: tuple[Listening, Path], tmp_path: Path) -> None:
    """What is stored compressed is taken as it is, not transcoded by its sender."""
    listener, data = here
    files = compressed(tmp_path)
    told = listener.call("dcmsend", "--no-uid-checks", *files.values())
    assert told.returncode == 0, told.stderr
    for syntax, path in files.items():
        sent = dcmread(path)
        row = instances(data)[sent.SOPInstanceUID]
        assert row.transfer_syntax_uid == syntax
        stored = dcmread(Blobs(data / "blobs").path(row.sha256))
        assert stored.PixelData == sent.PixelData


def test_every_object_of_a_study_is_taken(here: tuple[Listening, Path], tmp_path: Path) -> None:
    """A study with images, SEG, SR, capture, presentation state comes in whole and is found."""
    listener, data = here
    folder, study = tmp_path / "study", generate_uid()
    write(folder, "a.dcm", StudyInstanceUID=study)
    for number, uid in enumerate(
        (
            "1.2.840.10008.5.1.4.1.1.3.1",
            "1.2.840.10008.5.1.4.1.1.6",
            "1.2.840.10008.5.1.4.1.1.3",
            "1.2.840.10008.5.1.4.1.1.7.2",
            "1.2.840.10008.5.1.4.1.1.66.4",
            "1.2.840.10008.5.1.4.1.1.88.33",
            "1.2.840.10008.5.1.4.1.1.11.2",
            "1.2.840.10008.5.1.4.1.1.88.59",
            "1.2.840.10008.5.1.4.1.1.104.1",
        )
    ):
        frames = {"NumberOfFrames": 1} if number in (0, 2, 3, 4) else {}
        write(folder, f"{number}.dcm", StudyInstanceUID=study, SOPClassUID=uid, **frames)
    told = listener.call("dcmsend", "--no-uid-checks", *sorted(folder.glob("*.dcm")))
    assert told.returncode == 0, told.stderr + told.stdout
    taken = [row for row in instances(data).values() if row.study_instance_uid == study]
    assert len(taken) == 10


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def noise(path: Path) -> None:
    ds = dcmread(path)
    del ds.Rows
    ds.save_as(path)


def other_uid(uid: str) -> Any:
    def change(path: Path) -> None:
        ds = dcmread(path)
        # In the data set only; the sender's command keeps to the file meta information.
        ds.SOPInstanceUID = uid
        ds.save_as(path, enforce_file_format=False)

    return change


REFUSED: dict[str, tuple[Any, str]] = {
    "a truncated data set": (cut, "c000"),
    "an image without its size": (noise, "c000"),
    "a UID of 200 characters": (other_uid("1." + "2" * 198), "c000"),
    "a UID with dots in a row": (other_uid("1.2..3"), "c000"),
    "another UID than announced": (other_uid("1.2.3.4.5"), "a900"),
}
HOSTILE_UIDS = ("../../etc/passwd", "1." + "2" * 198, "1.2..3", "..", "1.2.3/../4")


@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_refusals_leave_nothing(fault: str, here: tuple[Listening, Path], tmp_path: Path) -> None:
    """What is refused has a status that says so, and leaves no row, no blob, no staging file."""
    listener, data = here
    change, status = REFUSED[fault]
    path = write(tmp_path)
    announced = dcmread(path).SOPInstanceUID
    change(path)
    before = contents(data)
    assert send_raw(listener, path, announced) == int(status, 16)
    assert contents(data) == before


@pytest.mark.parametrize("uid", HOSTILE_UIDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_hostile_uid_in_the_command_leaves_nothing(
    uid: str, here: tuple[Listening, Path], tmp_path: Path
) -> None:
    """A UID that is no UID, in the command itself, is refused or cut off; the listener lives."""
    listener, data = here
    path = write(tmp_path)
    before, around = contents(data), sorted(p.name for p in data.parent.iterdir())
    for both in (False, True):
        if both:
            other_uid(uid)(path)
        status = send_command(listener, path, uid)
        assert status is None or status >> 12 in (0xA, 0xC) or status in (0x0117, 0x0122), status
    assert contents(data) == before
    assert sorted(p.name for p in data.parent.iterdir()) == around
    assert listener.call("echoscu").returncode == 0


def send_command(listener: Listening, path: Path, uid: str) -> int | None:
    """The status of a C-STORE whose command set names this UID, written by hand, as no library
    would; None where the association was aborted or closed instead."""
    whole = path.read_bytes()
    body = whole[whole.index(b"\x08\x00\x08\x00CS") :]
    ae = AE("SCANNER")
    association = ae.associate(
        "127.0.0.1",
        listener.port,
        contexts=[build_context(studies.US_IMAGE, [ExplicitVRLittleEndian])],
        ae_title="SONODOSE",
    )
    assert association.is_established

    def element(group_element: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHI", 0, group_element, len(value)) + value

    command = (
        element(0x0002, studies.US_IMAGE.encode())
        + element(0x0100, struct.pack("<H", 0x0001))
        + element(0x0110, struct.pack("<H", 7))
        + element(0x0700, struct.pack("<H", 2))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, uid.encode())
    )
    command = element(0x0000, struct.pack("<I", len(command))) + command
    (context,) = [c.context_id for c in association.accepted_contexts]
    size = 16_000
    pieces = [(0x03, command)] + [
        (0x02 if at + size >= len(body) else 0x00, body[at : at + size])
        for at in range(0, len(body), size)
    ]
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    for control, piece in pieces:
        primitive = P_DATA()
        primitive.presentation_data_value_list.append([context, bytes([control]) + piece])
        association.dul.send_pdu(primitive)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    if association.is_established:
        association.release()
    return int(answer.Status or 0) if isinstance(answer, C_STORE) else None


def send_raw(listener: Listening, path: Path, announced: str) -> int:
    """The status of a C-STORE of a file's data set as it lies there, under any announced UID."""
    whole = path.read_bytes()
    ae = AE("SCANNER")
    association = ae.associate(
        "127.0.0.1",
        listener.port,
        contexts=[build_context(studies.US_IMAGE, [ExplicitVRLittleEndian])],
        ae_title="SONODOSE",
    )
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = studies.US_IMAGE, announced
    request.DataSet = BytesIO(whole[whole.index(b"\x08\x00\x08\x00CS") :])
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, 1)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert isinstance(answer, C_STORE)
    return int(answer.Status or 0)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Listening, Path]]:
    """A listener that takes no conflict, nothing over a MiB, five calls, and little silence."""
    data = tmp_path_factory.mktemp("strict")
    settings = {
        "on_conflict": "refuse",
        "max_file_bytes": 1 << 20,
        "dimse_max_associations": 5,
        "dimse_idle_s": 3,
        "dimse_acse_s": 3,
    }
    with listening(data, **settings) as listener:
        yield listener, data


def test_other_pixels_under_a_known_uid(strict: tuple[Listening, Path], tmp_path: Path) -> None:
    """Where the site refuses them, other pixels under a known UID are refused and not kept."""
    listener, data = strict
    uid = generate_uid()
    first = write(tmp_path / "a", SOPInstanceUID=uid)
    second = tmp_path / "b.dcm"
    second.write_bytes(studies.dicom_still(9, rows=64, columns=64, SOPInstanceUID=uid))
    assert listener.call("storescu", first).returncode == 0
    before = contents(data)
    assert send_raw(listener, second, uid) == 0xC111
    assert listener.call("storescu", first).returncode == 0
    assert contents(data) == before


def test_a_broken_connection_leaves_nothing(here: tuple[Listening, Path], tmp_path: Path) -> None:
    """A sender that dies in the middle of an object leaves no file behind."""
    listener, data = here
    big = tmp_path / "big.dcm"
    big.write_bytes(studies.dicom_still(rows=4000, columns=4000))
    before = contents(data)
    command = [judge("storescu"), "-aec", "SONODOSE", "-aet", "SCANNER", "--max-send-pdu", "4096"]
    process = subprocess.Popen(  # noqa: S603 -- a fixed program on our own loopback
        [*command, "127.0.0.1", str(listener.port), str(big)], stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 30
    while contents(data)["(staging)"] == 0:
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.wait()
    while contents(data) != before:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_object_over_the_limit_is_cut_off(
    strict: tuple[Listening, Path], tmp_path: Path
) -> None:
    """An object larger than the site allows ends its association while it comes in."""
    listener, data = strict
    big = tmp_path / "big.dcm"
    big.write_bytes(studies.dicom_still(rows=2000, columns=2000))
    before = contents(data)
    assert listener.call("storescu", big).returncode != 0
    assert contents(data) == before
    assert listener.call("storescu", write(tmp_path)).returncode == 0


def test_only_listed_peers_may_call(here: tuple[Listening, Path]) -> None:
    """With a list, a caller must be on it with its AE title and from its address."""
    listener, _ = here
    for calling in ("STRANGER", "AWAY"):
        told = listener.call("echoscu", calling=calling)
        assert told.returncode != 0
        assert "Calling AE Title Not Recognized" in told.stderr + told.stdout


def until_closed(call: socket.socket) -> bytes:
    """What still came before the other side closed the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while more := call.recv(4096):
            said += more
    return said


def test_nobody_holds_the_listener(strict: tuple[Listening, Path]) -> None:
    """Silence, half a request, noise and a length without end are all cut off, one call too many
    is rejected, and no thread is left of any."""
    listener, _ = strict
    threads = Path(f"/proc/{listener.pid}/task")
    ae = AE("SCANNER")
    ae.add_requested_context("1.2.840.10008.1.1")
    request = opening(ae)
    before = len(list(threads.iterdir()))
    with ExitStack() as stack:

        def call(data: bytes) -> socket.socket:
            to = socket.create_connection(("127.0.0.1", listener.port), timeout=30)
            stack.enter_context(to).sendall(data)
            return to

        accepted = [call(request) for _ in range(5)]
        assert [c.recv(1) for c in accepted] == [b"\x02"] * 5
        assert call(request).recv(1) == b"\x03"
        for silent in accepted:
            assert b"\x07\x00\x00\x00\x00\x04" in until_closed(silent)
        for odd in (b"", request[:30], b"\x01\x00\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
            until_closed(call(odd))
    end = time.monotonic() + 30
    while len(list(threads.iterdir())) > before:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert listener.call("echoscu").returncode == 0


def test_outside_loopback_peers_must_be_listed(tmp_path: Path, capfd: Any) -> None:
    """A listener that other machines can reach does not start without a list of peers."""
    assert listen(Settings(data_dir=tmp_path, dimse_host="0.0.0.0", dimse_port=0)) == 1  # noqa: S104 -- it must refuse
    assert "SONODOSE_DIMSE_PEERS" in capfd.readouterr().err


def test_idle_associations_stop_nobody(here: tuple[Listening, Path], tmp_path: Path) -> None:
    """With 200 associations that say nothing an echo and a store are answered."""
    listener, _ = here
    path = write(tmp_path)
    with ExitStack() as stack:
        ae = AE("SCANNER")
        ae.add_requested_context("1.2.840.10008.1.1")
        request = opening(ae)
        for _ in range(200):
            call = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            call.sendall(request)
            assert call.recv(1) == b"\x02"
        assert listener.call("echoscu").returncode == 0
        assert listener.call("storescu", path).returncode == 0


def opening(ae: Any) -> bytes:
    """An A-ASSOCIATE-RQ as an AE of pynetdicom would send it."""

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = ae.ae_title, "SONODOSE"
    longest, who = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received, who.implementation_class_uid = 16382, "1.2.3"
    primitive.user_information = [longest, who]
    context = ae.requested_contexts[0]
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def test_tls(tmp_path: Path) -> None:
    """With a certificate TLS works, with the peer's own checked, and a plain call does not."""
    key, certificate = certificate_of(tmp_path)
    tls = {"dimse_tls_cert": certificate, "dimse_tls_key": key, "dimse_tls_ca": certificate}
    with listening(tmp_path / "data", **tls) as listener:
        both = ["+tls", str(key), str(certificate), "+cf", str(certificate)]
        known = Listening(port=listener.port, pid=listener.pid, options=both)
        assert known.call("echoscu").returncode == 0
        assert known.call("storescu", write(tmp_path)).returncode == 0
        # Somebody who connects and says nothing keeps nobody waiting.
        with socket.create_connection(("127.0.0.1", listener.port)):
            assert known.call("echoscu").returncode == 0
        assert listener.call("echoscu", "-ta", "5").returncode != 0
        nameless = Listening(port=listener.port, pid=0, options=["+tla", "-ic"])
        assert nameless.call("echoscu").returncode != 0


def certificate_of(folder: Path) -> tuple[Path, Path]:
    """(key, certificate) of a party that vouches for itself."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(  # noqa: S603 -- a fixed program
        [
            judge("openssl"),
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@dataclass(frozen=True)
class Holding:
    """A listener that holds a study of three images in two series, of a patient of its own."""

    listener: Listening
    data: Path
    files: list[Path]
    study: str


@pytest.fixture(scope="module")
def holding(here: tuple[Listening, Path], tmp_path_factory: pytest.TempPathFactory) -> Holding:
    listener, data = here
    folder = tmp_path_factory.mktemp("sent")
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    files = [
        write(
            folder,
            f"{n}.dcm",
            seed=n,
            StudyInstanceUID=study,
            SeriesInstanceUID=series[n // 2],
            SeriesNumber=1 + n // 2,
            InstanceNumber=n + 1,
            StudyDate="20240102",
            PatientID="HELD-1",
            PatientName="Müller^Ada",
            SpecificCharacterSet="ISO_IR 192",
            AccessionNumber="ACC-7",
            StudyDescription="Held",
        )
        for n in range(3)
    ]
    other = {"PatientID": "HELD-2", "PatientName": "Other^One", "StudyDate": "20230101"}
    files_of_another = write(folder, "other.dcm", **other)
    told = listener.call("dcmsend", "--no-uid-checks", *files, files_of_another)
    assert told.returncode == 0, told.stderr
    return Holding(listener=listener, data=data, files=files, study=study)


def found(folder: Path) -> list[Any]:
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def find(listener: Listening, folder: Path, root: str, *keys: str) -> list[Any]:
    """The answers of findscu, each a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("rsp*.dcm"):
        old.unlink()
    arguments = [part for key in keys for part in ("-k", key)]
    told = listener.call("findscu", root, "-X", *arguments, folder=folder)
    assert told.returncode == 0, told.stderr
    return found(folder)


def test_find(holding: Holding, tmp_path: Path) -> None:
    """Studies, series and images are found by key, wild card, date range, name, and no others."""
    listener, files, study = holding.listener, holding.files, holding.study
    there = tmp_path / "found"
    ask = (
        "QueryRetrieveLevel=STUDY",
        "StudyInstanceUID",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
        "NumberOfStudyRelatedSeries",
        "PatientName",
    )
    (one,) = find(listener, there, "-S", *ask, "PatientID=HELD-1")
    assert (one.StudyInstanceUID, one.ModalitiesInStudy) == (study, "US")
    assert (one.NumberOfStudyRelatedInstances, one.NumberOfStudyRelatedSeries) == (3, 2)
    assert str(one.PatientName) == "Müller^Ada"
    for key, count in (
        ("StudyDate=20240101-20240131", 1),
        ("StudyDate=20240102", 1),
        ("StudyDate=-20231231", 1),
        ("StudyDate=20230101-20240102", 2),
        ("PatientName=muller*", 1),
        ("PatientName=*ADA", 1),
        ("AccessionNumber=ACC-?", 1),
        ("AccessionNumber=ACC_7", 0),
        ("StudyDescription=H%", 0),
        ("ModalitiesInStudy=US", 2),
        ("ModalitiesInStudy=CT", 0),
        (f"StudyInstanceUID={study}", 1),
    ):
        ours = ("QueryRetrieveLevel=STUDY", "PatientID=HELD-*", key)
        assert len(find(listener, there, "-S", *ours)) == count, key
    at_series = (
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={study}",
        "SeriesNumber",
        "NumberOfSeriesRelatedInstances",
    )
    series = find(listener, there, "-S", *at_series)
    assert [(int(s.SeriesNumber), s.NumberOfSeriesRelatedInstances) for s in series] == [
        (1, 2),
        (2, 1),
    ]
    at_image = (
        "QueryRetrieveLevel=IMAGE",
        f"StudyInstanceUID={study}",
        "SOPInstanceUID",
        "Rows",
    )
    images = find(listener, there, "-S", *at_image)
    assert {i.SOPInstanceUID for i in images} == {dcmread(f).SOPInstanceUID for f in files}
    assert {i.Rows for i in images} == {64}
    patients = find(listener, there, "-P", "QueryRetrieveLevel=PATIENT", "PatientID=HELD-*")
    assert sorted(p.PatientID for p in patients) == ["HELD-1", "HELD-2"]
    assert find(listener, there, "-S", "QueryRetrieveLevel=STUDY", "PatientID=NOBODY") == []


def test_get(holding: Holding, tmp_path: Path) -> None:
    """C-GET brings a study with the pixels that were sent, and nothing of another one."""
    listener, files, study = holding.listener, holding.files, holding.study
    target = tmp_path / "got"
    target.mkdir()
    told = listener.call(
        "getscu",
        "-S",
        "-od",
        target,
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        f"StudyInstanceUID={study}",
    )
    assert told.returncode == 0, told.stderr
    got = {ds.SOPInstanceUID: ds for ds in map(dcmread, target.iterdir())}
    sent = {ds.SOPInstanceUID: ds for ds in map(dcmread, files)}
    assert got.keys() == sent.keys()
    assert all(got[uid].PixelData == sent[uid].PixelData for uid in sent)


def test_get_decodes_for_who_takes_nothing_else(
    here: tuple[Listening, Path], tmp_path: Path
) -> None:
    """A peer that takes uncompressed images alone gets a compressed one decoded."""
    listener, _ = here
    path = compressed(tmp_path)[str(RLELossless)]
    plain = dcmread(tmp_path / "still.dcm")
    assert listener.call("dcmsend", "--no-uid-checks", path).returncode == 0
    target = tmp_path / "got"
    target.mkdir()
    told = listener.call(
        "getscu",
        "-S",
        "-od",
        target,
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        f"StudyInstanceUID={plain.StudyInstanceUID}",
    )
    assert told.returncode == 0, told.stderr
    (got,) = map(dcmread, target.iterdir())
    assert got.file_meta.TransferSyntaxUID in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    assert got.PixelData == plain.PixelData


def test_move_to_listed_peers_alone(holding: Holding, tmp_path: Path) -> None:
    """C-MOVE sends to a listed destination, and to none that is not listed."""
    listener, files, study = holding.listener, holding.files, holding.study
    port = PORTS["TARGET"]
    target = tmp_path / "moved"
    target.mkdir()
    receiver = subprocess.Popen(  # noqa: S603 -- a fixed program
        [judge("storescp"), "-aet", "TARGET", "-od", str(target), str(port)]
    )
    try:
        until_open(port)
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
        told = listener.call("movescu", "-S", "-aem", "TARGET", *keys)
        assert told.returncode == 0, told.stderr
        assert len(list(target.iterdir())) == len(files)
        told = listener.call("movescu", "-S", "-aem", "ELSEWHERE", *keys)
        assert told.returncode != 0
    finally:
        receiver.kill()
        receiver.wait()


def until_open(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("by_call", [False, True])
def test_storage_commitment(holding: Holding, by_call: bool) -> None:
    """What is stored is committed to, what is not is named as missing; by call, or on the spot."""
    model, instance = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
    reports: list[tuple[int, Dataset]] = []

    def take(event: Any) -> tuple[int, None]:
        reports.append((event.event_type, event.event_information))
        return 0x0000, None

    ae = AE("CALLED" if by_call else "SCANNER")
    ae.add_requested_context(model)
    ae.add_supported_context(model, scu_role=False, scp_role=True)
    asked, items = Dataset(), []
    held = dcmread(holding.files[0]).SOPInstanceUID
    for uid in (held, "1.2.3.99"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = studies.US_IMAGE, uid
        items.append(item)
    asked.TransactionUID, asked.ReferencedSOPSequence = "1.2.3.7", Sequence(items)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, take)]
    with ExitStack() as stack:
        if by_call:
            address = ("127.0.0.1", PORTS["CALLED"])
            server = ae.start_server(address, block=False, evt_handlers=handlers)
            assert server is not None
            stack.callback(server.shutdown)
        call = ae.associate(
            "127.0.0.1",
            holding.listener.port,
            ae_title="SONODOSE",
            evt_handlers=[] if by_call else handlers,
        )
        status, _ = call.send_n_action(asked, 1, model, instance)
        assert status.Status == 0x0000
        end = time.monotonic() + 20
        while not reports and time.monotonic() < end:
            time.sleep(0.05)
        call.release()
    ((kind, report),) = reports
    assert kind == 2
    assert report.TransactionUID == "1.2.3.7"
    assert [i.ReferencedSOPInstanceUID for i in report.ReferencedSOPSequence] == [held]
    (missing,) = report.FailedSOPSequence
    assert (missing.ReferencedSOPInstanceUID, missing.FailureReason) == ("1.2.3.99", 0x0112)


def test_orthanc_pushes_and_asks(here: tuple[Listening, Path], tmp_path: Path) -> None:
    """A real Orthanc echoes us, pushes a study by C-STORE, finds it here and has it moved back."""
    listener, data = here
    with orthanc(tmp_path / "pacs", dicom_port=PORTS["ORTHANC"]) as pacs:
        us = {"AET": "SONODOSE", "Host": "127.0.0.1", "Port": listener.port}
        pacs.send("PUT", "/modalities/us", us)
        me = {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": pacs.dicom_port}
        pacs.send("PUT", "/modalities/me", me)
        pacs.send("POST", "/modalities/us/echo", {})
        path = write(tmp_path, PatientID="ORTH-1")
        sent = dcmread(path)
        stored = pacs.send("POST", "/instances", path.read_bytes())
        pacs.send("POST", "/modalities/us/store", [stored["ID"]])
        row = instances(data)[sent.SOPInstanceUID]
        assert row.received_from == "dimse:ORTHANC"
        assert dcmread(Blobs(data / "blobs").path(row.sha256)).PixelData == sent.PixelData
        asked = {"Level": "Study", "Query": {"PatientID": "ORTH-1"}}
        query = pacs.send("POST", "/modalities/us/query", asked)
        answers = f"/queries/{query['ID']}/answers"
        assert json.loads(pacs.get(answers)) == ["0"]
        content = json.loads(pacs.get(f"{answers}/0/content?simplify"))
        assert content["StudyInstanceUID"] == sent.StudyInstanceUID
        pacs.send("DELETE", f"/instances/{stored['ID']}", None)
        assert pacs.instances() == []
        pacs.send("POST", f"{answers}/0/retrieve", b"ORTHANC")
        assert list(pacs.files()) == [sent.SOPInstanceUID]


def test_the_same_plan_by_every_door(serve: Serve, tmp_path: Path) -> None:
    """A study gives the same canonical plan by REST under any name, by C-STORE under a rule like
    the request, and by STOW.

    The side asked for is not the image's: by either door that is a stop.
    """
    asked = {
        "muscle": "biceps_brachii",
        "side": "right",
        "view": "short_axis",
        "product": "XEOMIN",
        "indication": "upper_limb_spasticity",
        "dilution": {"units": 100, "ml": 2},
    }
    rules = tmp_path / "rules.json"
    rule = {"name": "arm", "when": {"body_part": "UPPER ARM"}, "then": asked}
    rules.write_text(json.dumps({"rules": [rule]}))
    client = serve(run_analysis, routing_rules=rules, study_quiet_s=0.2)
    sample = SAMPLES / "biceps_short_axis.dcm"
    wait = {"Prefer": "wait=60"}
    by_rest = post(client, sample.read_bytes(), request=asked, name="arm 1.dcm", headers=wait)
    assert by_rest.status_code == 200, by_rest.text
    with listening(tmp_path / "data", **shared_by(client)) as listener:
        assert listener.call("storescu", sample).returncode == 0
    pushed = until_made(client, 2)
    assert pushed["created_by"] == "routing:arm"
    assert pushed["request"] == {"jurisdiction": "US", **asked} == by_rest.json()["request"]
    assert pushed["plan"] is not None
    ds = dcmread(sample)
    stow(client, sample.read_bytes())
    stored = {"study_instance_uid": ds.StudyInstanceUID}
    by_stow = client.post(
        "/api/v1/analyses",
        files={name: (None, json.dumps(v)) for name, v in (("request", asked), ("stored", stored))},
        headers=wait,
    )
    assert by_stow.status_code == 200, by_stow.text
    plans = [each["plan"] for each in (pushed, by_rest.json(), by_stow.json())]
    assert len({json.dumps(plan, sort_keys=True) for plan in plans}) == 1
    assert plans[0]["frames"][0]["file"] == f"{ds.SOPInstanceUID}.dcm"
    assert by_rest.json()["files"][0]["name"] == "arm 1.dcm"
    stops = [c["code"] for c in pushed["plan"]["cautions"] if c["blocks_confirmation"]]
    assert "laterality_mismatch" in stops


def shared_by(client: Any) -> dict[str, str]:
    """The settings of database and blobs that a listener beside this service needs as well."""
    settings = parts_of(client).settings
    shared = {"database_url": settings.database_url, "blob_url": settings.blob_url}
    return {name: url for name, url in shared.items() if url is not None}


def until_made(client: Any, count: int) -> dict[str, Any]:
    """The newest analysis, once there are so many and it is finished."""
    end = time.monotonic() + 90
    while True:
        listed = client.get("/api/v1/analyses").json()["analyses"]
        if len(listed) == count and listed[0]["state"] not in ("queued", "running"):
            answer: dict[str, Any] = client.get(f"/api/v1/analyses/{listed[0]['id']}").json()
            return answer
        assert time.monotonic() < end, listed
        time.sleep(0.1)


def test_a_muscle_starts_what_waits(serve: Serve, tmp_path: Path) -> None:
    """A pushed study without a rule waits in the work list; a click on it gives the mask and its
    size, without volume, dose or object; a PATCH with its muscle plans it."""
    client = serve(run_analysis, study_quiet_s=0.2)
    path = SAMPLES / "biceps_short_axis.dcm"
    with listening(tmp_path / "data", study_quiet_s=0.2, **shared_by(client)) as listener:
        assert listener.call("storescu", path).returncode == 0
    waiting = until_made(client, 1)
    assert (waiting["state"], waiting["missing"], waiting["plan"]) == (
        "needs_target",
        ["muscle"],
        None,
    )
    assert waiting["routing"] == {
        "study_instance_uid": str(dcmread(path).StudyInstanceUID),
        "rule": None,
    }
    (line,) = client.get("/api/v1/analyses?state=needs_target").json()["analyses"]
    assert (line["muscle"], line["side"], line["patient_id"]) == (None, None, "SAMPLE-1")
    address = waiting["links"]["self"]
    assert client.get(f"{address}/frames/0.png").status_code == 200
    for kind in SHOWN:
        assert client.get(f"{address}/{kind}").status_code in (200, 404, 409), kind
    refused = {
        "/api/v1/sessions": {"analyses": [waiting["id"]]},
        f"{address}/confirmation": {"revision": 1, "clinician": {"name": "Dr. Example"}},
        f"{address}/cancellation": {},
    }
    for path, body in refused.items():
        answer = client.post(path, json=body)
        assert 400 <= answer.status_code < 500, (path, answer.text)

    def patch(change: dict[str, Any]) -> dict[str, Any]:
        answer = client.patch(
            address,
            json=change,
            headers={
                "If-Match": client.get(address).headers["etag"],
                "Prefer": "wait=60",
                "Content-Type": "application/merge-patch+json",
            },
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert patch({"patient": {"age_years": 50}})["plan"] is None
    pointed = patch({"clicks": [{"column": 180, "row": 105}]})
    assert (pointed["state"], pointed["missing"]) == ("needs_target", ["muscle"])
    plan = pointed["plan"]
    assert plan["waits_for"]["names"] == ["muscle"]
    assert plan["target"]["muscle"] is None
    section = plan["frames"][0]["section"]
    assert section["area_mm2"] > 100
    assert section["thickness_mm"] > 5
    assert not {"volume", "dose", "sites", "abstention"} & set(plan)
    assert client.get(f"{address}/mask.png").status_code == 200
    assert client.get(f"{address}/overlay.png").status_code == 200
    for kind in ("seg.dcm", "sr.dcm", "sc.dcm", "pr.dcm", "ko.dcm", "plan.pdf", "fhir"):
        answer = client.get(f"{address}/{kind}")
        assert answer.status_code == 409, kind
        assert "named the muscle" in answer.json()["detail"]
    body = {"revision": pointed["revision"], "clinician": {"name": "Dr. Example"}}
    assert client.post(f"{address}/confirmation", json=body).status_code == 409
    changed = patch({"muscle": "biceps_brachii", "product": "XEOMIN", "muscle_length_mm": 240})
    assert changed["request"]["side"] == "left"
    assert changed["request"]["clicks"] == [{"column": 180, "row": 105}]
    assert (changed["state"], changed["missing"]) == ("draft", [])
    assert "waits_for" not in changed["plan"]
    assert changed["plan"]["volume"]["known"]
    assert changed["plan"]["frames"] == plan["frames"]


def test_a_stowed_study_is_routed_too(serve: Serve, tmp_path: Path) -> None:
    """What comes by STOW-RS is held against the same rules; the calling AE is nobody's then."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n"
        "  - {name: ae, when: {calling_ae: SCANNER}, then: {muscle: triceps_brachii}}\n"
        "  - {name: arm, when: {body_part: ARM}, then: {muscle: biceps_brachii}}\n"
    )
    client = serve(routing_rules=rules, study_quiet_s=0.2)
    path = write(tmp_path, Laterality="L", BodyPartExamined="ARM")
    assert stow(client, path.read_bytes()).status_code == 200
    made = until_made(client, 1)
    assert (made["created_by"], made["state"]) == ("routing:arm", "draft")
    assert made["request"] == {"jurisdiction": "US", "muscle": "biceps_brachii", "side": "left"}


def test_serve_takes_studies_and_forgets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve --dimse` takes a study; after kill -9 its listener is gone, and the next service
    takes the study up."""
    monkeypatch.setenv("SONODOSE_STUDY_QUIET_S", "5")
    port, path = free_port(), write(tmp_path)
    data = tmp_path / "data"
    with serving(data, "--workers", "1", "--dimse", str(port)) as (process, first):
        assert process.stdout is not None
        assert first.endswith(f":{port}")
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:  # noqa: S310 -- loopback
            assert answer.status == 200
        listener = Listening(port=port, pid=0)
        assert listener.call("storescu", path).returncode == 0
        process.kill()
        process.wait(10)
        end = time.monotonic() + 15
        while listener.call("echoscu").returncode == 0:
            assert time.monotonic() < end
            time.sleep(0.1)
    with serving(data, "--workers", "1") as (_, address):
        end = time.monotonic() + 30
        while True:
            listed = json.loads(get(f"{address}/api/v1/analyses"))["analyses"]
            if listed:
                break
            assert time.monotonic() < end
            time.sleep(0.1)
    assert [line["state"] for line in listed] == ["needs_target"]


def test_a_dead_listener_is_started_again(tmp_path: Path) -> None:
    """A listener that dies beside the service comes back by itself."""
    process = ListenerProcess(Settings(data_dir=tmp_path, dimse_port=free_port()))
    try:
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        end = time.monotonic() + 60
        while not process.is_alive or process.pid == first:
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        process.close()
    assert not process.is_alive
    assert not alive(first)
