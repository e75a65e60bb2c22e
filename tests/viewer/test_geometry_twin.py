"""The service's geometry against the same answers as the viewer's (geometry_vectors.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imaging.calibration import Calibration, CalibrationProvenance, from_two_points
from imaging.errors import CalibrationRefused
from imaging.geometry import ImagePoint, PixelBox, pixel_centre, polygon_area_px

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "geometry_vectors.json").read_text(encoding="utf-8")
)


def point(pair: list[float]) -> ImagePoint:
    return ImagePoint(column=pair[0], row=pair[1])


def test_pixel_centres_agree() -> None:
    for v in VECTORS["pixel_centre"]:
        assert pixel_centre(column=v["column"], row=v["row"]) == point(v["point"])


def test_boxes_agree() -> None:
    for v in VECTORS["box_holds"]:
        column0, row0, column1, row1 = v["box"]
        box = PixelBox(column0=column0, row0=row0, column1=column1, row1=row1)
        assert box.holds(column=v["point"][0], row=v["point"][1]) is v["holds"]


def test_polygon_areas_agree() -> None:
    for v in VECTORS["polygon_area_px"]:
        assert polygon_area_px([point(p) for p in v["points"]]) == pytest.approx(v["area_px"])


def test_millimetres_agree() -> None:
    for v in VECTORS["calibration"]:
        scale = Calibration(
            row_mm_per_px=v["row_mm_per_px"],
            column_mm_per_px=v["column_mm_per_px"],
            provenance=CalibrationProvenance.OPERATOR,
        )
        tissue = scale.to_tissue(point(v["image"]))
        assert scale.area_mm2(v["area_px"]) == pytest.approx(v["area_mm2"])
        assert [tissue.lateral_mm, tissue.depth_mm] == pytest.approx(v["tissue_mm"])
        back = scale.to_image(tissue)
        assert [back.column, back.row] == pytest.approx(v["image"])
        assert scale.distance_mm(point(v["image"]), point(v["other"])) == pytest.approx(
            v["distance_mm"]
        )


@pytest.mark.parametrize("v", VECTORS["from_two_points"])
def test_two_points_agree(v: dict[str, Any]) -> None:
    """Where the viewer says no, the service refuses; else both give the same scale."""
    a, b = point(v["a"]), point(v["b"])
    if v["mm_per_px"] is None:
        with pytest.raises(CalibrationRefused):
            from_two_points(a, b, distance_mm=v["distance_mm"])
    else:
        scale = from_two_points(a, b, distance_mm=v["distance_mm"])
        assert scale.row_mm_per_px == pytest.approx(v["mm_per_px"])
