"""The plan as a FHIR R4 bundle: what was measured, by what, on which study, and what is proposed.

Observations are preliminary and the procedure a proposal until a named clinician confirmed the
plan. Toxin Units are written as UCUM `[arb'U]` with the product in the text: Units of different
products are different things.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "UBERON": "http://purl.obolibrary.org/obo/uberon.owl",
}
UCUM = "http://unitsofmeasure.org"
VOLUME = ("SCT", "118565006", "Volume")
AREA = ("SCT", "42798000", "Area")
THICKNESS = ("LN", "59089-3", "Thickness")
NAMESPACE = uuid.UUID("6f0d3c2e-6a34-5a36-9a59-6d3b0f7d4f11")
"""Of the bundle's entries: the same analysis and revision give the same identifiers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirSubject:
    """Whom the bundle is about, by identifiers; None where the image names nobody."""

    patient_id: str | None
    issuer: str | None
    patient_name: str | None
    study_instance_uid: str | None


def plan_bundle(
    plan: Mapping[str, Any],
    *,
    analysis_id: str,
    revision: int,
    made: str,
    subject: FhirSubject,
    verifier: str | None,
) -> dict[str, Any]:
    """The bundle as plain JSON; `made` is an ISO 8601 instant with its time zone."""

    def url(name: str) -> str:
        return f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{analysis_id}/{revision}/{name}')}"

    base = {
        "subject": _patient_reference(subject),
        "device": {"reference": url("device")},
        "derivedFrom": [] if subject.study_instance_uid is None else [{"reference": url("study")}],
    }
    entries = [("device", _device(plan))]
    if subject.study_instance_uid is not None:
        entries.append(("study", _study(subject)))
    for name, code, quantity, text in _quantities(plan):
        entries.append(
            (name, _observation(plan, base, code, quantity, text, made, verifier is not None))
        )
    entries.append(("proposal", _proposal(plan, subject, made, verifier)))
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": url("bundle")},
        "timestamp": made,
        "entry": [{"fullUrl": url(name), "resource": resource} for name, resource in entries],
    }


def _concept(scheme: str, code: str, display: str) -> dict[str, Any]:
    return {
        "coding": [{"system": SYSTEMS[scheme], "code": code, "display": display}],
        "text": display,
    }


def _quantity(value: float, unit: str, code: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": code}


def _patient_reference(subject: FhirSubject) -> dict[str, Any]:
    if subject.patient_id is None:
        return {"display": subject.patient_name or "not named by the image"}
    identifier = {"value": subject.patient_id}
    if subject.issuer is not None:
        identifier["system"] = f"urn:dicom:issuer:{subject.issuer}"
    named = {} if subject.patient_name is None else {"display": subject.patient_name}
    return {"type": "Patient", "identifier": identifier, **named}


def _study(subject: FhirSubject) -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{subject.study_instance_uid}"}
        ],
        "status": "available",
        "subject": _patient_reference(subject),
    }


def _device(plan: Mapping[str, Any]) -> dict[str, Any]:
    versions = [
        {"type": {"text": "clinical tables"}, "value": plan["provenance"]["tables"]["version"]}
    ]
    if plan["provenance"]["model"] is not None:
        versions.insert(0, {"type": {"text": "network"}, "value": plan["provenance"]["model"]})
    return {
        "resourceType": "Device",
        "status": "active",
        "manufacturer": "sonodose",
        "deviceName": [{"name": "sonodose", "type": "manufacturer-name"}],
        "version": versions,
        "note": [{"text": plan["intended_use"]}],
    }


def _quantities(
    plan: Mapping[str, Any],
) -> list[tuple[str, tuple[str, str, str], dict[str, Any], str | None]]:
    found: list[tuple[str, tuple[str, str, str], dict[str, Any], str | None]] = []
    volume = plan.get("volume")
    if volume is not None and volume["known"]:
        low, high = volume["interval_ml"]
        text = f"{low} to {high} mL by {volume['method']}. {volume['published_error'] or ''}"
        found.append(("volume", VOLUME, _quantity(volume["volume_ml"], "mL", "mL"), text.strip()))
    for frame in plan["frames"]:
        section = frame["section"]
        if section is None or section["area_mm2"] is None:
            continue
        scale = frame["calibration"]["used"]["provenance"]
        text = f"frame {frame['key']}, scale from {scale}"
        if plan["target"]["view"] != "long_axis":
            area = round(section["area_mm2"] / 100.0, 4)
            found.append((f"area-{frame['key']}", AREA, _quantity(area, "cm2", "cm2"), text))
        found.append(
            (
                f"thickness-{frame['key']}",
                THICKNESS,
                _quantity(section["thickness_mm"], "mm", "mm"),
                text,
            )
        )
    return found


def _observation(
    plan: Mapping[str, Any],
    base: Mapping[str, Any],
    code: tuple[str, str, str],
    quantity: Mapping[str, Any],
    text: str | None,
    made: str,
    confirmed: bool,
) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final" if confirmed else "preliminary",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "imaging",
                    }
                ]
            }
        ],
        "code": _concept(*code),
        "subject": base["subject"],
        "effectiveDateTime": made,
        "valueQuantity": dict(quantity),
        "bodySite": _body_site(plan),
        "device": base["device"],
        **({"derivedFrom": base["derivedFrom"]} if base["derivedFrom"] else {}),
        **({"note": [{"text": text}]} if text else {}),
    }


def _body_site(plan: Mapping[str, Any]) -> dict[str, Any]:
    target = plan["target"]
    anatomy = target["anatomy"]
    return {
        **_concept(anatomy["scheme"], anatomy["code"], anatomy["meaning"]),
        "text": f"{target['name']}, {target['side']}",
    }


def _proposal(
    plan: Mapping[str, Any], subject: FhirSubject, made: str, verifier: str | None
) -> dict[str, Any]:
    dose = plan.get("dose") or {"planned": False}
    notes = [*plan["marks"]] if verifier is None else [f"Confirmed by {verifier}"]
    if not dose["planned"]:
        notes.append(f"No dose: {dose.get('reason') or 'the network gave no answer'}")
    for site in plan.get("sites", ()):
        parts = [f"Site {site['number']}: {site['depth_mm']} mm deep"]
        if site["units"] is not None:
            parts.append(f"{site['units']:g} U {dose['product']}")
        if site["ml"] is not None:
            parts.append(f"{site['ml']:g} mL")
        notes.append(", ".join(parts))
    notes += [caution["text"] for caution in plan["cautions"]]
    proposal: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "draft" if verifier is None else "active",
        "intent": "proposal" if verifier is None else "plan",
        "code": {"text": "Botulinum toxin injection under ultrasound guidance"},
        "subject": _patient_reference(subject),
        "bodySite": [_body_site(plan)],
        "authoredOn": made,
        "note": [{"text": note} for note in notes],
    }
    if dose["planned"]:
        proposal["orderDetail"] = [{"text": f"{dose['units']:g} U {dose['product']}"}]
        proposal["quantityQuantity"] = _quantity(dose["units"], f"U {dose['product']}", "[arb'U]")
    return proposal
