"""The rows of the clinical tables: what a source said, with its grade."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How good the evidence of a row is, and so what a plan may do with it."""

    LABEL = "label"
    COMPENDIUM = "compendium"
    REGIONAL_LABEL = "regional_label"
    CORROBORATED = "corroborated"
    SECONDARY = "secondary"
    CONSENSUS = "consensus"
    MISSING = "missing"
    JUDGEMENT = "judgement"
    SITE = "site"
    PAPER = "paper"
    PAPER_ABSTRACT = "paper_abstract"
    ONTOLOGY = "ontology"


DOSE_GRADES = frozenset(
    {
        Grade.LABEL,
        Grade.COMPENDIUM,
        Grade.REGIONAL_LABEL,
        Grade.CORROBORATED,
        Grade.CONSENSUS,
        Grade.SITE,
    }
)
"""A dose row of any other grade gives no dose."""

CAP_GRADES = DOSE_GRADES | {Grade.SECONDARY, Grade.JUDGEMENT}
"""A cap may come from weaker evidence than a dose: it only ever lowers."""


DAYS_IN_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fact was read."""

    id: str
    citation: str
    url: str
    kind: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Indication:
    """A product's indication for one population in one jurisdiction, with its ages in years."""

    product: str
    indication: str
    population: str
    jurisdiction: str
    age_min_years: float
    age_max_years: float | None
    grade: Grade
    sources: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseRow:
    """A dose range of one product for one muscle or group: Units, or Units per kg.

    `units` and `units_per_kg` are (min, max), one of them None; both None: the range is missing.
    `origin` names the site's own table, empty for ours.
    """

    product: str
    indication: str
    population: str
    jurisdiction: str
    muscle: str
    units: tuple[float, float] | None
    units_per_kg: tuple[float, float] | None
    sites: tuple[int, int] | None
    grade: Grade
    sources: tuple[str, ...]
    note: str
    origin: str = ""

    @property
    def has_range(self) -> bool:
        return self.units is not None or self.units_per_kg is not None

    def range_units(self, weight_kg: float | None) -> tuple[float, float]:
        """The range in Units: as it stands, or per kg times the weight, which is then needed."""
        if self.units is not None:
            return self.units
        if self.units_per_kg is None or weight_kg is None:
            raise ValueError(f"{self.key}: no range in Units without a weight")
        low, high = self.units_per_kg
        return low * weight_kg, high * weight_kg

    @property
    def key(self) -> str:
        """The row's name, as tables and refusals call it."""
        return "/".join(
            (self.product, self.indication, self.population, self.jurisdiction, self.muscle)
        )


class CapKind(StrEnum):
    """What a cap limits."""

    SITE = "site"
    MUSCLE = "muscle"
    LIMB = "limb"
    SESSION = "session"
    CUMULATIVE = "cumulative"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A limit: Units, Units per kg, mL or weeks; `value` None where none was found.

    `where` is `any`, a limb (`upper_limb`, `lower_limb`, `neck`) or a muscle's name.
    """

    product: str
    population: str
    jurisdiction: str
    kind: CapKind
    where: str
    unit: str
    value: float | None
    window_weeks: float | None
    grade: Grade
    sources: tuple[str, ...]
    note: str
    origin: str = ""

    def limit(self, weight_kg: float | None) -> float:
        """The cap in Units, mL or weeks: as it stands, or per kg times the weight in kg."""
        per = weight_kg if self.unit == "units_per_kg" else 1.0
        if self.value is None or per is None:
            raise ValueError(f"{self.product} {self.kind} {self.where}: no value to hold to")
        return self.value * per

    @property
    def window_days(self) -> float:
        """The days over which a cumulative cap counts, today included."""
        if self.window_weeks is None:
            raise ValueError(f"{self.product} {self.kind} {self.where}: no window")
        return self.window_weeks * DAYS_IN_WEEK


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeEquation:
    """A published line: mL = thickness × a + limb length × b + c, both lengths in cm.

    It holds for its own measurement (`measurement`, taken as `taken` says, at `position`), gives
    the volume of `result` (the names in `covers`), and only inside its ranges (mm, years), of
    which those in `judged` (`thickness`, `limb`, `age`) stand in no source.
    """

    id: str
    result: str
    covers: tuple[str, ...]
    measurement: str
    taken: str
    position: str
    thickness_ml_per_cm: float
    limb_ml_per_cm: float
    constant_ml: float
    thickness_range_mm: tuple[float, float]
    limb_range_mm: tuple[float, float]
    age_range_years: tuple[float, float]
    relative_error: float
    published_error: str
    population: str
    judged: tuple[str, ...]
    grade: Grade
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CautionRule:
    """A caution or stop: a question to be answered, or a text for something the plan sees.

    `kind` is `safety` (a question), `plan` (seen by the plan) or `dose` (said with every dose);
    `products` empty means all; `effect` is `stop` (refuses confirmation) or `caution`.
    """

    code: str
    kind: str
    products: tuple[str, ...]
    effect: str
    question: str
    text: str
    grade: Grade
    sources: tuple[str, ...]

    @property
    def stops(self) -> bool:
        return self.effect == "stop"
