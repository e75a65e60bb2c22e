"""What comes out of the pipeline: a suggestion until a named clinician confirms it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imaging.frame import plan_name


class State(StrEnum):
    """Where an analysis stands; every change of its content makes a new revision."""

    NEEDS_TARGET = "needs_target"
    NEEDS_CALIBRATION = "needs_calibration"
    QUEUED = "queued"
    RUNNING = "running"
    DRAFT = "draft"
    ABSTAINED = "abstained"
    REFUSED = "refused"
    CONFIRMED = "confirmed"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """The steps of a running analysis, in their order, as a progress display names them."""

    DECODE = "decode"
    CALIBRATE = "calibrate"
    SEGMENT = "segment"
    MEASURE = "measure"
    PLAN = "plan"
    RENDER = "render"


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A finished run: its state, its plan and its masks.

    `plan` holds only what JSON holds, so that two runs are the same when its canonical JSON is;
    ids and times stand outside it. `masks` has one PNG a frame, keyed by the frame's key
    (`imaging.mask` label values: 0 nothing, 1 muscle, 2 nerve, 3 vessel, 4 aponeurosis).
    """

    state: State
    plan: Mapping[str, Any]
    masks: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A stored file and the name that the sender gave it."""

    path: str
    name: str
    sop_instance_uid: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """What a request may call it: the sender's name, or the plan's."""
        return frozenset({self.name, plan_name(self.name, self.sop_instance_uid)})
