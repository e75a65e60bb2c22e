"""The impure shell around the pipeline: files in, an analysis out, in a process of its own.

Decoding runs native code over untrusted bytes, so it happens here and not in the service: a
codec that crashes costs one job. The network is loaded once for the life of the process.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2

from app import tracing
from app.analysis import Analysis, SourceFile, Stage
from app.clinic.inputs import PriorTreatment
from app.clinic.tables import ClinicalTables, load_tables
from app.jobs.processes import tell_stage
from app.planning.pipeline import analyse
from app.planning.request import OnFrame, StudyRequest, request_of_json
from app.store.object_store import fetched
from imaging.frame import Clip
from imaging.read import DecodeLimits, read_clip
from models.segment import Segmenter, load_segmenter

REMEMBERED = 24
"""Answers of the network that a worker keeps: as many as a sweep has frames, some 50 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisTask:
    """All that a worker needs: plain values, so that it crosses any process boundary."""

    sources: tuple[SourceFile, ...]
    request_json: str
    today: str
    limits: DecodeLimits
    table_override: str | None = None
    recorded: tuple[PriorTreatment, ...] = ()


Work = Callable[[AnalysisTask, Callable[[Stage], None]], Analysis]


@cache
def segmenter() -> Segmenter:
    """The process's network, one thread: workers are as many as cores."""
    return load_segmenter(threads=1, remembered=REMEMBERED)


@cache
def tables(override: str | None) -> ClinicalTables:
    """The clinical tables, with a site's reviewed override if there is one."""
    return load_tables(None if override is None else Path(override))


def warm_up() -> None:
    """Loads what every task needs, before the first one comes."""
    cv2.setNumThreads(1)
    segmenter()
    tables(None)


def read_sources(
    sources: tuple[SourceFile, ...], request: StudyRequest, limits: DecodeLimits
) -> list[Clip]:
    """The clips of the files, decoded only as far as the request needs their frames."""
    return [
        read_clip(
            Path(source.path),
            name=source.name,
            frames=_wanted(source, request),
            limits=limits,
        )
        for source in sources
    ]


def _wanted(source: SourceFile, request: StudyRequest) -> list[int] | None:
    """The 0-based frames of this file that are named in the request; None: all of them."""
    chosen: Sequence[OnFrame] = request.frames or request.outlines
    if not chosen or any(c.frame is None for c in chosen):
        return None
    return sorted(
        {c.frame for c in chosen if c.frame is not None and c.file in {None, *source.names}}
    )


def with_stages(work: Work, task: AnalysisTask, trail: tracing.Trail | None = None) -> Analysis:
    """What `work` makes of the task, its files at hand and its stages told."""
    with fetched(task.sources) as sources, tracing.stage_spans(trail) as begun:

        def progress(stage: Stage) -> None:
            tell_stage(stage)
            begun(stage.value)

        return work(replace(task, sources=sources), progress)


def run_analysis(
    task: AnalysisTask, progress: Callable[[Stage], None] = lambda stage: None
) -> Analysis:
    """The finished analysis of a task.

    Raises ImagingError, ClinicError and AppError, each with `code`, `message` and `remedy`.
    """
    request = request_of_json(task.request_json)
    progress(Stage.DECODE)
    clips = read_sources(task.sources, request, task.limits)
    return analyse(
        clips,
        request,
        segmenter=segmenter(),
        tables=tables(task.table_override),
        today=dt.date.fromisoformat(task.today),
        recorded=task.recorded,
        progress=progress,
    )
