"""One session: several muscles, both sides, one product, under joint caps.

When the sum is over a cap, the physician's priorities decide: the least important muscles are cut
first, those of one priority in proportion to what they have above their label's minimum; only
when all stand at their minimum does a cut go below it. Nothing is ever raised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.clinic.amount import TOLERANCE, DoseAdjustment, down_to_step
from app.clinic.caps import CapHeld
from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan, with_less
from app.clinic.errors import InvalidInput, UnknownProduct
from app.clinic.evidence import CapKind
from app.clinic.inputs import ClinicalInputs
from app.clinic.products import ToxinUnits
from app.clinic.tables import ClinicalTables


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionItem:
    """One muscle of a session: its request, its own dose, and its priority (1 comes first)."""

    key: str
    inputs: ClinicalInputs
    dose: DosePlan | DoseRefused
    priority: int = 1

    def __post_init__(self) -> None:
        if self.priority < 1:
            raise InvalidInput(
                f"The priority {self.priority} of {self.key} cannot be used.",
                remedy="Give 1 for the most important muscles, 2 for the next, and so on.",
                field="priority",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCap:
    """A cap over several muscles: Units left of it, asked for, and planned under it."""

    held: CapHeld
    side: str | None
    keys: tuple[str, ...]
    asked_units: float
    planned_units: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What was taken from one muscle, and why."""

    key: str
    before_units: float
    after_units: float
    text: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VialCount:
    """The vials of one dilution: how many, the mL to draw up, and the Units left over."""

    vial_units: float
    vial_ml: float
    vials: int
    draw_up_ml: float
    units_left_over: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """The session's doses under its joint caps; `total` is their sum in the one product's Units.

    `vials` is empty where a muscle's dilution is unknown.
    """

    product: str
    items: tuple[SessionItem, ...]
    total: ToxinUnits
    caps: tuple[JointCap, ...]
    cuts: tuple[Cut, ...]
    vials: tuple[VialCount, ...]
    notes: tuple[str, ...]


def plan_session(items: Sequence[SessionItem], tables: ClinicalTables) -> SessionPlan:
    """The session's plan; each item's own dose is where it starts and is never exceeded.

    Raises InvalidInput for no item, two products, two patients or one muscle twice, and
    UnknownProduct.
    """
    product = _one_session(items, tables)
    step_units = tables.policy.dispensing_step_units[product]
    units = {i.key: i.dose.units.value for i in items if isinstance(i.dose, DosePlan)}
    minimum = {i.key: i.dose.label_min_units for i in items if isinstance(i.dose, DosePlan)}
    asked = dict(units)
    groups = _joint_caps(items)
    cuts: list[Cut] = []
    adjustments: dict[str, list[DoseAdjustment]] = {key: [] for key in units}
    for side, held, members in groups:
        over = sum(units[i.key] for i in members) - held.left_units
        for key, after in _cut(members, units, minimum, over, step_units).items():
            where = "" if side is None else f" ({side})"
            text = f"{held.text} Together{where} the muscles asked for more; priorities decide."
            cuts.append(
                Cut(
                    key=key,
                    before_units=units[key],
                    after_units=after,
                    text=text,
                    sources=held.cap.sources,
                )
            )
            adjustments[key].append(
                DoseAdjustment(
                    reason="session_sum",
                    before_units=units[key],
                    after_units=after,
                    sources=held.cap.sources,
                    grade=held.cap.grade,
                    text=text,
                )
            )
            units[key] = after
    planned = tuple(
        replace(i, dose=with_less(i.dose, units[i.key], adjustments[i.key], i.inputs, tables))
        if isinstance(i.dose, DosePlan) and adjustments[i.key]
        else i
        for i in items
    )
    return SessionPlan(
        product=product,
        items=planned,
        total=ToxinUnits(product, sum(units.values())),
        caps=tuple(
            JointCap(
                held=held,
                side=side,
                keys=tuple(i.key for i in members),
                asked_units=sum(asked[i.key] for i in members),
                planned_units=sum(units[i.key] for i in members),
            )
            for side, held, members in groups
        ),
        cuts=tuple(cuts),
        vials=_vials(planned, units),
        notes=_notes(planned),
    )


def _one_session(items: Sequence[SessionItem], tables: ClinicalTables) -> str:
    """The one product of the session; InvalidInput where the items do not make one session."""
    products = {i.inputs.product for i in items}
    if len(products) != 1 or None in products:
        raise InvalidInput(
            "A session has one product, and every muscle names it; here: "
            + (", ".join(sorted(str(p) for p in products)) or "nothing")
            + ".",
            remedy="Plan each product's muscles in a session of their own; Units of two products "
            "cannot be added.",
            field="product",
        )
    if len({(i.inputs.patient, i.inputs.jurisdiction) for i in items}) > 1:
        raise InvalidInput(
            "The muscles of the session belong to different patients, or their facts differ.",
            remedy="Give every muscle of a session the same patient and jurisdiction.",
            field="patient",
        )
    places = [(i.inputs.muscle, i.inputs.side) for i in items]
    if len(set(places)) < len(places) or len({i.key for i in items}) < len(items):
        raise InvalidInput(
            "One muscle of one side stands twice in the session.",
            remedy="Keep one analysis of each muscle and side.",
            field="items",
        )
    product = str(products.pop())
    if product not in tables.products:
        raise UnknownProduct(
            f"The product {product!r} is in no table.",
            remedy=f"Use one of: {', '.join(tables.products)}.",
            field="product",
        )
    return product


def _joint_caps(
    items: Sequence[SessionItem],
) -> list[tuple[str | None, CapHeld, tuple[SessionItem, ...]]]:
    """(side for a cap on one limb, the cap with the least left, its muscles), narrow caps first."""
    found: dict[tuple[object, str | None], list[tuple[CapHeld, SessionItem]]] = {}
    for item in items:
        if isinstance(item.dose, DosePlan):
            for held in item.dose.caps:
                side = item.inputs.side if held.cap.kind is CapKind.LIMB else None
                found.setdefault((held.cap, side), []).append((held, item))
    narrow = list(CapKind)
    joint = [
        (side, min((h for h, _ in pairs), key=lambda h: h.left_units), tuple(i for _, i in pairs))
        for (_, side), pairs in found.items()
    ]
    return sorted(joint, key=lambda j: (narrow.index(j[1].cap.kind), j[1].cap.where == "any"))


def _cut(
    members: Sequence[SessionItem],
    units: Mapping[str, float],
    minimum: Mapping[str, float],
    over: float,
    step_units: float,
) -> dict[str, float]:
    """The Units after taking `over` (and what rounding down adds) from the members who lose any.

    The last priority is cut first; within one, in proportion to what lies above the label's
    minimum, then, when every priority stands at its minimum, in proportion to the rest.
    """
    after = {i.key: units[i.key] for i in members}
    left = over
    for floor in (minimum, dict.fromkeys(after, 0.0)):
        for priority in sorted({i.priority for i in members}, reverse=True):
            room = {
                i.key: max(0.0, after[i.key] - floor[i.key])
                for i in members
                if i.priority == priority
            }
            in_all = sum(room.values())
            taken = min(left, in_all)
            if taken > 0:
                for key, mine in room.items():
                    after[key] -= taken * mine / in_all
                left -= taken
    whole = {key: down_to_step(value, step_units) for key, value in after.items()}
    return {key: value for key, value in whole.items() if value < units[key]}


def _vials(items: Sequence[SessionItem], units: Mapping[str, float]) -> tuple[VialCount, ...]:
    """Vials and mL to draw up for each dilution; nothing where one is unknown."""
    given = [(i.inputs.dilution, units[i.key]) for i in items if i.key in units]
    totals: dict[tuple[float, float], float] = {}
    for dilution, amount in given:
        if dilution is None:
            return ()
        key = (dilution.units, dilution.ml)
        totals[key] = totals.get(key, 0.0) + amount
    return tuple(
        VialCount(
            vial_units=vial_units,
            vial_ml=vial_ml,
            vials=(vials := math.ceil(total / vial_units - TOLERANCE)),
            draw_up_ml=total * vial_ml / vial_units,
            units_left_over=vials * vial_units - total,
        )
        for (vial_units, vial_ml), total in sorted(totals.items())
    )


def _notes(items: Sequence[SessionItem]) -> tuple[str, ...]:
    said = [f"{i.key}: {i.dose.reason}" for i in items if isinstance(i.dose, DoseRefused)]
    said += [
        f"{i.key}: {i.dose.units.value:g} Units are below the range's lower end of "
        f"{i.dose.label_min_units:g}; nothing is raised."
        for i in items
        if isinstance(i.dose, DosePlan) and i.dose.below_label_min
    ]
    return tuple(said)
