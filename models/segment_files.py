"""`sonodose segment`: many files in, masks and a record for each out, one process.

`STEM.muscle.png`, `STEM.nerve.png` and `STEM.vessel.png` (0/255, size of the input) and
`STEM.json`; frames of a clip `STEM.f0012.muscle.png`. Where the answer is withheld the muscle mask
is empty and the best guess is `STEM.candidate.png`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import cv2
import numpy as np

from imaging.arrays import BoolMask, GreyImage
from imaging.errors import ImagingError
from imaging.geometry import PixelBox
from imaging.limits import DecodeLimits
from imaging.plain import read_plain
from models.segment import Click, Prompt, Segmentation, Segmenter, View, load_segmenter

ReadFrames: TypeAlias = Callable[[Path], Iterable[GreyImage]]
"""The grey frames of a file, each (rows, columns) uint8; ImagingError if it cannot be read."""
Progress: TypeAlias = Callable[[int, int, Path], None]
"""Called after each file: files done, files in all, the file."""

SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".mp4", ".avi", ".mov", ""}
)
"""The files that are taken out of a folder; a file named by itself is always tried."""


class PromptsRefused(ValueError):
    """The prompts file is not what it should be; the message says where."""


def segment_files(
    inputs: Sequence[Path],
    out: Path,
    prompts: Path | None = None,
    progress: Progress | None = None,
    *,
    read_frames: ReadFrames | None = None,
    segmenter: Segmenter | None = None,
) -> int:
    """The exit code: 0, or 1 if any file failed; what failed is said on standard error.

    A folder stands for the pictures in it and below it. `read_frames` reads the files (default:
    PNG, JPEG, TIFF, BMP); pass a reader of DICOM and clips to take those too.
    """
    asked = {} if prompts is None else read_prompts(prompts)
    reader = read_frames or read_stills
    segmenter = segmenter or load_segmenter(threads=2)
    files = list(_listed(inputs))
    report = progress or _bar
    taken: set[Path] = set()
    failures = 0
    if not files:
        print("no pictures were found among the inputs", file=sys.stderr)
        return 1
    for number, (path, relative) in enumerate(files, start=1):
        stem = relative.with_suffix("")
        if stem in taken:
            # scan.png and scan.jpg side by side: the second keeps its whole name.
            stem = relative
        taken.add(stem)
        try:
            prompt_of = _prompt_finder(asked, relative)
            _segment_file(path, out / stem, segmenter, reader, prompt_of)
        except (ImagingError, OSError, ValueError) as error:
            failures += 1
            remedy = getattr(error, "remedy", "")
            print(f"{path}: {error} {remedy}".rstrip(), file=sys.stderr)
        report(number, len(files), path)
    return 1 if failures else 0


def read_stills(path: Path) -> list[GreyImage]:
    """The frames of a PNG, JPEG, TIFF or BMP file, each (rows, columns) uint8."""
    clip = read_plain(path, name=path.name, frames=None, limits=DecodeLimits())
    return [frame.pixels for frame in clip.frames]


def read_prompts(path: Path) -> dict[str, list[tuple[int | None, Prompt]]]:
    """File name or relative path → prompts, each with the frame it is for (None: every frame).

    PromptsRefused if the file is not of the documented form.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PromptsRefused(f"the prompts file {path} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise PromptsRefused(f"{path}: an object of file name → prompt is expected")
    found: dict[str, list[tuple[int | None, Prompt]]] = {}
    for name, entry in record.items():
        try:
            entries = entry if _is_list_of_prompts(entry) else [entry]
            found[name] = [_prompt_of(one) for one in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise PromptsRefused(f"{path}: the prompt of {name!r} is wrong: {error}") from error
    return found


def _is_list_of_prompts(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and bool(entry)
        and all(isinstance(one, dict) and ("clicks" in one or "box" in one) for one in entry)
    )


def _prompt_of(entry: Any) -> tuple[int | None, Prompt]:
    if isinstance(entry, list):
        entry = {"clicks": entry}
    box = entry.get("box")
    view = entry.get("view")
    frame = entry.get("frame")
    prompt = Prompt(
        clicks=tuple(_click_of(one) for one in entry.get("clicks", ())),
        box=None if box is None else _box_of(box),
        view=None if view is None else View(view),
    )
    return None if frame is None else int(frame), prompt


def _click_of(entry: Any) -> Click:
    if isinstance(entry, Mapping):
        return Click(
            column=int(entry["column"]),
            row=int(entry["row"]),
            positive=bool(entry.get("positive", True)),
        )
    column, row, *rest = entry
    return Click(column=int(column), row=int(row), positive=bool(rest[0]) if rest else True)


def _box_of(entry: Any) -> PixelBox:
    names = ("column0", "row0", "column1", "row1")
    values = [entry[name] for name in names] if isinstance(entry, Mapping) else list(entry)
    column0, row0, column1, row1 = (int(value) for value in values)
    return PixelBox(column0=column0, row0=row0, column1=column1, row1=row1)


def _prompt_finder(
    asked: Mapping[str, list[tuple[int | None, Prompt]]], relative: Path
) -> Callable[[int], Prompt]:
    entries = asked.get(relative.as_posix(), asked.get(relative.name, []))

    def find(frame: int) -> Prompt:
        for wanted, prompt in entries:
            if wanted is None or wanted == frame:
                return prompt
        return Prompt()

    return find


def _listed(inputs: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    # Each file with the relative path that its outputs keep.
    for given in inputs:
        if given.is_dir():
            for path in sorted(given.rglob("*")):
                if path.is_file() and path.suffix.lower() in SUFFIXES:
                    yield path, path.relative_to(given)
        elif given.is_absolute() or ".." in given.parts:
            yield given, Path(given.name)
        else:
            yield given, given


def _segment_file(
    path: Path,
    stem: Path,
    segmenter: Segmenter,
    read_frames: ReadFrames,
    prompt_of: Callable[[int], Prompt],
) -> None:
    frames = iter(read_frames(path))
    first = next(frames, None)
    if first is None:
        raise ValueError("there is no frame in the file")
    stem.parent.mkdir(parents=True, exist_ok=True)
    second = next(frames, None)
    if second is None:
        _write(segmenter.segment(first, prompt_of(0)), stem.as_posix())
        return
    for number, grey in enumerate(_chained(first, second, frames)):
        found = segmenter.segment(grey, prompt_of(number))
        _write(found, f"{stem.as_posix()}.f{number:04d}")


def _chained(first: GreyImage, second: GreyImage, rest: Iterator[GreyImage]) -> Iterator[GreyImage]:
    # A clip is read frame by frame: it need not fit into memory.
    yield first
    yield second
    yield from rest


def _write(found: Segmentation, stem: str) -> None:
    _write_mask(found.muscle, f"{stem}.muscle.png")
    _write_mask(found.nerve, f"{stem}.nerve.png")
    _write_mask(found.vessel, f"{stem}.vessel.png")
    candidate = Path(f"{stem}.candidate.png")
    if found.abstained is None:
        candidate.unlink(missing_ok=True)
    else:
        _write_mask(found.candidate, str(candidate))
    text = json.dumps(record_of(found), indent=1, ensure_ascii=False)
    Path(f"{stem}.json").write_text(text + "\n", encoding="utf-8")


def _write_mask(mask: BoolMask, path: str) -> None:
    if not cv2.imwrite(path, np.where(mask, 255, 0).astype(np.uint8)):
        raise OSError(f"{path} could not be written")


def record_of(found: Segmentation) -> dict[str, Any]:
    """What `STEM.json` holds: plain JSON values, lengths in pixels of the input."""
    return {
        "confidence": round(found.confidence, 4),
        "abstained": found.abstained is not None,
        "reason": None if found.abstained is None else found.abstained.value,
        "explanation": None if found.abstained is None else found.abstained.sentence,
        "view": found.view.value,
        "view_score": round(found.view_score, 4),
        "sector": _box_record(found.sector),
        "area_px": found.area_px,
        "area_interval_px": [round(value, 1) for value in found.area_interval_px],
        "thickness_px": found.thickness_px,
        "thickness_interval_px": [round(value, 1) for value in found.thickness_interval_px],
        "objects": [
            {
                "kind": one.kind,
                "score": round(one.score, 4),
                "box": _box_record(one.box),
                "area_px": one.area_px,
            }
            for one in found.objects
        ],
        "weights_version": found.weights_version,
    }


def _box_record(box: PixelBox) -> dict[str, int]:
    return {
        "column0": box.column0,
        "row0": box.row0,
        "column1": box.column1,
        "row1": box.row1,
    }


def _bar(done: int, total: int, path: Path) -> None:
    if not sys.stderr.isatty():
        return
    width = 30
    filled = width * done // total
    end = "\n" if done == total else ""
    line = f"\r[{'#' * filled}{'.' * (width - filled)}] {done}/{total} {path.name[:40]:<40}"
    print(line, end=end, file=sys.stderr, flush=True)
