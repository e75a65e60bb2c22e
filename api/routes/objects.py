"""What is seen and taken away: pictures, masks, DICOM objects, the stored files, the derivation."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.deps import Admin, Parts, Reader
from api.documents import BASE
from api.responses import Documented, refusals
from api.routes.analyses import OLD, AnalysisId
from app.errors import NoObject, NotFound
from app.results import objects
from app.results.export import export_analysis, site_of
from app.results.frame_picture import frame_png, located
from app.services import Services
from app.store import records
from app.store.records import AnalysisRecord
from imaging.dicom.deidentify import Dates

router = APIRouter(prefix="/api/v1/analyses/{analysis_id}", tags=["objects"])

FrameKey = Annotated[
    str | None,
    Query(pattern="^[0-9]{1,6}$", description="The frame's key; default: the first used one."),
]
Number = Annotated[int, Path(ge=0, le=1_000_000)]
DICOM: Documented = {200: {"content": {"application/dicom": {}}, "description": "The DICOM object"}}
PNG: Documented = {200: {"content": {"image/png": {}}, "description": "The picture"}}
WEBP: Documented = {200: {"content": {"image/webp": {}}, "description": "The moving picture"}}
SVG: Documented = {200: {"content": {"image/svg+xml": {}}, "description": "The picture"}}
PDF: Documented = {200: {"content": {"application/pdf": {}}, "description": "The page"}}
FHIR: Documented = {200: {"content": {"application/fhir+json": {}}, "description": "The bundle"}}
REFUSED = refusals("not_found", "no_object")
MASK, PNG_TYPE = "mask.png", "image/png"


def _load(parts: Services, analysis_id: str, revision: int | None) -> AnalysisRecord:
    with parts.store.read() as session:
        return records.load(session, analysis_id, revision)


def _object(
    request: Request,
    parts: Services,
    analysis_id: str,
    revision: int | None,
    name: str,
    frame: str | None = None,
) -> Response:
    record = _load(parts, analysis_id, revision)
    tag = f'{record.etag[:-1]}-{name}-{frame or ""}"'
    headers = {"ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kind = objects.KINDS[name]
    if name == MASK and frame in record.masks:  # stored as it is: there is nothing to draw
        return Response(parts.blobs.read(record.masks[frame]), headers=headers, media_type=PNG_TYPE)
    body = objects.obtain(
        record,
        kind,
        frame,
        store=parts.store,
        blobs=parts.blobs,
        door=parts.door,
        uid_root=parts.settings.uid_root,
    )
    if kind.media_type == "application/dicom":
        headers["Content-Disposition"] = f'attachment; filename="{record.id[:12]}-{name}"'
    return Response(body, media_type=kind.media_type, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    name: str
    says: str
    operation: str
    media: Documented
    of_frame: bool = True


OFFERS = (
    _Offer(
        name="overlay.png",
        says="The frame with contour, numbered sites, a millimetre scale and its warnings.",
        operation="get_overlay_png",
        media=PNG,
    ),
    _Offer(
        name="overlay.svg",
        says="The same drawing as vectors in image pixels, without the frame below it.",
        operation="get_overlay_svg",
        media=SVG,
    ),
    _Offer(
        name=MASK,
        says="The frame's label map: 0 nothing, 1 muscle, 2 nerve, 3 vessel, 4 aponeurosis.",
        operation="get_mask",
        media=PNG,
    ),
    _Offer(
        name="seg.dcm",
        says="The muscle as a DICOM Segmentation of the source images.",
        operation="get_seg",
        media=DICOM,
    ),
    _Offer(
        name="sr.dcm",
        says="Measurements, dose and sites as a DICOM Structured Report (TID 1500).",
        operation="get_sr",
        media=DICOM,
        of_frame=False,
    ),
    _Offer(
        name="sc.dcm",
        says="The overlay as a DICOM Secondary Capture in the study of the image.",
        operation="get_capture",
        media=DICOM,
    ),
    _Offer(
        name="pr.dcm",
        says="Contours and sites as a DICOM presentation state over the source image.",
        operation="get_state",
        media=DICOM,
    ),
    _Offer(
        name="ko.dcm",
        says="The frames, the picture and the report that matter, as a DICOM Key Object Selection.",
        operation="get_key_objects",
        media=DICOM,
        of_frame=False,
    ),
    _Offer(
        name="image.dcm",
        says="Plain frames under the patient and study of the request, as a DICOM Secondary "
        "Capture.",
        operation="get_image",
        media=DICOM,
    ),
    _Offer(
        name="overlay.webp",
        says="The overlay of a clip's analysed frames, moving at the clip's own pace.",
        operation="get_overlay_webp",
        media=WEBP,
        of_frame=False,
    ),
    _Offer(
        name="plan.pdf",
        says="The plan on one page of A4: picture, sites, arithmetic with sources, cautions, "
        "signature.",
        operation="get_plan_pdf",
        media=PDF,
        of_frame=False,
    ),
    _Offer(
        name="fhir",
        says="The plan as a FHIR R4 bundle: observations, device, study and the proposed "
        "procedure.",
        operation="get_fhir",
        media=FHIR,
        of_frame=False,
    ),
)
"""Everything that is made of an analysis: of one frame of it, or of the whole."""


def _answer(offer: _Offer) -> Callable[..., Response]:
    def of_frame(
        request: Request,
        analysis_id: AnalysisId,
        parts: Parts,
        principal: Reader,
        frame: FrameKey = None,
        revision: OLD = None,
    ) -> Response:
        return _object(request, parts, analysis_id, revision, offer.name, frame)

    def of_the_whole(
        request: Request,
        analysis_id: AnalysisId,
        parts: Parts,
        principal: Reader,
        revision: OLD = None,
    ) -> Response:
        return _object(request, parts, analysis_id, revision, offer.name)

    return of_frame if offer.of_frame else of_the_whole


for each in OFFERS:
    router.add_api_route(
        f"/{each.name}",
        _answer(each),
        name=each.operation,
        description=each.says,
        response_class=Response,
        responses={**each.media, **REFUSED},
    )


@router.get("/frames/{number}.png", response_class=Response, responses={**PNG, **REFUSED})
def get_frame(analysis_id: AnalysisId, number: Number, parts: Parts, principal: Reader) -> Response:
    """A frame as the network sees it; frames are counted over all files, from 0."""
    record = _load(parts, analysis_id, None)
    file, frame = located(record.files, number)
    path = str(parts.blobs.path(file.sha256))
    asked = parts.door.run(frame_png, path, file.name, frame, parts.limits)
    body = parts.door.result(asked, within_s=objects.OBJECT_S)
    # A stored file never changes, and neither does its frame.
    headers = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(body, media_type="image/png", headers=headers)


@router.get(
    "/files/{number}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file as it came"},
        **refusals("not_found"),
    },
)
def get_file(analysis_id: AnalysisId, number: Number, parts: Parts, principal: Reader) -> Response:
    """A stored file, byte for byte as it was sent."""
    record = _load(parts, analysis_id, None)
    if number >= len(record.files):
        raise NotFound(
            f"There is no file {number}: the analysis has {len(record.files)}.",
            remedy="Files are counted from 0 in the order in which they were sent.",
        )
    file = record.files[number]
    is_dicom = file.facts["media"] == "dicom"
    return FileResponse(
        parts.blobs.path(file.sha256),
        media_type="application/dicom" if is_dicom else "application/octet-stream",
        filename=file.name,
        headers={"ETag": f'"{file.sha256}"'},
    )


@router.get(
    "/deidentified",
    response_class=Response,
    responses={
        200: {"content": {"application/zip": {}}, "description": "The images and the report"},
        **refusals("not_found", "request_conflict", "picture_not_found", "unreadable_file"),
    },
)
def get_deidentified(
    analysis_id: AnalysisId, parts: Parts, principal: Admin, dates: Dates = "removed"
) -> Response:
    """The images without the person (PS3.15 E), with a report of what was removed, as a ZIP."""
    record = _load(parts, analysis_id, None)
    archive = export_analysis(
        record,
        site=site_of(parts.settings, parts.tables, dates),
        principal=principal.name,
        store=parts.store,
        blobs=parts.blobs,
        memory_bytes=parts.settings.job_memory_bytes,
        limits=parts.limits,
    )
    return FileResponse(
        archive,
        media_type="application/zip",
        filename=f"deidentified-{secrets.token_hex(4)}.zip",
        headers={"Cache-Control": "no-store"},
        background=BackgroundTask(archive.unlink, missing_ok=True),
    )


@router.get("/objects", responses=refusals("not_found"))
def get_objects(analysis_id: AnalysisId, parts: Parts, principal: Reader) -> dict[str, Any]:
    """The objects that this analysis has or can have, with their addresses.

    Images of another size, scale or colour have a segmentation and a state of their own, and each
    frame with sites its picture.
    """
    record = _load(parts, analysis_id, None)
    home = f"{BASE}/{record.id}"
    listed = []
    if record.plan is not None:
        stored = objects.stored_analysis(record, parts.blobs, uid_root=parts.settings.uid_root)
        frames = objects.frames_of(stored, parts.door)
        listed = [
            {
                "name": kind.name,
                "media_type": kind.media_type,
                "href": f"{home}/{kind.name}" + (f"?frame={frame}" if frame else ""),
            }
            for kind in objects.KINDS.values()
            for frame in (None, *frames.get(kind.name, [])[1:])
        ]
    return {
        "objects": listed,
        "files": [
            {"name": file.name, "sha256": file.sha256, "href": f"{home}/files/{number}"}
            for number, file in enumerate(record.files)
        ],
    }


@router.get("/explanation", responses=REFUSED)
async def get_explanation(
    analysis_id: AnalysisId, parts: Parts, principal: Reader, revision: OLD = None
) -> dict[str, Any]:
    """Where every number of the plan comes from: equations, inputs and sources."""
    record = await run_in_threadpool(_load, parts, analysis_id, revision)
    if record.plan is None:
        raise NoObject(
            "There is no plan to explain yet.",
            remedy="Wait until the analysis is finished; /events tells when.",
        )
    wanted = ("derivation", "explanation", "volume", "dose", "cautions", "provenance")
    return {
        "analysis": f"{BASE}/{record.id}",
        "revision": record.revision,
        **{key: record.plan[key] for key in wanted if key in record.plan},
    }
