"""Is the service alive, can it work, what did it count."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.deps import ANYBODY, Parts
from api.problems import EdgeProblem
from api.responses import refusals
from app.jobs import queue
from app.store import outbox
from app.store.rows import AnalysisRow

router = APIRouter(tags=["health"], dependencies=[ANYBODY])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive: this process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses=refusals("not_ready"))
def readyz(parts: Parts) -> dict[str, Any]:
    """Ready: the database answers, there is space, a worker is warm and the network is right.

    `canary` has the answer to a picture of known answer and the hash of the weights that gave it.
    """
    parts.blobs.check_space()
    with parts.store.read() as session:
        waiting = queue.waiting(session)
    if not parts.ready:
        raise EdgeProblem(
            "not_ready",
            "The network does not give its known answer."
            if parts.runner.canary["state"] == "silent"
            else "No worker is warm yet, or the service is stopping.",
            remedy="Ask again in a few seconds.",
            headers={"Retry-After": "2"},
        )
    return {
        "status": "ready",
        "waiting": waiting,
        "running": parts.runner.running,
        "canary": parts.runner.canary,
        "tables": {"version": parts.tables.version, "sha256": parts.tables.sha256},
    }


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, parts: Parts) -> Response:
    """Counters and gauges for Prometheus; nothing of a patient is in them."""
    with parts.store.read() as session:
        states = session.execute(
            select(AnalysisRow.state, func.count()).group_by(AnalysisRow.state)
        ).all()
        waiting = queue.waiting(session)
        sendings = outbox.open_and_failed(session)
    gauges = [
        ("sonodose_jobs_waiting", "Jobs that wait for a worker.", float(waiting)),
        ("sonodose_jobs_running", "Jobs that run in this process.", float(parts.runner.running)),
        ("sonodose_deliveries_waiting", "Deliveries that are still to be sent.", sendings[0]),
        ("sonodose_deliveries_failed", "Deliveries that were given up.", sendings[1]),
        *[
            (f"sonodose_analyses_{state}", f"Analyses that are {state}.", float(count))
            for state, count in states
        ],
    ]
    text = request.app.state.metrics.text(gauges) + "\n".join(parts.runner.drift.lines()) + "\n"
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
