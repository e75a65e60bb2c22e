"""Results leave for listed places only, once, signed, and survive a service that is killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError
from starlette.testclient import TestClient

from app.clinic.cautions import safety_questions
from app.clinic.tables import load_tables
from app.delivery.sending import SendFailed, signature, stow, webhook
from app.destinations import Secret, StoreDestination, StowDestination, Webhook, place_of
from app.jobs.worker import run_analysis
from app.settings import Settings
from app.store import audit
from tests.api.conftest import ANALYSES, Serve, assert_problem, draft, parts_of, post
from tests.api.test_cli import serving
from tests.api.test_kill import multipart
from tests.api.test_review import CLINICIAN
from tests.app import studies, workloads
from tests.orthanc import BASIC, Orthanc, orthanc
from tests.receivers import Received, Receiver, receiving

ANSWERED: dict[str, Any] = {
    "prior_treatments": [],
    "safety": {rule.code: False for rule in safety_questions("XEOMIN", load_tables())},
}
SECRET = "whsec_" + "c29ub2Rvc2UgdGVzdHMgc2lnbiB3aXRoIHRoaXM="
PAUSE_S = 0.05


def deliveries(client: TestClient, analysis_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"{ANALYSES}/{analysis_id}/deliveries")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def ended(
    client: TestClient, analysis_id: str, count: int = 1, within_s: float = 60
) -> list[dict[str, Any]]:
    """The deliveries once so many are there and none waits."""
    end = time.monotonic() + within_s
    while True:
        found = deliveries(client, analysis_id)
        if len(found) >= count and all(d["state"] in ("delivered", "failed") for d in found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.02)


def deliver(client: TestClient, body: dict[str, Any], destination: str, **more: Any) -> Any:
    return client.post(
        f"{ANALYSES}/{body['id']}/deliveries", json={"destination": destination, **more}
    )


def confirmed(client: TestClient, **changes: Any) -> dict[str, Any]:
    """A confirmed plan of a real run over an outlined still."""
    body = draft(client, **{**ANSWERED, **changes})
    assert body["state"] == "draft", body
    answer = client.post(
        f"{ANALYSES}/{body['id']}/confirmation",
        json={"revision": body["revision"], "clinician": CLINICIAN},
    )
    assert answer.status_code == 200, answer.text
    return body


def hash_of(instance: bytes) -> str:
    """A hash over the data set as this library encodes it: the same data, the same hash."""
    ds = dcmread(io.BytesIO(instance))
    again = io.BytesIO()
    plain = FileDataset(again, ds, file_meta=ds.file_meta, preamble=b"\0" * 128)
    plain.save_as(again)
    again.seek(0)
    return hashlib.sha256(dcmread(again).to_json().encode()).hexdigest()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.mark.parametrize("way", ["stow", "c_store"])
def test_a_confirmed_plan_goes_to_the_pacs(
    way: str, pacs: Orthanc, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On confirmation every object reaches a real PACS and comes back with an equal data set."""
    monkeypatch.setenv("PACS_AUTHORIZATION", BASIC)
    place: dict[str, Any] = {
        "stow": {
            "kind": "stow",
            "url": pacs.dicomweb,
            "authorization": {"env": "PACS_AUTHORIZATION"},
        },
        "c_store": {
            "kind": "c_store",
            "host": "127.0.0.1",
            "port": pacs.dicom_port,
            "called_ae": "ORTHANC",
        },
    }[way]
    client = serve(run_analysis, destinations=[{"name": "pacs", "on_confirmation": True, **place}])
    body = confirmed(client)
    (delivery,) = ended(client, body["id"])
    assert delivery["state"] == "delivered", delivery
    assert delivery["target"] == "pacs"
    sent = {each["object"]: each for each in delivery["objects"]}
    assert {"seg.dcm", "sr.dcm", "sc.dcm", "pr.dcm", "ko.dcm"} <= set(sent)
    held = pacs.files()
    for name, names in sent.items():
        if names["none"] is not None:
            continue
        ours = client.get(f"{ANALYSES}/{body['id']}/{name}").content
        assert hash_of(held[names["sop_instance_uid"]]) == hash_of(ours), name


def test_a_second_sending_adds_nothing(pacs: Orthanc, serve: Serve) -> None:
    """Sent again, the objects have the same UIDs, and the PACS holds each once."""
    place = {"host": "127.0.0.1", "port": pacs.dicom_port, "called_ae": "ORTHANC"}
    client = serve(run_analysis, destinations=[{"kind": "c_store", "name": "pacs", **place}])
    body = confirmed(client)
    before = len(pacs.instances())
    answer = deliver(client, body, "pacs", objects=["seg.dcm", "sr.dcm"])
    assert answer.status_code == 202, answer.text
    (first,) = ended(client, body["id"])
    assert len(pacs.instances()) == before + 2
    deliver(client, body, "pacs", objects=["seg.dcm", "sr.dcm"])
    again, _ = ended(client, body["id"], 2)
    assert again["objects"] == first["objects"]
    assert len(pacs.instances()) == before + 2


def stow_to(receiver: Receiver, **more: Any) -> list[dict[str, Any]]:
    return [{"kind": "stow", "name": "pacs", "url": receiver.address, **more}]


def test_what_is_refused_is_tried_again_with_growing_pauses(serve: Serve) -> None:
    """Two refusals, then success: the same bytes each time, and what was taken is not resent."""
    with receiving() as receiver:
        answers = iter([200, 503, 503])
        receiver.answer = lambda _: next(answers, 200)
        client = serve(run_analysis, destinations=stow_to(receiver), delivery_pause_s=PAUSE_S)
        body = draft(client)
        deliver(client, body, "pacs", objects=["seg.dcm", "sr.dcm"])
        (delivery,) = ended(client, body["id"])
    assert delivery["state"] == "delivered"
    assert delivery["attempts"] == 3
    seg, *reports = [each.instance for each in receiver.received]
    assert dcmread(io.BytesIO(seg)).Modality == "SEG"
    assert len(reports) == 3
    assert len(set(reports)) == 1


def test_it_is_given_up_with_the_reason_and_can_be_tried_again(serve: Serve) -> None:
    """After the last attempt the reason is told and audited; by its name it starts anew."""
    with receiving() as receiver:
        receiver.answer = lambda _: 507
        client = serve(
            run_analysis,
            destinations=stow_to(receiver),
            delivery_pause_s=PAUSE_S,
            delivery_attempts=2,
        )
        body = draft(client)
        deliver(client, body, "pacs")
        (delivery,) = ended(client, body["id"])
        assert delivery["state"] == "failed"
        assert delivery["attempts"] == 2
        assert "507" in delivery["reason"]
        assert "sonodose_deliveries_failed 1\n" in client.get("/metrics").text
        receiver.answer = lambda _: 200
        retried = client.post(
            f"{ANALYSES}/{body['id']}/deliveries", json={"delivery": delivery["id"]}
        )
        assert retried.status_code == 202, retried.text
        (delivery,) = ended(client, body["id"])
        assert delivery["state"] == "delivered"
        assert delivery["reason"] is None
    with parts_of(client).store.read() as session:
        _, fault = audit.verify(session)
        actions = list(session.scalars(audit.select(audit.AuditRow.action)))
    assert fault is None
    for action in ("delivery.requested", "delivery.failed", "delivery.delivered"):
        assert action in actions


def test_only_listed_places_are_contacted(serve: Serve) -> None:
    """Another name is refused with those that there are, and a redirect leads nowhere."""
    with receiving() as listed, receiving() as elsewhere:
        listed.answer = lambda _: 307
        listed.headers["Location"] = f"{elsewhere.address}/studies"
        client = serve(
            run_analysis,
            destinations=stow_to(listed),
            delivery_attempts=1,
        )
        body = draft(client)
        problem = assert_problem(deliver(client, body, elsewhere.address), 404, "not_found")
        assert "pacs" in problem["remedy"]
        deliver(client, body, "pacs", objects=["sr.dcm"])
        (delivery,) = ended(client, body["id"])
        assert delivery["state"] == "failed"
        assert "307" in delivery["reason"]
        assert elsewhere.received == []
    assert client.get("/api/v1/destinations").json() == [
        {
            "name": "pacs",
            "kind": "stow",
            "objects": ["image.dcm", "seg.dcm", "sr.dcm", "sc.dcm", "pr.dcm", "ko.dcm"],
            "on_confirmation": False,
        }
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "stow", "name": "p", "url": "http://pacs.example/dicom-web"},
        {"kind": "stow", "name": "p", "url": "https://user:word@pacs.example"},
        {"kind": "stow", "name": "p", "url": "file:///etc/passwd"},
        {"kind": "stow", "name": "p", "url": "https://pacs.example", "objects": ["plan.pdf"]},
        {"kind": "c_store", "name": "p", "host": "h", "port": 104, "called_ae": "A" * 17},
    ],
)
def test_a_place_that_cannot_be_safe_is_no_setting(bad: dict[str, Any], tmp_path: Path) -> None:
    """No open http, no password in an address, no other scheme, no title that DICOM forbids."""
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path, destinations=[bad])


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1%25lo]/",
        "http://localhost./",
        "http://localhost.evil.example/",
        "http://localhost@evil.example/",
        "http://@evil.example/",
        "https://evil.example\\@pacs.example/",
        "https://pacs.example /",
        "https://pacs.example\n.evil.example/",
        "https://p\u0430cs.example/",
        "https://pacs.example:port/",
        "https:///dicom-web",
        "https:pacs.example",
        "https://pacs.example/?to=x",
        "https://pacs.example/#x",
    ],
)
def test_an_address_has_one_meaning(url: str, tmp_path: Path) -> None:
    """Other spellings of this machine are not this machine, and what two readers of addresses may
    take for two hosts is no address."""
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path, destinations=[{"kind": "stow", "name": "p", "url": url}])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8042/dicom-web",
        "HTTP://LocalHost:8042/dicom-web",
        "http://[::1]/dicom-web",
        "https://10.1.2.3/dicom-web/",
        "https://[fd00::1]:8443/dicom-web",
        "https://pacs_1.hospital.example",
    ],
)
def test_a_listed_place_may_be_anywhere(url: str, tmp_path: Path) -> None:
    """A PACS is on a private address: the list rules, and what it says is what is called."""
    given = {"kind": "stow", "name": "p", "url": url}
    (place,) = Settings(data_dir=tmp_path, destinations=[given]).destinations
    assert isinstance(place, StowDestination)
    assert place_of(place.url) == (httpx.URL(place.url).scheme, httpx.URL(place.url).host)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No object and no event goes where a listed place sends us on to, not even to itself."""
    monkeypatch.setenv("PLACE_SECRET", SECRET)
    with receiving() as listed, receiving() as elsewhere:
        listed.answer = lambda _: status
        hook = Webhook(name="w", url=listed.address, secret=Secret(env="PLACE_SECRET"))
        for leads_to in (elsewhere.address, f"{listed.address}/other"):
            listed.headers["Location"] = leads_to
            listed.received.clear()
            with pytest.raises(SendFailed, match=str(status)):
                stow(StowDestination(kind="stow", name="p", url=listed.address), b"instance")
            with pytest.raises(SendFailed, match=str(status)):
                webhook(hook, "msg_1", 1, b"{}")
            assert [each.path for each in listed.received] == ["/studies", "/"]
        assert elsewhere.received == []


def test_a_missing_secret_is_told(serve: Serve) -> None:
    """Without its secret nothing is sent, and the reason names where it was looked for."""
    with receiving() as receiver:
        client = serve(
            run_analysis,
            destinations=stow_to(receiver, authorization={"env": "NOT_SET_ANYWHERE"}),
            delivery_attempts=1,
        )
        body = draft(client)
        deliver(client, body, "pacs", objects=["sr.dcm"])
        (delivery,) = ended(client, body["id"])
    assert "NOT_SET_ANYWHERE" in delivery["reason"]
    assert receiver.received == []


def test_nothing_to_send_is_said_at_once(serve: Serve) -> None:
    """An object that cannot be made is no failure to try again: the reason stands in its place."""
    with receiving() as receiver:
        client = serve(run_analysis, destinations=stow_to(receiver))
        body = draft(client, data=studies.dicom_still(calibrated=False))
        deliver(client, body, "pacs", objects=["seg.dcm"])
        (delivery,) = ended(client, body["id"])
    assert delivery["state"] == "failed"
    assert delivery["attempts"] == 1
    assert "scale" in delivery["reason"]


def test_other_bytes_than_the_pacs_confirms_are_not_taken_for_stored(tmp_path: Path) -> None:
    """A STOW answer that lists the instance as failed is a refusal, whatever its status."""
    refused = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}
    from app.delivery import sending

    assert sending._refusal(refused) == "failure reason 0xA700"
    assert sending._refusal({"00081199": {"vr": "SQ", "Value": [{}]}}) == ""
    assert sending._refusal(None) == ""


def test_tls_is_checked(tmp_path: Path) -> None:
    """Over https the receiver's certificate is checked against the listed authority."""
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with receiving(context) as receiver:
        place: dict[str, Any] = {"kind": "stow", "name": "p", "url": receiver.address}
        stow(StowDestination(**place, ca_file=tmp_path / "ca.pem"), b"instance")
        with pytest.raises(SendFailed, match="certificate"):
            stow(StowDestination(**place, ca_file=tmp_path / "other.pem"), b"instance")
        with pytest.raises(SendFailed, match="certificate"):
            stow(StowDestination(**place), b"instance")
    assert [each.instance for each in receiver.received] == [b"instance"]


def test_c_store_over_tls(tmp_path: Path) -> None:
    """C-STORE with TLS reaches a server whose authority is listed, and no other."""
    from app.delivery.sending import c_store

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    instance = studies.dicom_still()
    taken: list[str] = []

    def store(event: Any) -> int:
        taken.append(str(event.dataset.SOPInstanceUID))
        return 0x0000 if len(taken) == 1 else 0xA700

    ae = AE("PACS")
    ae.add_supported_context(studies.US_IMAGE)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    place = {"kind": "c_store", "name": "p", "host": "127.0.0.1", "called_ae": "PACS"}
    destination = StoreDestination(
        **place, port=server.server_address[1], tls=True, ca_file=tmp_path / "ca.pem"
    )
    try:
        c_store(destination, instance)
        with pytest.raises(SendFailed, match="0xA700"):
            c_store(destination, instance)
        with pytest.raises(SendFailed):
            c_store(destination.model_copy(update={"ca_file": None}), instance)
        with pytest.raises(SendFailed, match="does not take"):
            c_store(destination, studies.dicom_still(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
    finally:
        server.shutdown()
    assert len(taken) == 2


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The library of the convention's authors makes the same signature of the same message."""
    at = 1_614_265_330
    body = b'{"test": 2432232314}'
    ours = signature(SECRET, "msg_1", at, body)
    import datetime as dt

    theirs = Verifier(SECRET).sign("msg_1", dt.datetime.fromtimestamp(at, tz=dt.UTC), body.decode())
    assert ours == theirs
    with pytest.raises(SendFailed, match="base64"):
        signature("whsec_not base64", "msg_1", at, body)


def hook(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"name": "hook", "url": receiver.address, "secret": {"env": "HOOK_SECRET"}, **more}


def test_events_are_told_signed_and_without_a_patient(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draft and confirmation reach the listed URL, verified by the convention's own library."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with receiving() as receiver:
        answers = iter([500])
        receiver.answer = lambda _: next(answers, 204)
        client = serve(run_analysis, webhooks=[hook(receiver)], delivery_pause_s=PAUSE_S)
        body = confirmed(client, patient={"id": "P-1", "name": "Example^Ada", "age_years": 54})
        ended(client, body["id"], 2)
    told = [Verifier(SECRET).verify(r.body.decode(), r.headers) for r in receiver.received]
    assert sorted(each["type"] for each in told) == [
        "analysis.confirmed",
        "analysis.draft",
        "analysis.draft",
    ]
    first, second = (r for r in receiver.received if b"analysis.draft" in r.body)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert told[0]["data"] == {
        "analysis": body["id"],
        "revision": 1,
        "href": f"/api/v1/analyses/{body['id']}",
    }
    for received in receiver.received:
        assert b"Ada" not in received.body
        assert b"P-1" not in received.body
    forged = dict(first.headers, **{"webhook-signature": "v1,AAAA"})
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(first.body.decode(), forged)


def test_a_failed_delivery_is_an_event(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that listens for it hears of a delivery that was given up, and of nothing else."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with receiving() as receiver, receiving() as deaf:
        deaf.answer = lambda _: 500
        client = serve(
            run_analysis,
            webhooks=[hook(receiver, events=["delivery.failed"])],
            destinations=stow_to(deaf),
            delivery_attempts=1,
        )
        body = draft(client)
        deliver(client, body, "pacs", objects=["sr.dcm"])
        ended(client, body["id"], 2)
    (message,) = [json.loads(each.body) for each in receiver.received]
    assert message["type"] == "delivery.failed"
    assert message["data"]["destination"] == "pacs"


def test_a_failed_analysis_is_an_event(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An analysis that failed is told as such."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with receiving() as receiver:
        client = serve(workloads.dies, webhooks=[hook(receiver)], job_attempts=1)
        ended(client, post(client).json()["id"])
    assert json.loads(receiver.received[0].body)["type"] == "analysis.failed"


def test_two_services_send_once(serve: Serve) -> None:
    """Two services over one outbox share the work: each object is sent once."""
    with receiving() as receiver:
        first = serve(run_analysis, destinations=stow_to(receiver))
        second = serve(run_analysis, destinations=stow_to(receiver))
        bodies = [draft(first) for _ in range(3)]
        for body in bodies:
            deliver(second, body, "pacs", objects=["sr.dcm"])
        for body in bodies:
            ended(first, body["id"])
    assert len(receiver.received) == 3
    assert len({each.sop_instance_uid for each in receiver.received}) == 3


@contextlib.contextmanager
def sending_service(
    data: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, str]]:
    monkeypatch.setenv("SONODOSE_DESTINATIONS", json.dumps(stow_to(receiver)))
    monkeypatch.setenv("SONODOSE_DELIVERY_PAUSE_S", "0.5")
    with serving(data, "--workers", "1") as running:
        yield running


def ask(address: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 -- our own loopback address
        f"{address}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- as above
        return json.loads(answer.read())


@pytest.mark.parametrize("moment", ["between attempts", "before the answer"])
def test_a_killed_service_sends_again_under_the_same_uid(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 the next service sends what was not confirmed, byte for byte the same."""
    with receiving() as receiver:
        arrived, killed = threading.Event(), threading.Event()

        def answer(_: Received) -> int:
            arrived.set()
            if moment == "before the answer":
                killed.wait(30)
                return 200
            return 503

        receiver.answer = answer
        with sending_service(tmp_path, receiver, monkeypatch) as (process, address):
            still, headers = multipart(studies.dicom_still())
            posted = urllib.request.Request(  # noqa: S310 -- as above
                f"{address}{ANALYSES}", data=still, headers={**headers, "Prefer": "wait=60"}
            )
            with urllib.request.urlopen(posted, timeout=90) as made:  # noqa: S310 -- as above
                analysis = json.loads(made.read())
            path = f"{ANALYSES}/{analysis['id']}/deliveries"
            ask(address, path, {"destination": "pacs", "objects": ["sr.dcm"]})
            assert arrived.wait(60)
            process.kill()
            process.wait(10)
            killed.set()
        before = len(receiver.received)
        receiver.answer = lambda _: 200
        with sending_service(tmp_path, receiver, monkeypatch) as (_, address):
            end = time.monotonic() + 60
            while True:
                (delivery,) = ask(address, path)["deliveries"]
                if delivery["state"] == "delivered":
                    break
                assert time.monotonic() < end, delivery
                time.sleep(0.05)
    assert len(receiver.received) == before + 1
    assert len({each.instance for each in receiver.received}) == 1
    assert receiver.received[-1].sop_instance_uid == delivery["objects"][0]["sop_instance_uid"]


def test_a_uid_of_another_file_is_not_ours() -> None:
    """The hash of the tests sees a changed value: it could not pass for anything else."""
    one = studies.dicom_still(SOPInstanceUID=generate_uid())
    assert hash_of(one) != hash_of(one.replace(b"Example^Ada", b"Example^Eve"))
