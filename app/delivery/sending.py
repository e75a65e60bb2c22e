"""One object or one event over the wire: STOW-RS, C-STORE, a signed webhook.

Each sends once and either comes back or raises SendFailed with what the other side said; when to
try again is not decided here. No redirect is followed: the listed host is the only one contacted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydicom import dcmread
from pynetdicom import AE

from app.destinations import Secret, StoreDestination, StowDestination, Webhook

CONNECT_S, ANSWER_S = 10.0, 60.0
LONGEST_ANSWER = 1 << 20
USER_AGENT = "sonodose"


class SendFailed(Exception):
    """It was not taken; `str()` is the reason in words, without patient data."""


def stow(destination: StowDestination, instance: bytes) -> None:
    """Stores one DICOM file (PS3.18 10.5). Raises SendFailed unless the PACS says it has it."""
    boundary = hashlib.sha256(instance).hexdigest()
    body = b"".join(
        (
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
            instance,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    headers = {
        "Accept": "application/dicom+json",
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
    }
    if destination.authorization is not None:
        headers["Authorization"] = _secret(destination.authorization)
    status, answer = _post(f"{destination.url}/studies", body, headers, destination.ca_file)
    refused = _refusal(answer)
    if status not in (200, 202) or refused:
        raise SendFailed(f"The PACS answered {status}{f': {refused}' if refused else ''}.")


def _refusal(answer: Any) -> str:
    """What a Store Instances Response Module (PS3.18 table 10.5.3-1) says of failed instances."""
    failed = _sequence(answer, "00081198")
    codes = [_first(item, "00081197") for item in failed]
    return ", ".join(
        "refused" if code is None else f"failure reason 0x{int(code):04X}" for code in codes
    )


def _sequence(answer: Any, tag: str) -> list[Any]:
    answer = answer[0] if isinstance(answer, list) and answer else answer
    element = answer.get(tag) if isinstance(answer, dict) else None
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def _first(item: Any, tag: str) -> Any:
    values = _sequence(item, tag)
    return values[0] if values else None


def c_store(destination: StoreDestination, instance: bytes) -> None:
    """Stores one DICOM file by DIMSE, in its own transfer syntax (PS3.7 9.1.1).

    Raises SendFailed unless the answer is a success or a warning, which says it is stored.
    """
    ds = dcmread(io.BytesIO(instance))
    ae = AE(ae_title=destination.calling_ae)
    ae.connection_timeout = CONNECT_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_S
    ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = ae.associate(
        destination.host,
        destination.port,
        ae_title=destination.called_ae,
        tls_args=_tls(destination),
    )
    if not association.is_established:
        said = "did not answer"
        if association.is_rejected:
            said = "rejected the association"
        elif association.rejected_contexts:
            said = f"does not take {ds.SOPClassUID.name}"
        raise SendFailed(f"{destination.called_ae} {said}.")
    try:
        status = association.send_c_store(ds)
    finally:
        association.release()
    code = status.get("Status")
    if code is None:
        raise SendFailed(f"{destination.called_ae} broke off without an answer.")
    if code != 0x0000 and code >> 12 != 0xB:
        comment = str(status.get("ErrorComment", ""))[:64]
        raise SendFailed(f"{destination.called_ae} answered 0x{code:04X} {comment}".strip() + ".")


def _tls(destination: StoreDestination) -> tuple[ssl.SSLContext, str] | None:
    if not destination.tls:
        return None
    context = _context(destination.ca_file)
    if destination.certificate_file is not None:
        context.load_cert_chain(destination.certificate_file, destination.key_file)
    return context, destination.host


def webhook(hook: Webhook, message_id: str, at_s: int, body: bytes) -> None:
    """Tells of an event, signed as Standard Webhooks does. Raises SendFailed unless it is a 2xx."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature(_secret(hook.secret), message_id, at_s, body),
    }
    status, _ = _post(hook.url, body, headers, hook.ca_file)
    if not 200 <= status < 300:
        raise SendFailed(f"The webhook answered {status}.")


def signature(secret: str, message_id: str, at_s: int, body: bytes) -> str:
    """HMAC-SHA256 over id, time and body; a secret that begins with whsec_ is base64 after it.

    Source: Standard Webhooks, specification 1.0, symmetric signatures. Raises SendFailed for a
    secret that is no base64.
    """
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise SendFailed("The webhook's secret is not base64 after whsec_.") from None
    signed = f"{message_id}.{at_s}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _post(url: str, body: bytes, headers: dict[str, str], ca_file: Path | None) -> tuple[int, Any]:
    """(status, parsed JSON or None)."""
    verify = _context(ca_file) if urlsplit(url).scheme == "https" else True
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    try:
        # No proxy and no netrc of the environment: the way is as listed.
        with (
            httpx.Client(
                verify=verify, timeout=timeout, trust_env=False, follow_redirects=False
            ) as client,
            client.stream(
                "POST", url, content=body, headers={"User-Agent": USER_AGENT, **headers}
            ) as answer,
        ):
            data = b""
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > LONGEST_ANSWER:
                    break
    except (httpx.HTTPError, OSError) as lost:
        raise SendFailed(f"{urlsplit(url).hostname} could not be reached: {lost}") from lost
    try:
        parsed = json.loads(data) if data else None
    except ValueError:
        parsed = None
    return answer.status_code, parsed


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as missing:
        raise SendFailed(f"The certificates cannot be read: {missing}") from missing


def _secret(secret: Secret) -> str:
    try:
        return secret.read()
    except (OSError, KeyError):
        place = secret.file or secret.env
        raise SendFailed(f"The secret cannot be read from {place}.") from None
