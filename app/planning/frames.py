"""The frames of a request: which ones, graded, and what was found on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.errors import FrameNotFound
from app.planning.request import ClickPart, OnFrame, OutlinePart, StudyRequest
from app.planning.scale import Scale
from imaging.arrays import BoolMask, FloatArray
from imaging.bone import possible_bone
from imaging.frame import Clip, Frame
from imaging.geometry import ImagePoint, PixelBox
from imaging.mask import fill_outline
from imaging.measure import CrossSection, measure
from imaging.quality import FrameQuality, grade
from imaging.sector import find_sector
from imaging.skin import skin_line
from models.segment import Click, Prompt, Segmentation, Segmenter, View


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedFrame:
    """One frame of the request with all that was found on it.

    `segmentation` is None where the operator drew `outline`; `section` and `possible_bone` are
    None where nothing was found or the frame was unusable.
    """

    key: str
    clip: Clip
    frame: Frame
    scale: Scale
    quality: FrameQuality
    region: PixelBox
    skin_rows: FloatArray
    segmentation: Segmentation | None
    prompted: bool
    outline: tuple[ImagePoint, ...] | None
    muscle: BoolMask
    section: CrossSection | None
    possible_bone: BoolMask | None = None

    @property
    def skin_row(self) -> int:
        """The skin's row over the muscle, or over the picture where there is none."""
        columns = np.flatnonzero(self.muscle.any(axis=0))
        over = self.skin_rows[columns] if columns.size else self.skin_rows
        return round(float(np.median(over)))


def frame_offsets(clips: Sequence[Clip]) -> list[int]:
    """The running number of each clip's first frame: frames are counted over all files."""
    counts = [clip.frame_count for clip in clips]
    return [sum(counts[:index]) for index in range(len(counts))]


def chosen_frames(
    clips: Sequence[Clip], scales: Sequence[Scale], request: StudyRequest
) -> list[tuple[Clip, Scale, Frame, str]]:
    """The frames to look at, each with its clip, scale and running number as key.

    Named frames come first; else the outlined ones; else all that were decoded.
    """
    everything = [
        (clip, scale, frame, str(offset + frame.source.frame))
        for clip, scale, offset in zip(clips, scales, frame_offsets(clips), strict=True)
        for frame in clip.frames
    ]
    _refuse_unknown(clips, request)
    wanted: Sequence[OnFrame] = request.frames or request.outlines
    if not wanted:
        return everything
    return [
        row
        for row in everything
        if any(names(choice.file, choice.frame, row[0], row[2]) for choice in wanted)
    ]


def names(file: str | None, frame: int | None, clip: Clip, candidate: Frame) -> bool:
    """True if a click, outline or choice with these two names means this frame."""
    return (file is None or file in (clip.file, clip.plan_name)) and (
        frame is None or frame == candidate.source.frame
    )


def _refuse_unknown(clips: Sequence[Clip], request: StudyRequest) -> None:
    counts = {clip.file: clip.frame_count for clip in clips}
    known_as = {clip.plan_name: clip.frame_count for clip in clips} | counts
    named: list[OnFrame] = [
        *(request.frames or ()),
        *request.outlines,
        *request.clicks,
        *(request.sites or ()),
    ]
    for part in named:
        if part.file is not None and part.file not in known_as:
            raise FrameNotFound(
                f"The request names the file {part.file!r}, which was not uploaded.",
                remedy=f"Name one of the uploaded files: {', '.join(sorted(counts))}.",
            )
        most = known_as[part.file] if part.file is not None else max(counts.values())
        if part.frame is not None and part.frame >= most:
            raise FrameNotFound(
                f"The request names frame {part.frame}, but there are {most} (0 to {most - 1}).",
                remedy="Frames are counted from 0; choose one that the file has.",
            )


def look_at(
    clip: Clip,
    scale: Scale,
    frame: Frame,
    key: str,
    request: StudyRequest,
    segmenter: Segmenter,
) -> UsedFrame:
    """The frame graded, and its muscle found by the operator's outline or by the network."""
    region = clip.region or find_sector(frame.pixels)
    quality = grade(frame.pixels[region.slices], colour_share=frame.colour_share)
    rows, columns = frame.pixels.shape
    outline = _outline_of(clip, frame, request.outlines)
    prompt = prompt_for(clip, frame, request)
    segmentation: Segmentation | None = None
    muscle = np.zeros((rows, columns), dtype=np.bool_)
    if outline is not None:
        muscle = fill_outline(outline, rows=rows, columns=columns)
    elif quality.usable:
        segmentation = segmenter.segment(frame.pixels, prompt, region=clip.region)
        muscle = segmentation.muscle
    return UsedFrame(
        key=key,
        clip=clip,
        frame=frame,
        scale=scale,
        quality=quality,
        region=region,
        skin_rows=skin_line(frame.pixels, region),
        segmentation=segmentation,
        prompted=bool(prompt.clicks) or prompt.box is not None,
        outline=outline,
        muscle=muscle,
        section=None,
    )


def _outline_of(
    clip: Clip, frame: Frame, outlines: Sequence[OutlinePart]
) -> tuple[ImagePoint, ...] | None:
    for outline in outlines:
        if names(outline.file, outline.frame, clip, frame):
            return tuple(ImagePoint(column=c, row=r) for c, r in outline.points)
    return None


def prompt_for(clip: Clip, frame: Frame, request: StudyRequest) -> Prompt:
    """What the operator pointed at on this frame; a click that names no frame holds for all."""
    clicks: list[ClickPart] = [c for c in request.clicks if names(c.file, c.frame, clip, frame)]
    box = request.box
    return Prompt(
        clicks=tuple(Click(column=c.column, row=c.row, positive=c.positive) for c in clicks),
        box=None
        if box is None
        else PixelBox(column0=box.column0, row0=box.row0, column1=box.column1, row1=box.row1),
        view=None if request.view is None else View(request.view),
    )


def avoid_masks(frame: UsedFrame) -> tuple[BoolMask, BoolMask]:
    """(nerve, vessel) of the frame, both empty where the network was not asked."""
    if frame.segmentation is None:
        nothing = np.zeros(frame.muscle.shape, dtype=np.bool_)
        return nothing, nothing
    return frame.segmentation.nerve, frame.segmentation.vessel


def measured(frame: UsedFrame) -> UsedFrame:
    """The frame with its cross-section in pixels and, where there is a scale, millimetres, and
    with what is possibly bone."""
    if not frame.muscle.any():
        return frame
    section = measure(
        frame.muscle,
        frame.frame.pixels,
        frame.scale.used,
        skin_row=frame.skin_row,
        skin_rows=frame.skin_rows,
        outline=frame.outline,
        region=frame.region,
    )
    bone = possible_bone(frame.frame.pixels, frame.region, frame.muscle)
    return replace(frame, section=section, possible_bone=bone)
