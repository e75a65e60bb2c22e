"""The bodies that REST takes and gives, for checking and for the OpenAPI document."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.analysis import Stage, State
from app.destinations import ObjectName
from app.planning.request import AnalysisRequest, Positive, Short


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Problem(BaseModel):
    """RFC 9457: what was wrong (`detail`) and the way out (`remedy`)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/problems/unknown_muscle"])
    title: str = Field(examples=["Unknown muscle"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["'bicep' is not a muscle that is known here."])
    code: str = Field(examples=["unknown_muscle"])
    remedy: str = Field(examples=["Did you mean biceps_brachii? GET /api/v1/muscles lists all."])
    instance: str | None = Field(default=None, examples=["/api/v1/analyses"])
    request_id: str | None = None
    errors: list[dict[str, Any]] | None = None


class FileDocument(BaseModel):
    """A stored file of an analysis."""

    number: int
    name: str
    sha256: str
    size_bytes: int
    media: str
    rows: int
    columns: int
    frame_count: int
    warning: str | None = None


class Progress(BaseModel):
    """How far a waiting or running analysis is."""

    stage: Stage | None = None
    queue_position: int | None = None
    estimated_s: float | None = None


class RoutingDocument(BaseModel):
    """The pushed study that an analysis is of, and the rule that started it."""

    study_instance_uid: str
    rule: str | None


class AnalysisDocument(BaseModel):
    """An analysis at one revision; `plan` is the same for the same request, images and tables."""

    id: str
    state: State
    revision: int
    current_revision: int
    etag: str
    created_at: dt.datetime
    created_by: str
    updated_at: dt.datetime
    revised_at: dt.datetime
    revised_by: str
    request: dict[str, Any]
    image_patient: dict[str, Any] | None = Field(
        default=None, description="Whom the images name: `id`, `name`, `birth_date`."
    )
    image_side: str | None = Field(
        default=None, description="`left` or `right` where every image says so."
    )
    files: list[FileDocument]
    progress: Progress | None
    plan: dict[str, Any] | None
    problem: dict[str, Any] | None
    confirmation: dict[str, Any] | None
    administrations: list[dict[str, Any]]
    stale: list[str]
    missing: list[str] = Field(
        default=[], description="In `needs_target`: what to name by PATCH (`muscle`, `side`)."
    )
    routing: RoutingDocument | None = None
    late_images: int = Field(
        default=0, description="Images of the study that came later and are in no analysis."
    )
    links: dict[str, str]


class ListedProblem(BaseModel):
    """Why a listed analysis failed, and the way out."""

    detail: str
    remedy: str


class ListedDocument(BaseModel):
    """One line of the work list."""

    id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    state: State
    revision: int
    muscle: str | None = Field(description="null: nobody named it yet (`needs_target`).")
    side: str | None
    product: str | None
    patient_id: str | None
    patient_name: str | None
    problem: ListedProblem | None
    stage: Stage | None
    queue_position: int | None


class WorkList(BaseModel):
    """One page; `next` is the address of the following one."""

    analyses: list[ListedDocument]
    next: str | None


class RevisionDocument(BaseModel):
    """One line of an analysis's history."""

    revision: int
    state: State
    created_at: dt.datetime
    created_by: str
    finished_at: dt.datetime | None
    request: dict[str, Any]
    href: str


class Clinician(_Body):
    """The person who takes responsibility, as named in the record."""

    name: Short
    role: Short | None = None
    id: Short | None = None


class Confirmation(_Body):
    """A clinician's word for exactly the revision that was looked at."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "revision": 2,
                    "clinician": {"name": "Dr. Ada Example", "role": "physician"},
                    "statement": "I have checked muscle, side, product, Units and sites.",
                }
            ]
        },
        frozen=True,
        extra="forbid",
    )

    revision: Annotated[int, Field(ge=1)]
    clinician: Clinician | None = Field(
        default=None, description="Left out: the person who is signed in."
    )
    statement: Short | None = None


class GivenSite(_Body):
    """What went into one site."""

    number: Annotated[int, Field(ge=1, le=50)]
    units: Positive
    ml: Positive | None = None
    depth_mm: Positive | None = None


class Administration(_Body):
    """What was really given; it, not the plan, counts for the next session."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "product": "XEOMIN",
                    "given_on": "2026-03-02",
                    "sites": [{"number": 1, "units": 40, "ml": 0.8}],
                    "lot": "A123",
                    "expiry": "2027-06-30",
                    "wastage_units": 10,
                    "guidance": "ultrasound",
                }
            ]
        },
        frozen=True,
        extra="forbid",
    )

    product: Short
    given_on: dt.date
    sites: Annotated[tuple[GivenSite, ...], Field(min_length=1, max_length=50)]
    lot: Short | None = None
    expiry: dt.date | None = None
    wastage_units: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    guidance: Short | None = None
    given_by: Short | None = None
    note: Short | None = None


class Deletion(_Body):
    """Why an analysis is deleted; kept in the audit, so it names no patient."""

    reason: Short = Field(examples=["sent twice"])


class Me(_Body):
    """Who is signed in, and what they may do."""

    name: str
    kind: Literal["operator", "person", "key", "client"]
    scopes: list[str]
    is_person: bool
    clinician: Clinician | None
    session: bool


class SignedOut(_Body):
    """Where the browser goes after signing out."""

    next: str


class DestinationDocument(BaseModel):
    """A listed destination by its name."""

    name: str = Field(examples=["pacs"])
    kind: str = Field(examples=["stow"])
    objects: list[str]
    on_confirmation: bool


class SentObject(BaseModel):
    """An object that the other side has, by its UIDs; `none` says why one could not be made."""

    object: str = Field(examples=["seg.dcm"])
    frame: str | None = Field(
        default=None, description="The key of its frame, where there are several of one name."
    )
    none: str | None = None
    sop_class_uid: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None


class DeliveryDocument(BaseModel):
    """A delivery: `waiting`, `sending`, `delivered`, or `failed` when it was given up."""

    id: int
    kind: Literal["objects", "webhook"]
    target: str = Field(examples=["pacs"])
    revision: int
    event: str | None = Field(description="What a webhook is told.", examples=["analysis.draft"])
    state: Literal["waiting", "sending", "delivered", "failed"]
    attempts: int
    max_attempts: int
    next_attempt_at: dt.datetime | None
    reason: str | None = Field(description="Why the last attempt failed, in words.")
    objects: list[SentObject]
    created_at: dt.datetime
    created_by: str
    finished_at: dt.datetime | None


class Deliveries(BaseModel):
    """What was sent of an analysis and what still waits, the newest first."""

    analysis: str
    deliveries: list[DeliveryDocument]


class DeliveryRequest(_Body):
    """Objects for a listed destination, by its name; or a delivery, by its id, tried at once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"destination": "pacs"}]}, frozen=True, extra="forbid"
    )

    destination: Short | None = None
    delivery: Annotated[int, Field(ge=1)] | None = None
    objects: Annotated[tuple[ObjectName, ...], Field(min_length=1)] | None = Field(
        default=None, description="Which objects; left out: those that the destination lists."
    )
    revision: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="An earlier revision; left out: the present one."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.destination is None) == (self.delivery is None):
            raise ValueError("name either a destination or a delivery")
        return self


class MeasuredVolume(_Body):
    """A volume that was measured before, with its interval where one is known."""

    volume_ml: Positive
    interval_ml: tuple[Positive, Positive] | None = None
    method: Short = "given"


class WhatIf(_Body):
    """Clinical inputs and a measured volume: a dose without an image."""

    request: AnalysisRequest
    volume: MeasuredVolume | None = None


AnalysisKey = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class SessionRequest(_Body):
    """Analyses that are to be treated in one session, under joint caps.

    `priorities`: 1 for the most important muscles (the default), 2 for the next, and so on.
    """

    analyses: Annotated[tuple[AnalysisKey, ...], Field(min_length=1, max_length=40)]
    priorities: dict[AnalysisKey, Annotated[int, Field(ge=1, le=40)]] = {}


class ComparisonRequest(_Body):
    """Two analyses of one patient's muscle: both sides, or one side on two days."""

    analyses: tuple[AnalysisKey, AnalysisKey]


class ComparedVolume(BaseModel):
    """One of the two volumes, with the day of its images."""

    analysis: str
    revision: int
    state: State
    side: str
    date: dt.date
    volume_ml: float
    interval_ml: tuple[float, float]


class Comparison(BaseModel):
    """`second` against `first`: right against left (`sides`), or later against earlier
    (`sessions`).

    `more_than_error`: the difference is larger than `smallest_change_ml`, the smallest change
    that is more than the error of the method; `sources`, `grade` and `why` say where that is from.
    """

    kind: Literal["sides", "sessions"]
    muscle: str
    name: str
    first: ComparedVolume
    second: ComparedVolume
    days_apart: int
    method: str
    difference_ml: float
    difference_percent: float
    smallest_change_ml: float
    smallest_change_percent: float
    more_than_error: bool
    sources: list[str]
    grade: str
    why: str
    text: str


class RefusedComparison(BaseModel):
    """An analysis that would be compared, and why it cannot be."""

    analysis: str
    reason: str
    remedy: str


class Comparisons(BaseModel):
    """What there is to compare an analysis with: the last session, and the other side."""

    comparisons: list[Comparison]
    refused: list[RefusedComparison]
