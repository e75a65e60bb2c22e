"""Softcopy Presentation State: contour and sites as graphics over the untouched image.

Grayscale (…11.1) for MONOCHROME images, Color (…11.2) for all others, as PS3.4 N.2 asks. Points
are continuous from the top-left corner of the top-left pixel (PS3.3 C.10.5.1.2), as ours are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageCms
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.arrays import BoolMask, FloatArray
from imaging.calibration import Calibration
from imaging.dicom.content import image_reference, references_by_series
from imaging.dicom.header import number_of_frames, text_of
from imaging.dicom.instance import (
    NewInstance,
    Sources,
    date_and_time,
    header_of,
    headers_of,
    new_dataset,
    to_bytes,
)
from imaging.dicom.seg import decimal_string
from imaging.geometry import ImagePoint
from imaging.mask import smooth_rings

GRAYSCALE_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
COLOUR_STATE = "1.2.840.10008.5.1.4.1.1.11.2"

CONTOUR_LAYER, SITE_LAYER = "MUSCLE", "SITES"
SITE_RADIUS_PX = 5.0
CONTOUR_TOLERANCE_PX = 0.35
"""Contours are thinned by no more than this: a viewer draws them a pixel wide."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateFrame:
    """What lies over one 0-based frame: the muscle's mask, and the sites with their words.

    `image` is the source that the frame is of, counted from 0.
    """

    frame: int
    image: int = 0
    muscle: BoolMask | None = None
    sites: tuple[StateSite, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSite:
    """A numbered site and what stands beside it."""

    number: int
    point: ImagePoint
    label: str = ""


def write_state(
    sources: Sources,
    frames: Sequence[StateFrame],
    *,
    instance: NewInstance,
    calibration: Calibration | None = None,
    label: str = "INJECTION PLAN",
    marks: Sequence[str] = (),
) -> bytes:
    """The presentation state of one source image, or of several with colour alike.

    Frames with nothing on them are left out of the graphics, not of the state. `marks` stand in
    the upper left corner of every frame. Raises ValueError for a frame that is not there.
    """
    headers = headers_of(sources)
    header = headers[0]
    for each in frames:
        count = number_of_frames(headers[each.image])
        if not 0 <= each.frame < count:
            raise ValueError(f"the source has {count} frames, there is no frame {each.frame}")
    sop_class = state_class(header)
    ds = new_dataset(header, instance, sop_class=sop_class, modality="PR")
    date, time = date_and_time(instance.created)
    # Type 2C of the General Series module: the source's side, empty where it names none.
    ds.Laterality = text_of(header, "Laterality") or text_of(header, "ImageLaterality") or ""
    ds.PresentationCreationDate, ds.PresentationCreationTime = date, time
    ds.ContentLabel = label.upper().replace("-", "_")[:16]
    ds.ContentDescription = "Contour and injection sites of a plan"
    ds.ContentCreatorName = ""
    ds.ReferencedSeriesSequence = references_by_series(headers, "ReferencedImageSequence")
    ds.DisplayedAreaSelectionSequence = DicomSequence([_displayed_area(header, calibration)])
    annotations = [item for each in frames for item in _annotations(headers[each.image], each)]
    annotations += [item for each in headers for item in _marks(each, marks)]
    if annotations:
        ds.GraphicAnnotationSequence = DicomSequence(annotations)
        used = {item.GraphicLayer for item in annotations}
        ds.GraphicLayerSequence = DicomSequence(
            _layer(name, order)
            for order, name in enumerate((CONTOUR_LAYER, SITE_LAYER), start=1)
            if name in used
        )
    if sop_class == GRAYSCALE_STATE:
        # PS3.3 C.11.6: MONOCHROME1 is shown as it is stored, white at zero.
        inverted = text_of(header, "PhotometricInterpretation") == "MONOCHROME1"
        ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    else:
        ds.ICCProfile = header.get("ICCProfile") or srgb_profile()
    return to_bytes(ds, like=header)


def state_class(source: Dataset | Path) -> str:
    """The SOP class of a state of this image: Grayscale for MONOCHROME, Color for all others."""
    shown = text_of(header_of(source), "PhotometricInterpretation") or ""
    return GRAYSCALE_STATE if shown.startswith("MONOCHROME") else COLOUR_STATE


@cache
def srgb_profile() -> bytes:
    """The sRGB profile as an input device's (PS3.3 C.11.15), the same bytes at every run."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    made[12:16] = b"scnr"
    made[24:36] = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    made[84:100] = bytes(16)
    return bytes(made) + b"\0" * (len(made) % 2)


def _displayed_area(header: Dataset, calibration: Calibration | None) -> Dataset:
    """All of the image, in the shape that its pixels have (PS3.3 C.10.4)."""
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [int(header.Columns), int(header.Rows)]
    item.PresentationSizeMode = "SCALE TO FIT"
    if calibration is None:
        item.PresentationPixelAspectRatio = [1, 1]
    else:
        item.PresentationPixelSpacing = [
            decimal_string(calibration.height_mm(1.0)),
            decimal_string(calibration.width_mm(1.0)),
        ]
    return item


def _layer(name: str, order: int) -> Dataset:
    item = Dataset()
    item.GraphicLayer = name
    item.GraphicLayerOrder = order
    # Sky blue and orange, told apart by colour-blind readers; grey for a grey display.
    item.GraphicLayerRecommendedDisplayGrayscaleValue = 0xFFFF
    item.GraphicLayerRecommendedDisplayCIELabValue = (
        [45_350, 30_190, 24_580] if name == CONTOUR_LAYER else [46_200, 37_100, 51_100]
    )
    return item


def _annotations(header: Dataset, frame: StateFrame) -> list[Dataset]:
    found = []
    rings = smooth_rings(frame.muscle)
    if rings:
        item = _annotation(header, frame.frame, CONTOUR_LAYER)
        item.GraphicObjectSequence = DicomSequence(_polyline(ring) for ring in rings)
        found.append(item)
    if frame.sites:
        item = _annotation(header, frame.frame, SITE_LAYER)
        item.GraphicObjectSequence = DicomSequence(_circle(site.point) for site in frame.sites)
        item.TextObjectSequence = DicomSequence(_words(site) for site in frame.sites)
        found.append(item)
    return found


def _marks(header: Dataset, marks: Sequence[str]) -> list[Dataset]:
    if not marks:
        return []
    item = _annotation(header, None, SITE_LAYER)
    text = Dataset()
    text.BoundingBoxAnnotationUnits = "DISPLAY"
    text.UnformattedTextValue = "\r\n".join(marks)
    text.BoundingBoxTopLeftHandCorner = [0.01, 0.01]
    text.BoundingBoxBottomRightHandCorner = [0.99, 0.04 + 0.03 * len(marks)]
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    item.TextObjectSequence = DicomSequence([text])
    return [item]


def _annotation(header: Dataset, frame: int | None, layer: str) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = DicomSequence([image_reference(header, frame)])
    item.GraphicLayer = layer
    return item


def _polyline(ring: FloatArray) -> Dataset:
    """A closed polyline; its first point stands at its end again (PS3.3 C.10.5.1.2)."""
    thin = cv2.approxPolyDP(ring.astype(np.float32), CONTOUR_TOLERANCE_PX, True).reshape(-1, 2)
    closed = np.concatenate([thin, thin[:1]])
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(closed)
    item.GraphicData = [float(value) for value in closed.ravel()]
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _circle(point: ImagePoint) -> Dataset:
    """A circle by its centre and a point on it."""
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = 2
    item.GraphicData = [point.column, point.row, point.column + SITE_RADIUS_PX, point.row]
    item.GraphicType = "CIRCLE"
    item.GraphicFilled = "N"
    return item


def _words(site: StateSite) -> Dataset:
    item = Dataset()
    item.AnchorPointAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = f"{site.number}: {site.label}" if site.label else f"{site.number}"
    item.AnchorPoint = [site.point.column + SITE_RADIUS_PX + 2, site.point.row]
    item.AnchorPointVisibility = "N"
    return item
