"""Work for the job tests: small stand-ins for an analysis, importable in a worker process."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.analysis import Analysis, Stage, State
from app.errors import CanaryFailed
from app.jobs.worker import AnalysisTask
from imaging.errors import UnreadableFile

Progress = Callable[[Stage], None]
DONE = Analysis(
    state=State.DRAFT,
    plan={
        "frames": [{"key": "0", "section": {"area_px": 19200.0}}],
        "cautions": [],
        "unanswered": [],
        "dose": {"planned": True, "product": "XEOMIN", "units": 40.0},
        "sites_refused": None,
    },
    masks={"0": b"\x89PNG mask of frame 0"},
)


def quick(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft at once."""
    progress(Stage.PLAN)
    return DONE


def staged(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft at once, each stage told."""
    for stage in Stage:
        progress(stage)
    return DONE


def segmented(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft of the network 1.0."""
    said = {"confidence": 0.8, "abstained": None, "prompted": False}
    plan = {**DONE.plan, "frames": [{"segmentation": said}], "provenance": {"model": "1.0"}}
    return Analysis(state=State.DRAFT, plan=plan, masks={})


def slow(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft after a minute, with its stage told."""
    progress(Stage.SEGMENT)
    time.sleep(60)
    return DONE


def brief(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft after a third of a second."""
    progress(Stage.SEGMENT)
    time.sleep(0.3)
    return DONE


def seconds(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft after three seconds."""
    progress(Stage.SEGMENT)
    time.sleep(3)
    return DONE


def dies_once(task: AnalysisTask, progress: Progress) -> Analysis:
    """Dies of a signal the first time, is done the second."""
    mark = Path(tempfile.gettempdir()) / f"{Path(task.sources[0].path).name}.died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    mark.unlink()
    return DONE


def dies(task: AnalysisTask, progress: Progress) -> Analysis:
    """Dies of a signal each time."""
    os.kill(os.getpid(), signal.SIGKILL)
    return DONE


def unreadable(task: AnalysisTask, progress: Progress) -> Analysis:
    """Refuses as a decoder does that finds damage behind a good header."""
    raise UnreadableFile("The pixels are cut off.", remedy="Export the image again.")


def hungry(task: AnalysisTask, progress: Progress) -> Analysis:
    """Takes more memory than a worker may."""
    bytearray(1 << 40)
    return DONE


def hungry_on_the_right(task: AnalysisTask, progress: Progress) -> Analysis:
    """As `hungry`, for right sides alone."""
    return hungry(task, progress) if '"right"' in task.request_json else DONE


def hungry_reader(*_: object) -> None:
    """A reader of headers that takes more memory than its worker may."""
    bytearray(1 << 40)


def reader_ended_once(mark: str) -> str:
    """A reader that the system ends the first time, for want of memory."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "read"


def defective(task: AnalysisTask, progress: Progress) -> Analysis:
    """Fails as a defect of ours does, with a patient's name in the error."""
    raise RuntimeError("Example^Ada")


def with_stops(task: AnalysisTask, progress: Progress) -> Analysis:
    """A draft with everything that refuses confirmation."""
    return Analysis(
        state=State.DRAFT,
        plan={
            "frames": [{"calibration": {"used": {"provenance": "nominal"}}}],
            "cautions": [{"code": "x", "text": "The wrong side.", "blocks_confirmation": True}],
            "unanswered": [{"field": "safety.pregnancy", "text": "Pregnant?"}],
            "dose": {"planned": False, "reason": "no row."},
            "sites_refused": {"reason": "too small.", "remedy": ""},
        },
        masks={},
    )


def silent() -> dict[str, Any]:
    """A canary of a network that computes something else."""
    raise CanaryFailed("Another answer.", remedy="Another machine.")


def sings() -> dict[str, Any]:
    """A canary of a good network."""
    return {}
