"""Cautions and stops: what the physician must know, and what refuses confirmation.

Unknown is not no: a question without an answer refuses confirmation until it has one.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from app.clinic.caps import interval_caps
from app.clinic.dose_rows import population_of
from app.clinic.evidence import CautionRule
from app.clinic.inputs import ClinicalInputs
from app.clinic.tables import ClinicalTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """One caution or stop: a stable code, the text, its source ids joined by `;`."""

    code: str
    text: str
    source: str
    blocks_confirmation: bool

    @classmethod
    def of(cls, rule: CautionRule, more: str = "") -> Caution:
        """The caution or stop of a row of the cautions table, with more said after its text."""
        return cls(
            code=rule.code,
            text=f"{rule.text} {more}".strip(),
            source=";".join(rule.sources),
            blocks_confirmation=rule.stops,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question without an answer, and the request's field that answers it."""

    field: str
    text: str


def safety_questions(product: str | None, tables: ClinicalTables) -> tuple[CautionRule, ...]:
    """The safety questions that a product asks; all of them for no product."""
    return tuple(
        rule
        for rule in tables.cautions.values()
        if rule.kind == "safety" and (not rule.products or product in (None, *rule.products))
    )


def safety_findings(
    inputs: ClinicalInputs, tables: ClinicalTables
) -> tuple[list[Caution], tuple[Question, ...]]:
    """The cautions of what was answered with yes, and the questions that are open."""
    answers = inputs.safety or {}
    found: list[Caution] = []
    unanswered: list[Question] = []
    if inputs.prior_treatments is None:
        unanswered.append(
            Question(
                field="prior_treatments",
                text="Was any botulinum toxin given before, when, how much? An empty list means "
                "none.",
            )
        )
    for rule in safety_questions(inputs.product, tables):
        answer = answers.get(rule.code)
        if answer is None:
            unanswered.append(Question(field=f"safety.{rule.code}", text=rule.question))
        elif answer:
            found.append(Caution.of(rule))
    return found, tuple(unanswered)


def possible_from(
    inputs: ClinicalInputs, tables: ClinicalTables, *, today: dt.date
) -> dt.date | None:
    """The first day on which the minimum interval since the last treatment has passed.

    None where no interval is known or no earlier treatment of this product counts. What was given
    today belongs to this session and does not count.
    """
    population = population_of(inputs.patient, tables.policy)
    dates = [p.date for p in inputs.treatments if p.product == inputs.product and p.date < today]
    if inputs.product is None or population is None or not dates:
        return None
    caps = interval_caps(
        inputs.product, population, tables.limb_of(inputs.muscle), inputs.jurisdiction, tables
    )
    if not caps:
        return None
    weeks = max(cap.limit(None) for cap in caps)
    return max(dates) + dt.timedelta(weeks=weeks)


def treatment_cautions(
    inputs: ClinicalInputs, tables: ClinicalTables, *, today: dt.date | None
) -> list[Caution]:
    """What earlier treatments stop: the interval, another toxin in the window, a wrong date."""
    prior, rules = inputs.treatments, tables.cautions
    if not prior or inputs.product is None:
        return []
    if today is None:
        return [Caution.of(rules["today_unknown"])]
    found = []
    if any(p.recorded for p in prior):
        found.append(Caution.of(rules["recorded_treatments"]))
    if any(p.date > today for p in prior):
        found.append(Caution.of(rules["treated_after_today"]))
    start = possible_from(inputs, tables, today=today)
    if start is not None and today < start:
        found.append(Caution.of(rules["minimum_interval"], f"Possible from {start.isoformat()}."))
    window = dt.timedelta(weeks=tables.policy.other_product_window_weeks)
    others = sorted(
        {p.product for p in prior if p.product != inputs.product and today - window < p.date}
    )
    if others:
        found.append(Caution.of(rules["other_toxin_in_window"], f"Given: {', '.join(others)}."))
    return found
