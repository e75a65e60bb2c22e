"""How sure the network is of each scanner's pictures, counted as analyses end.

A scanner whose confidence sinks, or whose pictures are abstained from more often, has been changed,
or was never like those that the network was trained on. No count holds anything of a patient: what
stands in a header as the scanner's model may be anything, so it becomes a label only once three
patients' images bear it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_SCANNERS = 50
OTHERS = "others"
UNNAMED = "? ?"
NAMED_FROM_PATIENTS = 3


@dataclass(slots=True)
class Seen:
    """What the network said of one scanner's frames that nobody outlined or clicked on."""

    frames: int = 0
    abstained: int = 0
    confidence: float = 0.0


class Drift:
    """The counts of this process since it started, by scanner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_scanner: dict[str, Seen] = {}
        self._patients: dict[str, set[int]] = {}

    def count(self, scanner: str, plan: Mapping[str, Any], *, patient: str | None) -> None:
        """Adds a finished plan's frames. A prompt says how the operator clicks: it is left out."""
        with self._lock:
            seen = self._by_scanner.setdefault(self._label(scanner, patient), Seen())
            for frame in plan.get("frames", ()):
                said = frame.get("segmentation")
                if said is None or said["prompted"]:
                    continue
                seen.frames += 1
                seen.abstained += said["abstained"] is not None
                seen.confidence += said["confidence"]

    def _label(self, scanner: str, patient: str | None) -> str:
        if scanner == UNNAMED:
            return scanner
        if scanner not in self._patients and len(self._patients) >= MOST_SCANNERS:
            return OTHERS
        patients = self._patients.setdefault(scanner, set())
        if len(patients) < NAMED_FROM_PATIENTS:
            patients.add(hash(patient))
        return scanner if len(patients) >= NAMED_FROM_PATIENTS else OTHERS

    def lines(self) -> Iterator[str]:
        """The exposition in Prometheus' text form."""
        with self._lock:
            counted = sorted(self._by_scanner.items())
        for name, meaning, value in (
            ("sonodose_network_frames_total", "Frames that the network was asked alone.", "frames"),
            ("sonodose_network_abstained_total", "Those that it abstained from.", "abstained"),
            ("sonodose_network_confidence_sum", "Their confidence, added up.", "confidence"),
        ):
            yield f"# HELP {name} {meaning}"
            yield f"# TYPE {name} counter"
            for scanner, seen in counted:
                yield f'{name}{{scanner="{scanner}"}} {getattr(seen, value):g}'


def scanner_of(identity: Mapping[str, Any] | None) -> str:
    """Maker and model as a label: letters, digits and a few signs, never long."""
    said = identity or {}
    text = f"{said.get('manufacturer') or '?'} {said.get('model_name') or '?'}"
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in " -_.?"))[:64]
