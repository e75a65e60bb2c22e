"""What a physician must know beside a dose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.clinic.amount import TOLERANCE, DoseAmount, DoseCase
from app.clinic.caps import cap_words, interval_caps, site_caps
from app.clinic.evidence import Cap, DoseRow, Grade
from app.clinic.inputs import ClinicalInputs, Dilution
from app.clinic.policy import Policy
from app.clinic.tables import ClinicalTables
from app.clinic.volume import MuscleVolume, NoReference, VolumeUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseCaution:
    """Something about the dose that the physician must know."""

    code: str
    text: str
    sources: tuple[str, ...]
    blocks_confirmation: bool = False


def dose_cautions(
    case: DoseCase,
    amount: DoseAmount,
    volume: MuscleVolume | VolumeUnknown,
    inputs: ClinicalInputs,
    caps: Sequence[Cap],
    totals: Sequence[Cap],
) -> tuple[DoseCaution, ...]:
    """Everything to be said beside a dose: its row, its volume, its caps, and what is left."""
    return (
        *_row_cautions(case.row, inputs, case.tables),
        *_volume_cautions(case, volume),
        *_cap_cautions(case, caps, totals, amount, inputs),
        *_amount_cautions(case, amount),
    )


def _row_cautions(
    row: DoseRow, inputs: ClinicalInputs, tables: ClinicalTables
) -> list[DoseCaution]:
    words = {
        Grade.COMPENDIUM: (
            "compendium_row",
            "The range was read in a drug compendium that quotes the label, not in the label.",
        ),
        Grade.REGIONAL_LABEL: (
            "regional_label_row",
            f"The range is that of the label of {row.jurisdiction}, as asked for.",
        ),
        Grade.CORROBORATED: (
            "corroborated_row",
            "The range was recalled and agrees with sourced totals: check it in the label before "
            "use.",
        ),
        Grade.CONSENSUS: (
            "off_label_consensus",
            "OFF-LABEL: a consensus table of 2005, used because off-label planning was asked for.",
        ),
        Grade.SITE: (
            "site_row",
            f"The range is the site's own ({row.origin or 'own table'}).",
        ),
    }
    found = []
    if row.grade in words:
        code, text = words[row.grade]
        note = f" Note: {row.note}." if row.note else ""
        found.append(DoseCaution(code=code, text=text + note, sources=row.sources))
    if tables.is_group(row.muscle):
        group = tables.groups[row.muscle]
        what = f"one {group.part}" if group.part else "the whole group"
        found.append(
            DoseCaution(
                code="group_row",
                text=f"The dose is for {what} ({group.english}), not for one muscle of it; the "
                "physician shares it out.",
                sources=row.sources,
            )
        )
    for i in tables.indications:
        same = (i.product, i.indication, i.population, i.jurisdiction) == (
            row.product,
            row.indication,
            row.population,
            row.jurisdiction,
        )
        if same and "excludes" in i.note:
            found.append(
                DoseCaution(
                    code="label_exclusion",
                    text=f"{row.product}: {i.note}.",
                    sources=i.sources,
                )
            )
    if row.sites is None:
        found.append(
            DoseCaution(
                code="no_cap_found",
                text="No cap found: the source gives no number of sites for this row.",
                sources=row.sources,
            )
        )
    return found


def _volume_cautions(case: DoseCase, volume: MuscleVolume | VolumeUnknown) -> list[DoseCaution]:
    def one(code: str, text: str, *sources: str) -> list[DoseCaution]:
        return [DoseCaution(code=code, text=text, sources=sources or ("POLICY",))]

    if case.is_group:
        return one(
            "dose_not_scaled",
            "The dose of a group is not scaled by a volume (ratio 1).",
        )
    if isinstance(volume, VolumeUnknown):
        return one(
            "volume_unknown",
            f"The volume is unknown, so the dose is not scaled (ratio 1). {volume.reason}",
        )
    reference = case.reference
    if isinstance(reference, NoReference):
        return one(
            "no_reference_volume",
            f"The dose is not scaled by the volume (ratio 1): {reference.reason}.",
        )
    low, high = reference.band_ml
    if low <= volume.volume_ml <= high:
        return []
    return one(
        "volume_outside_reference_band",
        f"The volume {volume.volume_ml:.0f} mL lies outside the plausible {low:.0f} to "
        f"{high:.0f} mL around the reference {reference.volume_ml:.0f} mL: check outline, scale "
        "and length.",
        *reference.step.sources,
    )


def _cap_cautions(
    case: DoseCase,
    caps: Sequence[Cap],
    totals: Sequence[Cap],
    amount: DoseAmount,
    inputs: ClinicalInputs,
) -> list[DoseCaution]:
    row, tables = case.row, case.tables
    limb = tables.limb_of(row.muscle)
    found = []
    per_site = site_caps(caps, row.muscle, limb)
    intervals = interval_caps(row.product, row.population, limb, inputs.jurisdiction, tables)
    for what, known in (
        ("for one site", per_site),
        ("for the interval between treatments", intervals),
        ("for the session", totals),
    ):
        if not known:
            found.append(
                DoseCaution(
                    code="no_cap_found",
                    text=f"No cap found {what} of {row.product} ({row.population}).",
                    sources=("POLICY",),
                )
            )
    if inputs.dilution is None:
        in_ml = [c for c in per_site if c.unit == "ml"]
        found.append(
            DoseCaution(
                code="dilution_unknown",
                text=f"The dilution is unknown, so the cap of {cap_words(in_ml[0], None)} per "
                "site cannot be checked. Give it before confirming."
                if in_ml
                else "The dilution is unknown, so no millilitres can be given.",
                sources=in_ml[0].sources if in_ml else ("POLICY",),
                blocks_confirmation=bool(in_ml),
            )
        )
    else:
        found += _dilution_caution(row.product, inputs.dilution, tables.policy)
    binding = {(a.sources, a.text) for a in amount.adjustments}
    for limit in case.limits:
        cap = limit.cap
        binds = (cap.sources, limit.text) in binding
        only = all(c.grade is Grade.SECONDARY for c in totals)
        if cap.grade is Grade.SECONDARY and (binds or only):
            found.append(
                DoseCaution(
                    code="secondary_cap",
                    text=f"{limit.text} It was read in a secondary source: check it in the label.",
                    sources=cap.sources,
                )
            )
        if binds and cap.jurisdiction != inputs.jurisdiction:
            found.append(
                DoseCaution(
                    code="cap_of_other_jurisdiction",
                    text=f"{limit.text} It is the cap of {cap.jurisdiction}, kept as a ceiling.",
                    sources=cap.sources,
                )
            )
    return found


def _dilution_caution(product: str, dilution: Dilution, policy: Policy) -> list[DoseCaution]:
    usual = policy.dilution_usual_units_per_ml.get(product)
    if usual is None or usual[0] <= dilution.units_per_ml <= usual[1]:
        return []
    return [
        DoseCaution(
            code="dilution_unusual",
            text=f"{dilution.units:g} Units in {dilution.ml:g} mL is {dilution.units_per_ml:g} "
            f"Units/mL, outside the usual {usual[0]:g} to {usual[1]:g}: check it before drawing "
            "up.",
            sources=policy.entries["dilution_usual_units_per_ml"].sources,
        )
    ]


def _amount_cautions(case: DoseCase, amount: DoseAmount) -> list[DoseCaution]:
    found = []
    if amount.units < case.low - TOLERANCE:
        found.append(
            DoseCaution(
                code="below_label_minimum",
                text=f"{amount.units:g} Units are below the range's lower end of {case.low:g}; "
                "the dose is not raised.",
                sources=case.row.sources,
            )
        )
    if case.row.sites is not None and amount.site_count > case.row.sites[1]:
        found.append(
            DoseCaution(
                code="more_sites_than_label",
                text=f"{amount.site_count} sites were chosen by hand; the row has at most "
                f"{case.row.sites[1]}.",
                sources=case.row.sources,
            )
        )
    if case.row.sites is not None and amount.site_count < case.row.sites[0]:
        found.append(
            DoseCaution(
                code="fewer_sites_than_label",
                text=f"{amount.site_count} sites, where the row has at least {case.row.sites[0]}.",
                sources=case.row.sources,
            )
        )
    return found
