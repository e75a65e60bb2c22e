"""WADO-RS (PS3.18 10.4): objects, their metadata, frames, binary values and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydicom.uid import ExplicitVRLittleEndian
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.deps import Parts, Reader
from api.dicomweb import (
    DICOM,
    HOME,
    JSON,
    OCTETS,
    InstanceUid,
    SeriesUid,
    StudyUid,
    Wanted,
    accepted,
    address,
    documents,
    home_of,
    not_acceptable,
)
from api.related import Part, related
from api.responses import Documented, refusals
from app.services import Services
from app.store.blobs import Incoming
from app.store.rows import InstanceRow
from app.store.study_search import instances_of
from imaging.dicom.document import Json
from imaging.dicom.serve import (
    MEDIA_TYPES,
    Encoded,
    as_explicit,
    binary_value,
    metadata,
    picture,
    plain_frames,
    stored_frames,
)
from imaging.errors import NotThere, UnreadableFile

router = APIRouter(prefix=HOME, tags=["dicomweb"])

READ_S = 120.0
METADATA_BATCH = 50
THUMBNAIL_PX = 256
EXPLICIT = str(ExplicitVRLittleEndian)

Frames = Annotated[
    str,
    Path(
        pattern="^[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*$",
        max_length=4000,
        description="Frame numbers from 1, with commas between.",
        examples=["1"],
    ),
]
Place = Annotated[
    str,
    Path(
        pattern="^[0-9A-Fa-f]{8}(/[0-9]{1,6}/[0-9A-Fa-f]{8}){0,32}$",
        description="A tag, or TAG/item/TAG… for a value within sequences.",
        examples=["7FE00010"],
    ),
]
Viewport = Annotated[
    str | None,
    Query(pattern="^[1-9][0-9]{0,3},[1-9][0-9]{0,3}$", description="Width and height at most."),
]
Quality = Annotated[int, Query(ge=1, le=100)]


def _answers(*types: str) -> Documented:
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in types}
    return {200: {"content": content, "description": "What was asked for"}, **REFUSED}


REFUSED = refusals("not_found", "not_acceptable", "unreadable_file", "worker_died")
OBJECTS = _answers("multipart/related", DICOM)
OCTET_ANSWERS = _answers("multipart/related", OCTETS, "image/*", "video/*")
PICTURES = _answers("image/jpeg", "image/png", "multipart/related")
DOCUMENTS: Documented = {
    200: {
        "content": {JSON: {"schema": {"type": "array", "items": {"type": "object"}}}},
        "description": "The metadata of each instance",
    },
    **REFUSED,
}


def _study_rows(study: StudyUid, parts: Parts) -> Sequence[InstanceRow]:
    return _rows(parts, study)


def _series_rows(study: StudyUid, series: SeriesUid, parts: Parts) -> Sequence[InstanceRow]:
    return _rows(parts, study, series)


def _one_row(
    study: StudyUid, series: SeriesUid, instance: InstanceUid, parts: Parts
) -> InstanceRow:
    (row,) = _rows(parts, study, series, instance)
    return row


def _rows(
    parts: Services, study: str, series: str | None = None, instance: str | None = None
) -> Sequence[InstanceRow]:
    with parts.store.read() as session:
        return instances_of(session, study, series, instance)


# The instances that an address names. `Reader` stands before them in every route: who may not
# read does not learn what is there.
StudyRows = Annotated[Sequence[InstanceRow], Depends(_study_rows)]
SeriesRows = Annotated[Sequence[InstanceRow], Depends(_series_rows)]
OneRow = Annotated[InstanceRow, Depends(_one_row)]
STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"


@router.get(STUDY, response_class=Response, responses=OBJECTS)
def get_study(request: Request, principal: Reader, rows: StudyRows, parts: Parts) -> Response:
    """All objects of a study."""
    return _objects(request, parts, rows)


@router.get(SERIES, response_class=Response, responses=OBJECTS)
def get_series(request: Request, principal: Reader, rows: SeriesRows, parts: Parts) -> Response:
    """All objects of a series."""
    return _objects(request, parts, rows)


@router.get(INSTANCE, response_class=Response, responses=OBJECTS)
def get_instance(request: Request, principal: Reader, row: OneRow, parts: Parts) -> Response:
    """One object: as it is stored, or in explicit little endian where no syntax is named."""
    return _objects(request, parts, [row])


@router.get(f"{STUDY}/metadata", response_class=Response, responses=DOCUMENTS)
def get_study_metadata(
    request: Request, principal: Reader, rows: StudyRows, parts: Parts
) -> Response:
    """The metadata of all objects of a study."""
    return _metadata(request, parts, rows)


@router.get(f"{SERIES}/metadata", response_class=Response, responses=DOCUMENTS)
def get_series_metadata(
    request: Request, principal: Reader, rows: SeriesRows, parts: Parts
) -> Response:
    """The metadata of all objects of a series."""
    return _metadata(request, parts, rows)


@router.get(f"{INSTANCE}/metadata", response_class=Response, responses=DOCUMENTS)
def get_instance_metadata(
    request: Request, principal: Reader, row: OneRow, parts: Parts
) -> Response:
    """The metadata of one object; large binary values as addresses."""
    return _metadata(request, parts, [row])


@router.get(f"{INSTANCE}/frames/{{frames}}", response_class=Response, responses=OCTET_ANSWERS)
def get_frames(
    request: Request, principal: Reader, row: OneRow, frames: Frames, parts: Parts
) -> Response:
    """Frames as stored (`transfer-syntax=*`), or decoded where no syntax is named."""
    numbers = [int(number) - 1 for number in frames.split(",")]
    wanted, as_stored, media_type = _frame_form(request, row, single=len(numbers) == 1)
    make = stored_frames if as_stored else plain_frames
    path = parts.blobs.path(row.sha256)
    found = parts.door.result(parts.door.run(make, path, numbers), within_s=READ_S)
    bodies = [Part(media_type=_coded(media_type, each), body=each.data) for each in found]
    if not wanted.multipart and not wanted.anything:
        return Response(bodies[0].body, headers={"Content-Type": bodies[0].media_type})
    return related(bodies, kind=media_type)


@router.get(f"{INSTANCE}/bulkdata/{{place:path}}", response_class=Response, responses=OCTET_ANSWERS)
def get_bulk_data(
    request: Request, principal: Reader, row: OneRow, place: Place, parts: Parts
) -> Response:
    """A binary value that the metadata names by its address."""
    wanted = _first(request, OCTETS)
    path = parts.blobs.path(row.sha256)
    found = parts.door.result(parts.door.run(binary_value, path, place.upper()), within_s=READ_S)
    if not wanted.multipart and not wanted.anything:
        return Response(found, media_type=OCTETS)
    return related([Part(media_type=OCTETS, body=found)], kind=OCTETS)


@router.get(f"{INSTANCE}/rendered", response_class=Response, responses=PICTURES)
def get_rendered(
    request: Request,
    principal: Reader,
    row: OneRow,
    parts: Parts,
    viewport: Viewport = None,
    quality: Quality = 90,
) -> Response:
    """The first frame as a picture: JPEG, or PNG where that is asked for."""
    return _pictures(request, parts, row, [0], _longest(viewport), quality)


@router.get(f"{INSTANCE}/frames/{{frames}}/rendered", response_class=Response, responses=PICTURES)
def get_rendered_frames(
    request: Request,
    principal: Reader,
    row: OneRow,
    frames: Frames,
    parts: Parts,
    viewport: Viewport = None,
    quality: Quality = 90,
) -> Response:
    """Frames as pictures."""
    numbers = [int(number) - 1 for number in frames.split(",")]
    return _pictures(request, parts, row, numbers, _longest(viewport), quality)


@router.get(f"{STUDY}/thumbnail", response_class=Response, responses=PICTURES)
def get_study_thumbnail(
    request: Request, principal: Reader, rows: StudyRows, parts: Parts, viewport: Viewport = None
) -> Response:
    """A small picture of the study's first image."""
    return _thumbnail(request, parts, viewport, rows)


@router.get(f"{SERIES}/thumbnail", response_class=Response, responses=PICTURES)
def get_series_thumbnail(
    request: Request, principal: Reader, rows: SeriesRows, parts: Parts, viewport: Viewport = None
) -> Response:
    """A small picture of the series' first image."""
    return _thumbnail(request, parts, viewport, rows)


@router.get(f"{INSTANCE}/thumbnail", response_class=Response, responses=PICTURES)
def get_thumbnail(
    request: Request, principal: Reader, row: OneRow, parts: Parts, viewport: Viewport = None
) -> Response:
    """A small picture of the instance's first frame."""
    return _thumbnail(request, parts, viewport, [row])


@router.get(f"{INSTANCE}/frames/{{frames}}/thumbnail", response_class=Response, responses=PICTURES)
def get_frame_thumbnail(
    request: Request,
    principal: Reader,
    row: OneRow,
    frames: Frames,
    parts: Parts,
    viewport: Viewport = None,
) -> Response:
    """Small pictures of the frames."""
    numbers = [int(number) - 1 for number in frames.split(",")]
    return _pictures(request, parts, row, numbers, _longest(viewport) or THUMBNAIL_PX, 85)


def _first(request: Request, *types: str) -> Wanted:
    """The first entry of Accept that is one of these types. Raises EdgeProblem: not_acceptable."""
    for wanted in accepted(request):
        if wanted.anything or wanted.media_type in types:
            return wanted
    raise not_acceptable(*(f'multipart/related; type="{each}"' for each in types))


def _coded(media_type: str, frame: Encoded) -> str:
    return f"{media_type}; transfer-syntax={frame.transfer_syntax_uid}"


def _objects(request: Request, parts: Services, rows: Sequence[InstanceRow]) -> Response:
    wanted = _first(request, DICOM)
    alone = not wanted.multipart and not wanted.anything
    if alone and len(rows) > 1:
        raise not_acceptable(f'multipart/related; type="{DICOM}"')
    # PS3.18 8.7.3.5.2: explicit little endian is meant where no syntax is named; who takes
    # anything gets the object as it is.
    syntax = wanted.transfer_syntax or ("*" if wanted.anything else EXPLICIT)
    copies: list[Incoming] = []
    try:
        found = [_object(request, parts, row, syntax, copies) for row in rows]
    except BaseException:
        _discard(copies)
        raise
    tidy = BackgroundTask(_discard, copies)
    if alone:
        (one,) = found
        assert not isinstance(one.body, bytes)  # noqa: S101 -- told to the type checker
        return FileResponse(one.body, headers={"Content-Type": one.media_type}, background=tidy)
    answer = related(found, kind=DICOM)
    answer.background = tidy
    return answer


def _object(
    request: Request, parts: Services, row: InstanceRow, syntax: str, copies: list[Incoming]
) -> Part:
    path = parts.blobs.path(row.sha256)
    stored = row.transfer_syntax_uid or EXPLICIT
    if syntax not in ("*", stored):
        if syntax != EXPLICIT:
            raise not_acceptable(f"transfer-syntax=* ({stored} is stored)")
        copy = parts.blobs.incoming()
        copies.append(copy)
        try:
            work = parts.door.run(as_explicit, path, copy.path)
            stored, path = parts.door.result(work, within_s=READ_S), copy.path
        except UnreadableFile:
            pass  # what nobody decodes is sent as it is, its syntax named
    steps = home_of(
        row.study_instance_uid or "", row.series_instance_uid or "", row.sop_instance_uid or ""
    )
    return Part(
        media_type=f"{DICOM}; transfer-syntax={stored}",
        body=path,
        location=address(request, parts.settings, *steps),
    )


def _discard(copies: Sequence[Incoming]) -> None:
    for copy in copies:
        copy.discard()


def _metadata(request: Request, parts: Services, rows: Sequence[InstanceRow]) -> Response:
    found: list[Json] = []
    for start in range(0, len(rows), METADATA_BATCH):
        work = [
            (parts.blobs.path(row.sha256), _bulk_at(request, parts, row))
            for row in rows[start : start + METADATA_BATCH]
        ]
        found += parts.door.result(parts.door.run(metadata, work), within_s=READ_S)
    return documents(request, found)


def _bulk_at(request: Request, parts: Services, row: InstanceRow) -> str:
    steps = home_of(
        row.study_instance_uid or "", row.series_instance_uid or "", row.sop_instance_uid or ""
    )
    return address(request, parts.settings, *steps, "bulkdata")


def _frame_form(request: Request, row: InstanceRow, *, single: bool) -> tuple[Wanted, bool, str]:
    """(the entry of Accept, whether the stored coding is meant, the media type of a frame)."""
    stored = row.transfer_syntax_uid or EXPLICIT
    coded = MEDIA_TYPES.get(stored, OCTETS)
    for wanted in accepted(request):
        if not wanted.multipart and not wanted.anything and not single:
            continue
        syntax = wanted.transfer_syntax
        if wanted.media_type == OCTETS or wanted.anything:
            if syntax is not None and syntax in ("*", stored):
                return wanted, True, OCTETS
            if syntax in (None, EXPLICIT):
                return wanted, False, OCTETS
        elif _fits(wanted.media_type, coded) and syntax in (None, "*", stored):
            return wanted, True, coded
    raise not_acceptable(f'multipart/related; type="{OCTETS}"; transfer-syntax=*')


def _fits(asked: str, coded: str) -> bool:
    return coded != OCTETS and asked in (coded, f"{coded.partition('/')[0]}/*")


def _longest(viewport: str | None) -> int | None:
    return None if viewport is None else max(int(side) for side in viewport.split(","))


def _thumbnail(
    request: Request, parts: Services, viewport: str | None, rows: Sequence[InstanceRow]
) -> Response:
    images = [row for row in rows if row.facts.get("rows")]
    if not images:
        raise NotThere("There is no image.", remedy="Reports and states have no pixels.")
    # A picture of the source tells more than one of a mask made of it.
    first = min(images, key=lambda row: row.made_for is not None)
    return _pictures(request, parts, first, [0], _longest(viewport) or THUMBNAIL_PX, 85)


def _pictures(
    request: Request,
    parts: Services,
    row: InstanceRow,
    numbers: Sequence[int],
    longest_px: int | None,
    quality: int,
) -> Response:
    wanted = _first(request, "image/jpeg", "image/png", "image/*")
    kind: Literal["JPEG", "PNG"] = "PNG" if wanted.media_type == "image/png" else "JPEG"
    media_type = f"image/{kind.lower()}"
    path = parts.blobs.path(row.sha256)
    made = [
        parts.door.result(
            parts.door.run(picture, path, number, kind, longest_px=longest_px, quality=quality),
            within_s=READ_S,
        )
        for number in numbers
    ]
    if len(made) == 1 and not wanted.multipart:
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(made[0], media_type=media_type, headers=headers)
    return related([Part(media_type=media_type, body=each) for each in made], kind=media_type)
