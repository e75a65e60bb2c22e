"""STOW-RS (PS3.18 10.5): objects of a study in, and what became of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Parts, Submitter
from api.dicomweb import (
    HOME,
    JSON,
    XML,
    StudyUid,
    accepted,
    address,
    home_of,
    json_response,
    not_acceptable,
    tag_of,
    value,
)
from api.related import receive_objects
from api.responses import Documented, refusals
from app.errors import AppError, DiskFull
from app.intake.archive import Kept, keep_instances
from app.intake.examine import Examined, Upload, examine_objects
from app.services import Services
from imaging.dicom.document import Json, xml_of
from imaging.dicom.serve import Names, names_in
from imaging.errors import ImagingError, TooLarge, UnknownClass, UnsupportedSyntax

router = APIRouter(prefix=HOME, tags=["dicomweb"])

# Failure Reason (0008,1197): PS3.18 table I.2-2 and, for the classes A7xx, A9xx and Cxxx, PS3.4
# table B.2-1.
OUT_OF_RESOURCES = 0xA700
OTHER_STUDY = 0xA901
CANNOT_UNDERSTAND = 0xC000
SYNTAX_NOT_SUPPORTED = 0xC122
CLASS_NOT_SUPPORTED = 0x0122
DUPLICATE = 0x0111
PROCESSING_FAILURE = 0x0110
# Warning Reason (0008,1196): other bytes under a known UID; the first ones are what is found.
COERCED = 0xB000
KEPT_BESIDE = 0xB00E
BATCH = 64
NAMES_S = 20.0

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/related": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "DICOM objects (PS3.10), one a part, as application/dicom.",
                }
            }
        },
    }
}
ANSWER = {
    JSON: {"schema": {"type": "object"}},
    XML: {"schema": {"type": "string"}},
}
RESPONSES: Documented = {
    200: {"content": ANSWER, "description": "Every object is stored"},
    202: {"content": ANSWER, "description": "Some are stored, or with a warning"},
    **refusals("too_large", "disk_full", "unsupported_media_type", "not_acceptable"),
    409: {"content": ANSWER, "description": "None is stored"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object that is in the store, with a warning where other bytes came first."""

    file: Examined
    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An object that is not, why, and its names as far as it has any."""

    reason: int
    message: str
    names: Names


@router.post("/studies", response_class=Response, responses=RESPONSES, openapi_extra=BODY)
async def store(request: Request, parts: Parts, principal: Submitter) -> Response:
    """Stores the objects of any studies; the same bytes again change nothing."""
    return await _store(request, parts, principal.name, None)


@router.post("/studies/{study}", response_class=Response, responses=RESPONSES, openapi_extra=BODY)
async def store_in_study(
    request: Request, study: StudyUid, parts: Parts, principal: Submitter
) -> Response:
    """Stores the objects of one study; those of another are refused."""
    return await _store(request, parts, principal.name, study)


async def _store(request: Request, parts: Services, principal: str, study: str | None) -> Response:
    as_xml = _wants_xml(request)
    uploads: list[Upload] = []
    try:
        await receive_objects(request, uploads, blobs=parts.blobs, settings=parts.settings)
        answers = await run_in_threadpool(_keep, parts, uploads, principal, study)
    finally:
        for upload in uploads:
            upload.incoming.discard()
    document = _document(request, parts, answers, study)
    status = _status(answers)
    if as_xml:
        return Response(xml_of(document), status, media_type=XML)
    return json_response(document, status=status)


def _wants_xml(request: Request) -> bool:
    for wanted in accepted(request):
        if wanted.anything or wanted.media_type in (JSON, "application/json", "application/*"):
            return False
        if wanted.media_type == XML:
            return True
    raise not_acceptable(JSON, XML)


def _keep(
    parts: Services, uploads: Sequence[Upload], principal: str, study: str | None
) -> list[Stored | Refused]:
    """What became of each object, in the order in which they came."""
    answers: list[Stored | Refused] = []
    for start in range(0, len(uploads), BATCH):
        answers += _keep_batch(parts, uploads[start : start + BATCH], principal, study)
    return answers


def _keep_batch(
    parts: Services, uploads: Sequence[Upload], principal: str, study: str | None
) -> list[Stored | Refused]:
    looked = examine_objects(uploads, door=parts.door, limits=parts.limits)
    answers: dict[int, Stored | Refused] = {}
    good: list[tuple[int, Examined]] = []
    for number, (upload, found) in enumerate(zip(uploads, looked, strict=True)):
        if not isinstance(found, Examined):
            answers[number] = _refused(parts, upload, found)
        elif study is not None and _names(found)[2] != study:
            answers[number] = Refused(
                reason=OTHER_STUDY,
                message=f"{upload.name} belongs to another study.",
                names=Names(*_names(found)[:2]),
            )
        else:
            good.append((number, found))
    try:
        kept = keep_instances(
            [file for _, file in good],
            principal=principal,
            store=parts.store,
            blobs=parts.blobs,
            door=parts.door,
            settings=parts.settings,
        )
    except DiskFull as full:
        for number, file in good:
            answers[number] = Refused(
                reason=OUT_OF_RESOURCES, message=full.message, names=Names(*_names(file)[:2])
            )
        kept, good = (), []
    for (number, file), answer in zip(good, kept, strict=True):
        answers[number] = (
            Stored(file=file, kept=answer)
            if isinstance(answer, Kept)
            else Refused(reason=DUPLICATE, message=answer.message, names=Names(*_names(file)[:2]))
        )
    return [answers[number] for number in range(len(uploads))]


def _names(file: Examined) -> tuple[str | None, str | None, str | None]:
    who = file.facts.identity
    if who is None:
        return None, None, None
    return who.sop_class_uid, who.sop_instance_uid, who.study_instance_uid


def _refused(parts: Services, upload: Upload, error: ImagingError | AppError) -> Refused:
    reason = CANNOT_UNDERSTAND
    if isinstance(error, UnsupportedSyntax):
        reason = SYNTAX_NOT_SUPPORTED
    elif isinstance(error, UnknownClass):
        reason = CLASS_NOT_SUPPORTED
    elif isinstance(error, TooLarge):
        reason = OUT_OF_RESOURCES
    try:
        names = parts.door.result(parts.door.run(names_in, upload.incoming.path), within_s=NAMES_S)
    except AppError:
        names = Names(None, None)
    return Refused(reason=reason, message=error.message, names=names)


def _status(answers: Sequence[Stored | Refused]) -> int:
    if not any(isinstance(a, Stored) for a in answers):
        return 409
    clean = all(isinstance(a, Stored) and a.kept.conflicts_with is None for a in answers)
    return 200 if clean else 202


def _document(
    request: Request, parts: Services, answers: Sequence[Stored | Refused], study: str | None
) -> Json:
    """The Store Instances Response Module (PS3.18 table I.1-1)."""
    stored = [a for a in answers if isinstance(a, Stored)]
    failed = [a for a in answers if isinstance(a, Refused)]
    named = [a for a in failed if a.names.sop_class_uid and a.names.sop_instance_uid]
    other = [a for a in failed if a not in named]
    studies = {_names(a.file)[2] for a in stored} if study is None else {study}
    document: Json = {}
    if len(studies) == 1:
        (one,) = studies
        document[tag_of("RetrieveURL")] = value(
            "UR", address(request, parts.settings, *home_of(one or ""))
        )
    for keyword, items in (
        ("FailedSOPSequence", [_failed_item(a) for a in named]),
        ("ReferencedSOPSequence", [_stored_item(request, parts, a) for a in stored]),
        ("OtherFailuresSequence", [_reason(a) for a in other]),
    ):
        if items:
            document[tag_of(keyword)] = {"vr": "SQ", "Value": items}
    return document


def _stored_item(request: Request, parts: Services, answer: Stored) -> Json:
    who = answer.file.facts.identity
    assert who is not None  # noqa: S101 -- an object without names is refused
    item = _sop(Names(who.sop_class_uid, who.sop_instance_uid))
    steps = home_of(who.study_instance_uid or "", who.series_instance_uid, who.sop_instance_uid)
    item[tag_of("RetrieveURL")] = value("UR", address(request, parts.settings, *steps))
    if answer.kept.conflicts_with is not None:
        code = COERCED if answer.kept.same_pixels else KEPT_BESIDE
        item[tag_of("WarningReason")] = value("US", code)
    return item


def _failed_item(answer: Refused) -> Json:
    return {**_sop(answer.names), **_reason(answer)}


def _reason(answer: Refused) -> Json:
    # Error Comment is no part of the module, and no reader minds it: it has the words for a person.
    return {
        tag_of("FailureReason"): value("US", answer.reason),
        tag_of("ErrorComment"): value("LO", answer.message[:64]),
    }


def _sop(names: Names) -> Json:
    return {
        tag_of("ReferencedSOPClassUID"): value("UI", names.sop_class_uid),
        tag_of("ReferencedSOPInstanceUID"): value("UI", names.sop_instance_uid),
    }
