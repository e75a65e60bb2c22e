"""Where the frames of a DICOM image lie in space, as far as its header says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataset import Dataset

from imaging.calibration import Calibration
from imaging.dicom.header import items_of, text_of
from imaging.plane import ImagePlane, Vector, plane_of

# PS3.3 C.7.6.16.2.21 and .22 (Enhanced US Volume), then C.7.6.16.2.3 and .4, then C.7.6.2.
SEQUENCES = (
    (
        ("PlanePositionVolumeSequence", "ImagePositionVolume"),
        ("PlaneOrientationVolumeSequence", "ImageOrientationVolume"),
    ),
    (
        ("PlanePositionSequence", "ImagePositionPatient"),
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ),
)


def planes_of(
    ds: Dataset, frames: Sequence[int], scale: Calibration | None
) -> list[ImagePlane | None]:
    """The plane of each of the 0-based frames; None where position, orientation or scale lack.

    Position and orientation come from the frame's own functional groups, else the shared ones;
    in a single-frame image from its own Image Position and Orientation (Patient).
    """
    if scale is None:
        return [None] * len(frames)
    shared = items_of(ds, "SharedFunctionalGroupsSequence")
    groups = items_of(ds, "PerFrameFunctionalGroupsSequence")
    reference = (
        text_of(ds, "VolumeFrameOfReferenceUID")
        or text_of(ds, "FrameOfReferenceUID")
        or text_of(ds, "SOPInstanceUID")
        or ""
    )
    found = []
    for frame in frames:
        own = [*groups[frame : frame + 1], *shared] if groups else [ds] if frame == 0 else []
        placed = next(_placed(own, in_sequences=bool(groups)), None)
        found.append(
            None
            if placed is None
            else plane_of(
                corner_mm=placed[0],
                along_row=placed[1],
                along_column=placed[2],
                width_mm=scale.width_mm(float(ds.Columns)),
                height_mm=scale.height_mm(float(ds.Rows)),
                frame_of_reference=reference,
            )
        )
    return found


def _placed(
    groups: Sequence[Dataset], *, in_sequences: bool
) -> Iterator[tuple[Vector, Vector, Vector]]:
    """(corner, along a row, along a column) as each kind of attribute states it."""
    for (position_in, position), (orientation_in, orientation) in SEQUENCES:
        corner = _numbers(groups, position_in if in_sequences else None, position, 3)
        turned = _numbers(groups, orientation_in if in_sequences else None, orientation, 6)
        if corner is not None and turned is not None:
            yield _three(corner), _three(turned[:3]), _three(turned[3:])


def _numbers(
    groups: Sequence[Dataset], sequence: str | None, keyword: str, count: int
) -> list[float] | None:
    for group in groups:
        for item in [group] if sequence is None else items_of(group, sequence):
            value: Any = item.get(keyword)
            try:
                numbers = [float(v) for v in value]
            except (TypeError, ValueError):
                continue
            if len(numbers) == count:
                return numbers
    return None


def _three(values: Sequence[float]) -> Vector:
    x, y, z = values
    return x, y, z
