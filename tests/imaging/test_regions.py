from __future__ import annotations

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.calibration import CalibrationProvenance
from imaging.dicom.regions import NOMINAL_MARK, calibration_at, read_regions, read_scale
from imaging.geometry import ImagePoint, PixelBox

TISSUE_2D = {
    "RegionSpatialFormat": 1,
    "RegionDataType": 1,
    "RegionFlags": 0,
    "RegionLocationMinX0": 10,
    "RegionLocationMinY0": 20,
    "RegionLocationMaxX1": 309,
    "RegionLocationMaxY1": 219,
    "PhysicalUnitsXDirection": 3,
    "PhysicalUnitsYDirection": 3,
    "PhysicalDeltaX": 0.012,
    "PhysicalDeltaY": 0.010,
}
DOPPLER = {**TISSUE_2D, "RegionSpatialFormat": 3, "RegionDataType": 3, "PhysicalUnitsXDirection": 4}
M_MODE = {**TISSUE_2D, "RegionSpatialFormat": 2, "PhysicalUnitsXDirection": 4}
COLOUR_FLOW = {**TISSUE_2D, "RegionDataType": 2}


def image(*regions: dict[str, object], **more: object) -> Dataset:
    ds = Dataset()
    ds.Rows, ds.Columns = 240, 320
    items = []
    for values in regions:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        items.append(item)
    if items:
        ds.SequenceOfUltrasoundRegions = DicomSequence(items)
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def test_a_b_mode_region_gives_millimetres_down_and_across() -> None:
    reading = read_scale(image(TISSUE_2D))
    assert reading.calibration is not None
    assert reading.calibration.row_mm_per_px == pytest.approx(0.10)
    assert reading.calibration.column_mm_per_px == pytest.approx(0.12)
    assert reading.calibration.provenance is CalibrationProvenance.ULTRASOUND_REGION
    assert reading.region == PixelBox(column0=10, row0=20, column1=310, row1=220)


@pytest.mark.parametrize("others", [[DOPPLER], [M_MODE], [COLOUR_FLOW], [DOPPLER, M_MODE]])
def test_doppler_and_m_mode_regions_before_the_b_mode_one_are_passed_over(
    others: list[dict[str, object]],
) -> None:
    strange = [{**other, "PhysicalDeltaX": 7.0, "PhysicalDeltaY": 9.0} for other in others]
    reading = read_scale(image(*strange, TISSUE_2D))
    assert reading.calibration is not None
    assert reading.calibration.row_mm_per_px == pytest.approx(0.10)


def test_negative_deltas_are_directions_not_sizes() -> None:
    reading = read_scale(image({**TISSUE_2D, "PhysicalDeltaX": -0.012, "PhysicalDeltaY": -0.01}))
    assert reading.calibration is not None
    assert reading.calibration.column_mm_per_px == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"RegionLocationMaxX1": 400}, "outside"),
        ({"RegionLocationMaxY1": 300}, "outside"),
        ({"RegionLocationMinX0": 2**32 - 5}, "outside"),
        ({"RegionLocationMinX0": 309, "RegionLocationMaxX1": 309}, "empty"),
        ({"PhysicalUnitsXDirection": 4}, "seconds"),
        ({"PhysicalUnitsYDirection": 0}, "none"),
        ({"PhysicalDeltaX": 0.0}, "no size"),
        ({"PhysicalDeltaY": float("nan")}, "no size"),
        ({"PhysicalDeltaX": 0.2}, "out of shape"),
        ({"PhysicalDeltaX": 12.0, "PhysicalDeltaY": 10.0}, "mm per pixel"),
    ],
)
def test_a_region_that_cannot_be_true_gives_no_scale_and_says_why(
    change: dict[str, object], word: str
) -> None:
    reading = read_scale(image({**TISSUE_2D, **change}, PixelSpacing=[0.1, 0.1]))
    assert reading.calibration is None
    assert reading.problem is not None
    assert word in reading.problem


def test_a_region_one_past_the_last_pixel_is_forgiven() -> None:
    reading = read_scale(image({**TISSUE_2D, "RegionLocationMaxX1": 320}))
    assert reading.calibration is not None
    assert reading.region is not None
    assert reading.region.column1 == 320


@pytest.mark.parametrize("missing", ["RegionLocationMaxX1", "PhysicalDeltaX"])
def test_a_region_without_place_or_size_gives_no_scale(missing: str) -> None:
    values = {keyword: value for keyword, value in TISSUE_2D.items() if keyword != missing}
    assert read_scale(image(values)).calibration is None


def test_two_b_mode_regions_of_one_scale_give_it() -> None:
    left = {**TISSUE_2D, "RegionLocationMinX0": 0, "RegionLocationMaxX1": 149}
    right = {**TISSUE_2D, "RegionLocationMinX0": 160, "RegionLocationMaxX1": 309}
    reading = read_scale(image(left, right))
    assert reading.calibration is not None
    assert reading.region is None


def test_a_region_that_is_told_twice_is_one_region() -> None:
    reading = read_scale(image(TISSUE_2D, TISSUE_2D))
    assert reading.calibration is not None
    assert reading.region == PixelBox(column0=10, row0=20, column1=310, row1=220)


def test_two_b_mode_regions_of_unlike_scales_give_none() -> None:
    left = {**TISSUE_2D, "RegionLocationMinX0": 0, "RegionLocationMaxX1": 149}
    right = {**TISSUE_2D, "RegionLocationMinX0": 160, "PhysicalDeltaX": 0.006}
    ds = image(left, right)
    reading = read_scale(ds)
    assert reading.calibration is None
    assert "several" in (reading.problem or "")
    regions = read_regions(ds)
    near_left = calibration_at(regions, ImagePoint(column=50, row=100))
    near_right = calibration_at(regions, ImagePoint(column=200, row=100))
    assert near_left is not None
    assert near_right is not None
    assert near_left.column_mm_per_px == pytest.approx(2 * near_right.column_mm_per_px)
    assert calibration_at(regions, ImagePoint(column=155, row=100)) is None


def test_pixel_spacing_counts_only_without_regions_of_tissue() -> None:
    reading = read_scale(image(PixelSpacing=[0.2, 0.1]))
    assert reading.calibration is not None
    assert reading.calibration.row_mm_per_px == 0.2
    assert reading.calibration.provenance is CalibrationProvenance.PIXEL_SPACING


def test_one_millimetre_per_pixel_is_a_converter_s_default_and_no_scale() -> None:
    reading = read_scale(image(PixelSpacing=[1, 1]))
    assert reading.calibration is None
    assert "1 mm per pixel" in (reading.problem or "")


def _measures(spacing: list[float]) -> Dataset:
    measures = Dataset()
    measures.PixelSpacing = spacing
    group = Dataset()
    group.PixelMeasuresSequence = DicomSequence([measures])
    return group


def test_a_scale_that_changes_by_frame_holds_for_frames_of_one_scale_only() -> None:
    ds = image(
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=DicomSequence(
            [_measures([0.1, 0.1]), _measures([0.1, 0.1]), _measures([0.2, 0.2])]
        ),
    )
    assert read_scale(ds).calibration is None
    both = read_scale(ds, [0, 1]).calibration
    assert both is not None
    assert both.provenance is CalibrationProvenance.FUNCTIONAL_GROUP
    last = read_scale(ds, [2]).calibration
    assert last is not None
    assert last.row_mm_per_px == 0.2


def test_shared_pixel_measures_hold_for_every_frame() -> None:
    ds = image(SharedFunctionalGroupsSequence=DicomSequence([_measures([0.1, 0.3])]))
    found = read_scale(ds, [5]).calibration
    assert found is not None
    assert (found.row_mm_per_px, found.column_mm_per_px) == (0.1, 0.3)


@pytest.mark.parametrize("keyword", ["ImageComments", "DerivationDescription"])
def test_either_mark_makes_the_scale_nominal(keyword: str) -> None:
    reading = read_scale(image(TISSUE_2D, **{keyword: f"{NOMINAL_MARK}: made up"}))
    assert reading.calibration is not None
    assert reading.calibration.is_nominal


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "examples_palette.dcm"])
def test_pydicom_s_down_sampled_samples_keep_a_false_scale_that_is_not_believed(name: str) -> None:
    from pydicom import dcmread

    path = get_testdata_file(name, download=False)
    reading = read_scale(dcmread(str(path)))
    assert reading.calibration is None
    assert "outside the image" in (reading.problem or "")


@pytest.mark.parametrize("name", ["examples_rgb_color.dcm", "examples_jpeg2k.dcm"])
def test_samples_without_a_scale_have_none(name: str) -> None:
    from pydicom import dcmread

    path = get_testdata_file(name, download=False)
    assert read_scale(dcmread(str(path))).problem == "The file has no scale."
