"""Every refusal as an RFC 9457 problem document, from one table.

The rooms below raise errors with a code, a message and a way out, and know no HTTP; here each
code gets its status and title. A failed job keeps the code and the words, so that it answers as
an immediate refusal does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.clinic.errors import ClinicError
from app.errors import AppError, ConfirmationRefused, StaleEdit
from imaging.errors import ImagingError
from models.errors import ModelError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means to HTTP."""

    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    # files
    "imaging_error": Kind(422, "The image cannot be used"),
    "unreadable_file": Kind(422, "The file cannot be read"),
    "unsupported_syntax": Kind(415, "The image's coding is not known here"),
    "not_ultrasound": Kind(422, "Not an ultrasound image"),
    "unknown_class": Kind(422, "Not a kind of object that is stored here"),
    "not_there": Kind(404, "The object has no such part"),
    "too_large": Kind(413, "Too large"),
    "picture_not_found": Kind(422, "The picture cannot be told from the writing around it"),
    "calibration_refused": Kind(422, "The scale cannot be true"),
    # clinic
    "clinic_error": Kind(422, "The clinical request cannot be carried out"),
    "unknown_muscle": Kind(422, "Unknown muscle"),
    "unknown_product": Kind(422, "Unknown product"),
    "unknown_indication": Kind(422, "Unknown indication"),
    "product_not_for_indication": Kind(422, "The product is not for this indication"),
    "missing_patient_fact": Kind(422, "A fact of the patient is missing"),
    "invalid_input": Kind(422, "A value cannot be true"),
    "table_error": Kind(503, "A clinical table cannot be used"),
    # network
    "model_error": Kind(503, "The network cannot be used"),
    "weights_missing": Kind(503, "The network's weights are missing"),
    "weights_refused": Kind(503, "The network's weights are not the right ones"),
    # request and store
    "app_error": Kind(422, "The request cannot be carried out"),
    "request_conflict": Kind(422, "The request contradicts itself"),
    "mixed_patients": Kind(422, "More than one patient"),
    "frame_not_found": Kind(422, "No such frame"),
    "no_object": Kind(409, "This object cannot be made"),
    "not_found": Kind(404, "Not found"),
    "state_conflict": Kind(409, "Not in this state"),
    "confirmation_refused": Kind(409, "The plan cannot be confirmed"),
    "rules_refused": Kind(503, "The routing rules cannot be used"),
    "stale_edit": Kind(412, "Somebody else was faster"),
    "idempotency_conflict": Kind(422, "The Idempotency-Key was used before"),
    "instance_conflict": Kind(409, "The image is known with other bytes"),
    "telemetry_missing": Kind(503, "Traces cannot be made"),
    "tampered": Kind(503, "Tables or weights are not as released"),
    "too_busy": Kind(429, "Too busy"),
    "disk_full": Kind(429, "No space left"),
    "job_lost": Kind(422, "The study could not be finished"),
    "canary_failed": Kind(503, "The network does not give its known answer"),
    "cluster_lost": Kind(503, "The cluster is away"),
    "worker_died": Kind(422, "The study could not be read to its end"),
    "took_too_long": Kind(422, "The study took too long"),
    # the edge itself
    "bad_request": Kind(400, "The request cannot be understood"),
    "invalid_request": Kind(422, "The request is not valid"),
    "unauthenticated": Kind(401, "Who are you?"),
    "forbidden": Kind(403, "Not allowed"),
    "person_required": Kind(403, "A person must do this"),
    "foreign_origin": Kind(403, "From a foreign page"),
    "too_slow": Kind(408, "Too slow"),
    "too_many_requests": Kind(429, "Too many requests"),
    "sign_in_unavailable": Kind(503, "Nobody can be recognised now"),
    "method_not_allowed": Kind(405, "Not this method"),
    "not_acceptable": Kind(406, "Not in this form"),
    "unsupported_media_type": Kind(415, "Not in this media type"),
    "precondition_required": Kind(428, "If-Match is missing"),
    "http_error": Kind(400, "The request was refused"),
    "not_ready": Kind(503, "Not ready"),
    "internal": Kind(500, "The service failed"),
}


class EdgeProblem(Exception):
    """A refusal that only the HTTP edge knows."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        remedy: str,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.headers = headers
        self.errors = errors


def document(
    code: str, detail: str, remedy: str, *, instance: str | None = None, **more: Any
) -> dict[str, Any]:
    """The problem document of a code; `more` holds members that are left out when empty."""
    kind = KINDS.get(code, KINDS["internal"])
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
        "remedy": remedy,
    }
    if instance is not None:
        body["instance"] = instance
    body.update({key: value for key, value in more.items() if value})
    return body


def of_error(
    error: AppError | ClinicError | ImagingError | ModelError | EdgeProblem,
    *,
    instance: str | None = None,
) -> dict[str, Any]:
    """The problem document of an error from any room."""
    more: dict[str, Any] = {}
    if isinstance(error, ClinicError):
        more["field"] = error.field
    if isinstance(error, ConfirmationRefused):
        more["reasons"] = list(error.reasons)
    if isinstance(error, StaleEdit):
        more["current_etag"] = error.current_etag
        more["difference"] = error.difference
    if isinstance(error, EdgeProblem):
        more["errors"] = error.errors
    return document(error.code, error.message, error.remedy, instance=instance, **more)


def of_validation(errors: Sequence[Any]) -> EdgeProblem:
    """The problem of a body, query or header that breaks its schema, each fault by its place.

    What was sent is not repeated: it may name a patient.
    """
    faults = [
        {"field": ".".join(str(part) for part in error["loc"]), "message": str(error["msg"])}
        for error in errors[:50]
    ]
    said = "; ".join(f"{f['field'] or 'the body'}: {f['message']}" for f in faults[:3])
    return EdgeProblem(
        "invalid_request",
        f"The request is not valid: {said}."[:1000],
        remedy="Correct the fields named in `errors`; /api/v1/openapi.json describes each.",
        errors=faults,
    )


def of_record(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The problem document of a failed job, from what its revision keeps."""
    return document(problem["code"], problem["message"], problem["remedy"])


def respond(
    body: Mapping[str, Any], request: Request, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The document as a response, with the request's id and what the status asks for."""
    sent = dict(headers or {})
    if body["status"] == 429:
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    if body["status"] == 401:
        sent["WWW-Authenticate"] = "Bearer"
    request.state.problem = body["code"]
    body = {"instance": request.url.path, **body}
    request_id = getattr(request.state, "request_id", None)
    if request_id is not None:
        body["request_id"] = request_id
    return JSONResponse(body, status_code=body["status"], headers=sent, media_type=MEDIA_TYPE)
