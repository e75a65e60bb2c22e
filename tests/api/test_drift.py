"""What grows old and what drifts is told: drafts of older versions, scanners of other pictures."""

from __future__ import annotations

from typing import Any

import pytest

from api import documents
from app.jobs.drift import MOST_SCANNERS, Drift, scanner_of
from tests.api.conftest import ANALYSES, Serve, draft
from tests.app import workloads


def frame(
    confidence: float, abstained: str | None = None, *, prompted: bool = False
) -> dict[str, Any]:
    said = {"confidence": confidence, "abstained": abstained, "prompted": prompted}
    return {"segmentation": said}


def test_confidence_and_abstention_are_counted_by_scanner() -> None:
    """Frames that the network was asked alone count; outlined and clicked ones do not."""
    drift = Drift()
    frames = [frame(0.9), frame(0.2, "low"), frame(0.9, prompted=True), {"segmentation": None}]
    for patient in ("a", "b", "b", "c"):
        drift.count("Esaote MyLab", {"frames": frames}, patient=patient)
    text = "\n".join(drift.lines())
    assert 'sonodose_network_frames_total{scanner="Esaote MyLab"} 2' in text
    assert 'sonodose_network_abstained_total{scanner="Esaote MyLab"} 1' in text
    assert 'sonodose_network_confidence_sum{scanner="Esaote MyLab"} 1.1' in text
    assert 'sonodose_network_frames_total{scanner="others"} 6' in text


def test_a_model_name_that_few_patients_bear_is_no_label() -> None:
    """A name of a person that stands where the scanner's model should is not published."""
    drift = Drift()
    for _ in range(5):
        drift.count("Jane Doe", {"frames": [frame(0.5)]}, patient="P-1")
    assert "Jane" not in "\n".join(drift.lines())


def test_a_label_is_harmless_and_their_number_bounded() -> None:
    """A header cannot break the exposition, nor fill it."""
    assert scanner_of({"manufacturer": 'A"}\n', "model_name": None}) == "A ?"
    assert scanner_of(None) == "? ?"
    drift = Drift()
    for number in range(2 * MOST_SCANNERS):
        for patient in ("a", "b", "c"):
            drift.count(f"scanner {number}", {"frames": [frame(0.5)]}, patient=patient)
    assert len(list(drift.lines())) == 3 * (2 + MOST_SCANNERS + 1)


def test_the_metric_is_served(serve: Serve) -> None:
    """A finished analysis is counted under its image's scanner."""
    client = serve(workloads.segmented)
    draft(client)
    assert 'sonodose_network_frames_total{scanner="? ?"} 1' in client.get("/metrics").text


def test_a_draft_of_another_network_is_stale_until_made_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft of other weights says so; an empty change makes it again, with those in force."""
    client = serve(workloads.segmented)
    monkeypatch.setattr(documents, "weights_in_force", lambda: "9.9")
    made = draft(client)
    assert made["stale"] == ["model"]
    monkeypatch.setattr(documents, "weights_in_force", lambda: "1.0")
    again = client.patch(
        f"{ANALYSES}/{made['id']}",
        json={},
        headers={
            "If-Match": made["etag"],
            "Content-Type": "application/merge-patch+json",
            "Prefer": "wait=30",
        },
    ).json()
    assert (again["revision"], again["stale"]) == (2, [])
