"""Where in its range a dose lies: by severity, and by the response to the last treatment."""

from __future__ import annotations

from dataclasses import dataclass

from app.clinic.derivation import Step
from app.clinic.dose_cautions import DoseCaution
from app.clinic.inputs import ClinicalInputs, PriorTreatment
from app.clinic.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the range (0 bottom, 1 top), how it was found, and what to say about it.

    `most_units` is what the last treatment allows at most, None where it sets no limit;
    `most_text` says why.
    """

    fraction: float
    step: Step
    cautions: tuple[DoseCaution, ...]
    most_units: float | None
    most_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _LastTime:
    """What the last treatment with a known response means for the next dose."""

    shift: float
    words: str
    most_units: float | None
    most_text: str
    cautions: tuple[DoseCaution, ...]


NOTHING_KNOWN = _LastTime(shift=0.0, words="", most_units=None, most_text="", cautions=())


def position_of(inputs: ClinicalInputs, policy: Policy) -> Position:
    """The place in the range by severity (policy), moved by the last response (policy)."""
    cautions: list[DoseCaution] = []
    if inputs.severity is None:
        fraction, name = policy.severity_missing_position, "severity not given"
        cautions.append(
            DoseCaution(
                code="severity_missing",
                text="Severity was not given: the bottom of the range is used.",
                sources=("POLICY",),
            )
        )
    else:
        fraction = policy.severity_position_mas[inputs.severity.value]
        name = f"{inputs.severity.scale} {inputs.severity.value}"
        if inputs.severity.value == "0":
            cautions.append(
                DoseCaution(
                    code="no_spasticity",
                    text="MAS 0 is no increase in tone: is there an indication at all?",
                    sources=("POLICY",),
                )
            )
    last = _last_time(inputs, policy)
    moved = min(1.0, max(0.0, fraction + last.shift))
    after = f" after {last.words}" if last.words else ""
    return Position(
        fraction=moved,
        step=Step(
            name="position in the range",
            value=moved,
            unit="1",
            equation=f"{name} → {fraction:g}"
            + (f"; {last.words} → {last.shift:+g}" if last.words else ""),
            sources=("POLICY",),
            text=f"{name} puts the dose at {moved:.0%} of the range{after} (judgement).",
        ),
        cautions=(*cautions, *last.cautions),
        most_units=last.most_units,
        most_text=last.most_text,
    )


def _last_time(inputs: ClinicalInputs, policy: Policy) -> _LastTime:
    """What the response to the last treatment of this muscle with this product says.

    A step up is taken only where the very last treatment named this muscle; a step down also
    where it named none. Where it named this muscle alone, its Units bound the next dose.
    """
    mine = [
        p
        for p in inputs.treatments
        if p.product == inputs.product and (p.muscles is None or inputs.muscle in p.muscles)
    ]
    answered = [(p, p.response) for p in mine if p.response is not None]
    if not answered:
        return NOTHING_KNOWN
    last, response = max(answered, key=lambda pair: pair[0].date)
    shift = policy.follow_up_step.get(response)
    if shift is None:
        return _LastTime(
            shift=0.0,
            words="",
            most_units=None,
            most_text="",
            cautions=(
                DoseCaution(
                    code="response_not_used",
                    text=f"The response {response!r} of the last treatment was not used; known "
                    f"are {', '.join(policy.follow_up_step)}.",
                    sources=("POLICY",),
                ),
            ),
        )
    is_newest = all(p.date <= last.date for p in mine)
    if last.muscles is None or not is_newest:
        shift = min(shift, 0.0)
    most_units, most_text = _most(last, response, inputs.muscle, policy)
    return _LastTime(
        shift=shift,
        words=f"the response {response!r} to {last.units:g} Units on {last.date.isoformat()}",
        most_units=most_units,
        most_text=most_text,
        cautions=(),
    )


def _most(
    last: PriorTreatment, response: str, muscle: str, policy: Policy
) -> tuple[float | None, str]:
    """What the last treatment allows at most, in Units, where it named this muscle alone."""
    share = policy.follow_up_most_of_last.get(response)
    if share is None or last.muscles != (muscle,):
        return None, ""
    return (
        last.units * share,
        f"After the response {response!r} at most {share:g} times the last "
        f"{last.units:g} Units (judgement).",
    )
