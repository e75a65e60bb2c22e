"""The application: services, routes, problem documents, the viewer."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from api import problems
from api.auth import Access
from api.metrics import Metrics
from api.middleware import Edge
from api.problems import EdgeProblem
from api.routes import (
    analyses,
    catalogue,
    comparisons,
    decisions,
    deliveries,
    device,
    dicomweb_retrieve,
    dicomweb_search,
    dicomweb_store,
    health,
    objects,
    sign_in,
)
from app.clinic.errors import ClinicError
from app.errors import AppError
from app.planning.request import AnalysisRequest
from app.services import Services
from imaging.errors import ImagingError

STATIC = Path(__file__).parent / "static"
VERSION = "0.1.0"
DESCRIPTION = (
    "Takes an ultrasound study, segments a muscle and plans a botulinum-toxin injection. "
    "Research and decision support: every plan is a suggestion until a named clinician confirms it."
)
# The machine's own table may say text/plain for modules, which no browser then runs.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("image/svg+xml", ".svg")
mimetypes.add_type("application/manifest+json", ".webmanifest")


def create_app(services: Services) -> FastAPI:
    """The application over these services; it starts and closes them."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(services.start)
        yield
        await run_in_threadpool(services.close)

    app = FastAPI(
        title="sonodose",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        # The bundled pages load scripts from another host, which the policy of ours forbids.
        docs_url=None,
        redoc_url=None,
        # FastAPI's own spans would name paths and queries, and with them patients; ours do not.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        middleware=[
            Middleware(Edge, services=services, metrics=metrics),
            Middleware(
                CORSMiddleware,
                allow_origins=services.settings.cors_origins,
                allow_methods=["GET", "POST", "PATCH"],
                allow_headers=["Authorization", "Accept", "Content-Type", "If-Match", "Prefer"],
                expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id"],
            ),
        ],
    )
    app.state.services, app.state.metrics = services, metrics
    app.state.access = Access(services.settings)
    for kind in (AppError, ClinicError, ImagingError, EdgeProblem):
        app.add_exception_handler(kind, _refused)
    for exhausted in (MemoryError, RecursionError):
        app.add_exception_handler(exhausted, _too_much)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    for module in (
        analyses,
        decisions,
        deliveries,
        dicomweb_search,
        dicomweb_store,
        dicomweb_retrieve,
        objects,
        comparisons,
        catalogue,
        device,
        health,
        sign_in,
    ):
        app.include_router(module.router)
    app.include_router(catalogue.problem_router)
    viewer = StaticFiles(directory=STATIC, html=True, check_dir=False)
    app.mount("/", GZipMiddleware(viewer, minimum_size=1024), name="viewer")
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


async def _refused(request: Request, error: Exception) -> Response:
    known = AppError | ClinicError | ImagingError | EdgeProblem
    assert isinstance(error, known)  # noqa: S101 -- registered for these alone
    headers = error.headers if isinstance(error, EdgeProblem) else None
    return problems.respond(problems.of_error(error), request, headers)


async def _too_much(request: Request, error: Exception) -> Response:
    """What a worker that reads a file runs out of: memory, or stack."""
    del error
    body = problems.document(
        "too_large",
        "The file takes more memory than one worker may have.",
        "Send fewer frames, or export the image again: it may be damaged.",
    )
    return problems.respond(body, request)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- registered for it alone
    return problems.respond(problems.of_error(problems.of_validation(error.errors())), request)


HTTP_CODES = {
    400: ("bad_request", "The request cannot be understood.", "Check the body and the headers."),
    404: ("not_found", "There is nothing at this address.", "/api/v1/openapi.json lists all."),
    405: (
        "method_not_allowed",
        "This address does not take this method.",
        "The Allow header names those that it takes.",
    ),
    406: ("not_acceptable", "This form is not made here.", "Ask for another one in Accept."),
    415: (
        "unsupported_media_type",
        "The body is in a form that is not taken here.",
        "Send application/json, or multipart/form-data for a study.",
    ),
}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for it alone
    # FastAPI wraps what `receive` raises while it reads a body.
    if isinstance(error.__cause__, ImagingError | AppError | EdgeProblem):
        return await _refused(request, error.__cause__)
    code, detail, remedy = HTTP_CODES.get(
        error.status_code, ("http_error", str(error.detail), "Check the request.")
    )
    body = {**problems.document(code, detail, remedy), "status": error.status_code}
    return problems.respond(body, request, error.headers)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        asked = AnalysisRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(asked.pop("$defs", {}))
        components["AnalysisRequest"] = asked
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema
