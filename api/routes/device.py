"""A file of a new scanner is looked at, and forgotten."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.deps import Parts, Submitter
from api.problems import EdgeProblem
from api.responses import refusals
from api.upload import Received, receive
from app.intake.device_check import CHECK_S, check_device
from app.jobs.processes import WorkerPlace
from app.jobs.worker import warm_up
from app.services import Services

router = APIRouter(prefix="/api/v1", tags=["catalogue"])
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "additionalProperties": False,
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            }
        },
    }
}


@router.post(
    "/device-check",
    responses=refusals("too_large", "bad_request", "unsupported_media_type", "worker_died"),
    openapi_extra=UPLOAD,
)
async def device_check(request: Request, parts: Parts, principal: Submitter) -> dict[str, Any]:
    """What works of one file of a new scanner: file and syntax, regions, scale, sector, quality,
    the network. Each step says `works`, and where not, why. Nothing is stored."""
    with Received() as received:
        await receive(request, received, blobs=parts.blobs, settings=parts.settings)
        if len(received.uploads) != 1:
            raise EdgeProblem(
                "bad_request",
                f"{len(received.uploads)} files came with the request.",
                remedy="Send one image of the scanner as a part named `files`.",
            )
        return await run_in_threadpool(_look, parts, received)


def _look(parts: Services, received: Received) -> dict[str, Any]:
    upload = received.uploads[0]
    upload.incoming.finish()
    place = WorkerPlace(memory_bytes=parts.settings.job_memory_bytes, warm_up=warm_up)
    try:
        work = place.run(check_device, upload.incoming.path, upload.name, parts.limits)
        return place.result(work, within_s=CHECK_S)
    finally:
        place.close()
