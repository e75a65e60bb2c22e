"""The request of an analysis as the contract names it: checked at the edge, then handed inwards.

Whatever is absent stays absent: `prior_treatments` and `safety` left out mean *unknown*, an
empty list means *none*.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0, le=65_535)]
Coordinate = Annotated[float, Field(ge=0, le=65_535, allow_inf_nan=False)]
UID = r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$"
"""PS3.5 chapter 9."""
Short = Annotated[str, Field(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class PatientPart(_Part):
    """Who the plan is for. Age decides adult or child; a child needs a weight."""

    id: Short | None = None
    issuer: Short | None = None
    name: Short | None = None
    birth_date: dt.date | None = None
    age_years: Annotated[float, Field(ge=0, le=130, allow_inf_nan=False)] | None = None
    weight_kg: Annotated[float, Field(gt=0, le=500, allow_inf_nan=False)] | None = None
    height_m: Annotated[float, Field(gt=0.2, le=2.8, allow_inf_nan=False)] | None = None


class StudyPart(_Part):
    """The study that plain pictures belong to; DICOM images name their own."""

    instance_uid: Annotated[str, Field(pattern=UID, max_length=64)]
    id: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    date: dt.date | None = None
    time: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$")] | None = None
    accession: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    description: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class SeverityPart(_Part):
    scale: Literal["MAS"] = "MAS"
    value: Literal["0", "1", "1+", "2", "3", "4"]


class DilutionPart(_Part):
    """How the vial is made up: this many Units in this many millilitres."""

    units: Positive
    ml: Positive


class ShapeFactorPart(_Part):
    """Volume over section × length, with the source it was taken from."""

    value: Annotated[float, Field(gt=0, le=1)]
    source: Short


class SweepPart(_Part):
    """Short-axis sections at equal spacing along the muscle, in the order of the frames."""

    spacing_mm: Positive
    reference_line: Short | None = None
    start_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    end_percent: Annotated[float, Field(ge=0, le=100)] | None = None


class PointPart(_Part):
    """A continuous image point, 0,0 at the top-left corner."""

    column: Coordinate
    row: Coordinate


class CalibrationPart(_Part):
    """The operator's scale: millimetres per pixel, or two points and their distance.

    `ruler`: the points are ends of the ruler that was found in the picture, and a person said how
    far apart they are.
    """

    row_mm_per_px: Positive | None = None
    column_mm_per_px: Positive | None = None
    points: tuple[PointPart, PointPart] | None = None
    distance_mm: Positive | None = None
    override: bool = False
    ruler: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        spacing = self.row_mm_per_px is not None and self.column_mm_per_px is not None
        ruler = self.points is not None and self.distance_mm is not None
        if spacing == ruler:
            raise ValueError(
                "give either row_mm_per_px and column_mm_per_px, or two points and distance_mm"
            )
        if spacing and self.ruler:
            raise ValueError("a ruler has two points and a distance")
        return self


class OnFrame(_Part):
    """Something on a frame: the file as uploaded and its 0-based frame; left out: on any."""

    file: str | None = None
    frame: Index | None = None


class ClickPart(OnFrame):
    """A click on a pixel (0-based indices of the whole image); positive: this belongs to it."""

    column: Index
    row: Index
    positive: bool = True


class BoxPart(_Part):
    """A box around the target in pixel indices, the far corner outside."""

    column0: Index
    row0: Index
    column1: Index
    row1: Index

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.column1 <= self.column0 or self.row1 <= self.row0:
            raise ValueError("the box is empty: column1 and row1 lie right of and below the first")
        return self


class OutlinePart(OnFrame):
    """The operator's own contour, continuous points, used instead of the network."""

    points: Annotated[
        tuple[tuple[Coordinate, Coordinate], ...], Field(min_length=3, max_length=5000)
    ]


class FrameChoice(OnFrame):
    """One frame to use: the file's name as uploaded and its 0-based frame."""

    frame: Index | None = 0


class SitePart(OnFrame):
    """A site moved by hand: continuous point on a frame."""

    number: Annotated[int, Field(ge=1, le=50)]
    column: Coordinate
    row: Coordinate


class PriorTreatmentPart(_Part):
    product: Short
    units: Positive
    date: dt.date
    muscles: tuple[Short, ...] | None = None
    response: Short | None = None


EXAMPLE: dict[str, Any] = {
    "muscle": "biceps_brachii",
    "side": "left",
    "view": "short_axis",
    "product": "XEOMIN",
    "indication": "upper_limb_spasticity",
    "patient": {"age_years": 54, "weight_kg": 72, "height_m": 1.74},
    "severity": {"scale": "MAS", "value": "2"},
    "dilution": {"units": 100, "ml": 2},
    "muscle_length_mm": 240,
    "clicks": [{"column": 180, "row": 160, "positive": True}],
}


class StudyRequest(_Part):
    """What is said of a study, its target perhaps not yet: then a click gives a mask at most."""

    muscle: Short | None = None
    side: Literal["left", "right"] | None = None
    view: Literal["long_axis", "short_axis"] | None = None
    product: Short | None = None
    indication: Short | None = None
    jurisdiction: Short = "US"
    off_label: bool = False
    patient: PatientPart = PatientPart()
    study: StudyPart | None = None
    severity: SeverityPart | None = None
    dilution: DilutionPart | None = None
    limb_length_mm: Positive | None = None
    muscle_length_mm: Positive | None = None
    shape_factor: ShapeFactorPart | None = None
    measurements_mm: dict[Short, Positive] | None = Field(
        default=None,
        description="Named measurements that a volume equation asks for, each taken as that "
        "equation's source took it (GET /api/v1/tables lists them).",
    )
    frames: Annotated[tuple[FrameChoice, ...], Field(max_length=2000)] | None = None
    sweep: SweepPart | None = None
    calibration: CalibrationPart | None = None
    clicks: Annotated[tuple[ClickPart, ...], Field(max_length=200)] = ()
    box: BoxPart | None = None
    outlines: Annotated[tuple[OutlinePart, ...], Field(max_length=2000)] = ()
    sites: Annotated[tuple[SitePart, ...], Field(max_length=50)] | None = None
    prior_treatments: Annotated[tuple[PriorTreatmentPart, ...], Field(max_length=200)] | None = None
    safety: dict[Short, bool | None] | None = None

    @property
    def points_at_it(self) -> bool:
        """True if somebody clicked on the target, boxed it or outlined it."""
        return bool(self.clicks or self.outlines) or self.box is not None


class AnalysisRequest(StudyRequest):
    """Everything that the operator says about a study; the pixels travel beside it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={"examples": [EXAMPLE]},
    )

    muscle: Short
    side: Literal["left", "right"]


TARGET = ("muscle", "side")


def request_of_json(text: str) -> StudyRequest:
    """The request that is kept as this JSON: an AnalysisRequest where it names muscle and side."""
    asked = json.loads(text)
    kind = AnalysisRequest if all(name in asked for name in TARGET) else StudyRequest
    return kind.model_validate(asked)
