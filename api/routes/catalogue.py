"""What the service knows: muscles, products, tables, models; and a dose without an image."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder

import models
from api import problems, schemas
from api.deps import ANYBODY, Parts, Reader
from api.responses import refusals
from app.clinic.tables import missing
from app.planning.what_if import dose_without_image
from app.results.joint import joint_session
from app.store import records

router = APIRouter(prefix="/api/v1", tags=["catalogue"])
problem_router = APIRouter(tags=["catalogue"], dependencies=[ANYBODY])

WEIGHTS = Path(models.__file__).parent / "weights"


def _plain(value: Any) -> Any:
    return jsonable_encoder(dataclasses.asdict(value))


@router.get("/muscles", responses=refusals())
def get_muscles(parts: Parts, principal: Reader) -> dict[str, Any]:
    """Every muscle and group that can be asked for, with codes, references and hazards."""
    return {
        "muscles": [
            {
                **_plain(muscle),
                "endplate_zones": [_plain(zone) for zone in parts.tables.zones_of(muscle.name)],
                "groups": list(parts.tables.groups_with(muscle.name)),
            }
            for muscle in parts.tables.muscles.values()
        ],
        "groups": [_plain(group) for group in parts.tables.groups.values()],
    }


@router.get("/products", responses=refusals())
def get_products(parts: Parts, principal: Reader) -> dict[str, Any]:
    """Every product with the indications that its label has, where and for whom."""
    return {
        "products": [
            {
                **_plain(product),
                "indications": [
                    _plain(row) for row in parts.tables.indications if row.product == product.name
                ],
            }
            for product in parts.tables.products.values()
        ]
    }


@router.get("/tables", responses=refusals())
def get_tables(parts: Parts, principal: Reader) -> dict[str, Any]:
    """The tables in force with version, hash and every source, and what they lack.

    `policy` has each number that is judgement under its name, those among them that a site keeps
    while it is dragged: `site_margin_mm`, `avoid_margin_mm`, `site_spacing_mm`.
    """
    tables = parts.tables
    return {
        "version": tables.version,
        "read_on": tables.read_on,
        "sha256": tables.sha256,
        "override": None if tables.override is None else _plain(tables.override),
        "dose_rows": [_plain(row) for row in tables.dose_rows],
        "caps": [_plain(cap) for cap in tables.caps],
        "equations": [_plain(equation) for equation in tables.equations],
        "cautions": [_plain(rule) for rule in tables.cautions.values()],
        "policy": {name: _plain(entry) for name, entry in tables.policy.entries.items()},
        "missing": [_plain(fact) for fact in missing(tables)],
        "sources": [_plain(source) for source in tables.sources.values()],
    }


@router.get("/models", responses=refusals())
def get_models(principal: Reader) -> dict[str, Any]:
    """The networks with their cards: what they were trained on and how well they do."""
    return {
        "models": [
            {"name": card.stem, "card": json.loads(card.read_text("utf-8"))}
            for card in sorted(WEIGHTS.glob("*.json"))
        ]
    }


@router.post("/what-if", responses=refusals("unknown_muscle", "table_error", "too_large"))
def post_what_if(body: schemas.WhatIf, parts: Parts, principal: Reader) -> dict[str, Any]:
    """The dose that these clinical inputs and this volume lead to, without an image."""
    volume = body.volume
    return dose_without_image(
        body.request,
        None if volume is None else volume.volume_ml,
        None if volume is None else volume.interval_ml,
        tables=parts.tables,
        today=dt.datetime.now().astimezone().date(),
    )


@router.post("/sessions", responses=refusals("not_found", "state_conflict", "request_conflict"))
def post_session(body: schemas.SessionRequest, parts: Parts, principal: Reader) -> dict[str, Any]:
    """Several plans for one visit, added up under the caps that hold for all of them together."""
    with parts.store.read() as session:
        found = [records.load(session, name) for name in dict.fromkeys(body.analyses)]
    return joint_session(
        found,
        priorities=body.priorities,
        tables=parts.tables,
        today=dt.datetime.now().astimezone().date(),
    )


@problem_router.get("/problems/{code}", responses=refusals("not_found"))
def get_problem(code: str) -> dict[str, Any]:
    """What a problem's `type` means."""
    kind = problems.KINDS.get(code)
    if kind is None:
        raise problems.EdgeProblem(
            "not_found",
            "There is no problem of this name.",
            remedy=f"There are: {', '.join(sorted(problems.KINDS))}.",
        )
    return {"code": code, "status": kind.status, "title": kind.title}
