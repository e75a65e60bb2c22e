"""QIDO-RS (PS3.18 10.6): studies, series and instances by their attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Parts, Reader
from api.dicomweb import (
    HOME,
    JSON,
    SeriesUid,
    StudyUid,
    address,
    attribute,
    documents,
    home_of,
    person,
    tag_of,
    value,
)
from api.problems import EdgeProblem
from api.responses import Documented, refusals
from app.services import Services
from app.store.rows import InstanceRow, SeriesRow, StudyRow
from app.store.study_search import Found, Level, keys_of, search
from imaging.dicom.document import Json

router = APIRouter(prefix=HOME, tags=["dicomweb"])

MOST = 1000
"""Rows of one answer, however many are asked for; `offset` leads to the rest."""
RESERVED = frozenset({"limit", "offset", "fuzzymatching", "includefield", "accept"})
RESPONSES: Documented = {
    200: {
        "content": {JSON: {"schema": {"type": "array", "items": {"type": "object"}}}},
        "description": "The rows; an empty list where nothing matches",
    },
    **refusals("not_acceptable"),
}

Limit = Annotated[int, Query(ge=0, le=1_000_000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
Fuzzy = Annotated[bool, Query(description="Not done: answered with a Warning header.")]
Fields = Annotated[
    list[str],
    Query(description="Attributes by keyword or tag, or `all`; those that are held are returned."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which rows of an answer are asked for, and whether they may match loosely."""

    limit: int
    offset: int
    fuzzy: bool


def _page(
    limit: Limit = MOST,
    offset: Offset = 0,
    fuzzymatching: Fuzzy = False,
    includefield: Fields = [],  # noqa: B006 -- FastAPI copies it
) -> Page:
    # `_keys` looks at what is named in `includefield`; here it is declared for the document.
    return Page(limit=limit, offset=offset, fuzzy=fuzzymatching)


Asked = Annotated[Page, Depends(_page)]


@router.get("/studies", response_class=Response, responses=RESPONSES)
async def search_studies(
    request: Request, parts: Parts, principal: Reader, page: Asked
) -> Response:
    """Studies by any of their attributes, given as keyword or as tag: `?PatientID=…`."""
    return await _answer(request, parts, "study", {}, page)


@router.get("/series", response_class=Response, responses=RESPONSES)
async def search_series(request: Request, parts: Parts, principal: Reader, page: Asked) -> Response:
    """Series of all studies by their attributes and those of the study."""
    return await _answer(request, parts, "series", {}, page)


@router.get("/studies/{study}/series", response_class=Response, responses=RESPONSES)
async def search_series_of_study(
    request: Request, study: StudyUid, parts: Parts, principal: Reader, page: Asked
) -> Response:
    """The series of a study."""
    return await _answer(request, parts, "series", {"StudyInstanceUID": study}, page)


@router.get("/instances", response_class=Response, responses=RESPONSES)
async def search_instances(
    request: Request, parts: Parts, principal: Reader, page: Asked
) -> Response:
    """Instances of all studies by their attributes and those of series and study."""
    return await _answer(request, parts, "instance", {}, page)


@router.get("/studies/{study}/instances", response_class=Response, responses=RESPONSES)
async def search_instances_of_study(
    request: Request, study: StudyUid, parts: Parts, principal: Reader, page: Asked
) -> Response:
    """The instances of a study."""
    return await _answer(request, parts, "instance", {"StudyInstanceUID": study}, page)


@router.get(
    "/studies/{study}/series/{series}/instances", response_class=Response, responses=RESPONSES
)
async def search_instances_of_series(
    request: Request,
    study: StudyUid,
    series: SeriesUid,
    parts: Parts,
    principal: Reader,
    page: Asked,
) -> Response:
    """The instances of a series."""
    given = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return await _answer(request, parts, "instance", given, page)


async def _answer(
    request: Request,
    parts: Services,
    level: Level,
    given: Mapping[str, str],
    page: Page,
) -> Response:
    keys, passed_over = _keys(request, level)
    told = []
    if page.fuzzy:
        told.append("Fuzzy matching is not done; only literal matching was.")
    if passed_over:
        told.append(f"Not searched by, and passed over: {', '.join(passed_over)}.")
    found, more = await run_in_threadpool(
        _rows, request, parts, level, {**keys, **given}, min(page.limit, MOST), page.offset
    )
    if more:
        told.append(f"There are more results; ask again with offset={page.offset + len(found)}.")
    headers = {} if not told else {"Warning": f'299 sonodose "{" ".join(told)}"'}
    return documents(request, found, headers=headers)


def _keys(request: Request, level: Level) -> tuple[dict[str, str], list[str]]:
    """(keyword → value to search by, what is no key here). Raises EdgeProblem: bad_request."""
    known, keys, passed_over = keys_of(level), {}, []
    for name, said in request.query_params.multi_items():
        if name in RESERVED:
            continue
        keyword = attribute(name)
        if keyword is None and "." not in name:
            raise EdgeProblem(
                "bad_request",
                f"{name[:64]!r} is no DICOM attribute.",
                remedy="Search by keywords or tags of the standard: PatientID, or 00100020.",
            )
        if keyword is None or keyword not in known:
            passed_over.append(keyword or "attributes within sequences")
        else:
            keys[keyword] = said
    for name in request.query_params.getlist("includefield"):
        for each in name.split(","):
            if each and each != "all" and attribute(each) is None and "." not in each:
                raise EdgeProblem(
                    "bad_request",
                    f"{each[:64]!r} is no DICOM attribute.",
                    remedy="Name attributes of the standard in includefield, or all.",
                )
    return keys, passed_over


def _rows(
    request: Request,
    parts: Services,
    level: Level,
    keys: Mapping[str, str],
    limit: int,
    offset: int,
) -> tuple[list[Json], bool]:
    try:
        with parts.store.read() as session:
            page = search(session, level, keys, limit=limit, offset=offset)
    except ValueError as unclear:
        raise EdgeProblem(
            "bad_request", f"{unclear}.", remedy="Correct the value and search again."
        ) from None

    def at(*steps: str) -> str:
        return address(request, parts.settings, *steps)

    return [_row(found, at) for found in page.rows], page.more


def _row(found: Found, at: Callable[..., str]) -> Json:
    """The attributes of a row: PS3.18 tables 10.6.3-3 to 10.6.3-5, and what else is held."""
    said = _of_study(found.study)
    steps = home_of(found.study.study_instance_uid)
    if found.series is None:
        said["ModalitiesInStudy"] = value("CS", *found.modalities)
        said["NumberOfStudyRelatedSeries"] = value("IS", found.series_count)
        said["NumberOfStudyRelatedInstances"] = value("IS", found.instance_count)
    else:
        said |= _of_series(found.series)
        steps = home_of(found.study.study_instance_uid, found.series.series_instance_uid)
        if found.instance is None:
            said["NumberOfSeriesRelatedInstances"] = value("IS", found.instance_count)
        else:
            said |= _of_instance(found.instance)
            steps = home_of(
                found.study.study_instance_uid,
                found.series.series_instance_uid,
                found.instance.sop_instance_uid,
            )
    said["RetrieveURL"] = value("UR", at(*steps))
    said["InstanceAvailability"] = value("CS", "ONLINE")
    said["SpecificCharacterSet"] = value("CS", "ISO_IR 192")
    return dict(sorted((tag_of(keyword), entry) for keyword, entry in said.items()))


def _of_study(row: StudyRow) -> dict[str, Json]:
    return {
        "StudyInstanceUID": value("UI", row.study_instance_uid),
        "StudyDate": value("DA", row.study_date),
        "StudyTime": value("TM", row.study_time),
        "StudyID": value("SH", row.study_id),
        "StudyDescription": value("LO", row.description),
        "AccessionNumber": value("SH", row.accession),
        "ReferringPhysicianName": person(row.referring_physician),
        "PatientName": person(row.patient_name),
        "PatientID": value("LO", row.patient_id),
        "IssuerOfPatientID": value("LO", row.issuer),
        "PatientBirthDate": value("DA", row.birth_date),
        "PatientSex": value("CS", row.sex),
    }


def _of_series(row: SeriesRow) -> dict[str, Json]:
    return {
        "SeriesInstanceUID": value("UI", row.series_instance_uid),
        "Modality": value("CS", row.modality),
        "SeriesNumber": value("IS", row.series_number),
        "SeriesDescription": value("LO", row.description),
        "BodyPartExamined": value("CS", row.body_part),
        "Laterality": value("CS", row.laterality),
        "ProtocolName": value("LO", row.protocol),
        "Manufacturer": value("LO", row.manufacturer),
    }


def _of_instance(row: InstanceRow) -> dict[str, Json]:
    image: dict[str, Json] = {}
    if row.facts.get("rows"):
        image = {
            "Rows": value("US", row.facts["rows"]),
            "Columns": value("US", row.facts["columns"]),
            "NumberOfFrames": value("IS", row.facts["frame_count"]),
        }
    return {
        "SOPClassUID": value("UI", row.sop_class_uid),
        "SOPInstanceUID": value("UI", row.sop_instance_uid),
        "InstanceNumber": value("IS", row.instance_number),
        "AvailableTransferSyntaxUID": value("UI", row.transfer_syntax_uid),
        **image,
    }
