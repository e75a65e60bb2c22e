from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from imaging.dicom.key_objects import KeyObject, capture_key, write_key_objects
from imaging.dicom.state import StateFrame, StateSite, srgb_profile, write_state
from imaging.geometry import ImagePoint
from tests.imaging.conftest import disc, names, scale
from tests.judges import dicom_errors, judge, study_errors

Put = Callable[..., Path]
Noise = Callable[..., list[np.ndarray]]


def plan(rows: int, columns: int, frames: list[int]) -> list[StateFrame]:
    site = StateSite(number=1, point=ImagePoint(column=40.25, row=30.5), label="18 mm, 20 U")
    return [
        StateFrame(
            frame=frame, muscle=disc(rows, columns, columns / 2, rows / 2, rows / 3), sites=(site,)
        )
        for frame in frames
    ]


@pytest.mark.parametrize(
    ("size", "frames"), [((64, 80), 1), ((64, 80), 2), ((64, 80), 30), ((735, 975), 1)]
)
def test_a_grayscale_state_passes_the_validator_and_agrees_with_its_study(
    size: tuple[int, int], frames: int, put: Put, noise: Noise, tmp_path: Path
) -> None:
    source = put(noise(*size, frames), scale())
    path = tmp_path / "state.dcm"
    path.write_bytes(
        write_state(
            source,
            plan(*size, list(range(0, frames, 3))),
            instance=names("state", 5),
            calibration=scale(),
            marks=("SUGGESTION: CONFIRM BEFORE USE", "DEMONSTRATION"),
        )
    )
    assert dicom_errors(path) == []
    assert study_errors(tmp_path) == []
    assert dcmread(path).SOPClassUID == "1.2.840.10008.5.1.4.1.1.11.1"


def test_a_colour_image_gets_a_colour_state_with_a_profile(tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("examples_rgb_color.dcm", download=False)))
    path = tmp_path / "state.dcm"
    path.write_bytes(write_state(source, plan(240, 320, [0]), instance=names("state", 5)))
    assert dicom_errors(path) == []
    ds = dcmread(path)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.11.2"
    assert ds.ICCProfile == srgb_profile()


def test_contour_and_sites_are_those_of_the_plan(put: Put, noise: Noise, tmp_path: Path) -> None:
    source = put(noise(200, 240, 4), scale())
    path = tmp_path / "state.dcm"
    path.write_bytes(write_state(source, plan(200, 240, [2]), instance=names("state", 5)))
    contour, sites = dcmread(path).GraphicAnnotationSequence
    assert contour.ReferencedImageSequence[0].ReferencedFrameNumber == 3
    line = contour.GraphicObjectSequence[0]
    points = np.array(line.GraphicData).reshape(-1, 2)
    assert len(points) == line.NumberOfGraphicPoints
    assert np.array_equal(points[0], points[-1])
    distance = np.hypot(points[:, 0] - 120, points[:, 1] - 100)
    assert np.abs(distance - 200 / 3).max() < 1.0
    assert list(sites.GraphicObjectSequence[0].GraphicData[:2]) == [40.25, 30.5]
    assert sites.TextObjectSequence[0].UnformattedTextValue == "1: 18 mm, 20 U"


def test_dcmtk_shows_the_image_through_the_state_unchanged(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    frames = noise(64, 80)
    source = put(frames, scale())
    (tmp_path / "state.dcm").write_bytes(
        write_state(source, plan(64, 80, [0]), instance=names("state", 5))
    )
    done = subprocess.run(  # noqa: S603 -- a fixed program on files of the test's own
        [
            judge("dcmp2pgm"),
            "--pstate",
            str(tmp_path / "state.dcm"),
            str(source),
            str(tmp_path / "shown.pgm"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(shown, frames[0])


def test_a_frame_that_is_not_there_is_refused(put: Put, noise: Noise) -> None:
    with pytest.raises(ValueError, match="no frame 3"):
        write_state(put(noise(), scale()), plan(64, 80, [3]), instance=names("state", 5))


def test_key_objects_name_frames_capture_and_report(put: Put, noise: Noise, tmp_path: Path) -> None:
    source = put(noise(frames=9), scale())
    report = KeyObject(
        series_instance_uid="1.2.3",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33",
        sop_instance_uid="1.2.4",
        is_image=False,
    )
    path = tmp_path / "ko.dcm"
    path.write_bytes(
        write_key_objects(
            source,
            [7, 2],
            instance=names("ko", 6),
            others=(capture_key(names("sc", 4)), report),
            description="Frames of the injection plan",
        )
    )
    assert dicom_errors(path) == []
    ds = dcmread(path)
    references = [
        item.ReferencedSOPSequence[0] for item in ds.ContentSequence if item.ValueType != "TEXT"
    ]
    assert [r.get("ReferencedFrameNumber") for r in references] == [3, 8, None, None]
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series) == 3
    done = subprocess.run(  # noqa: S603 -- as above
        [judge("dsrdump"), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "E:" not in done.stderr


def test_key_objects_without_any_are_refused(put: Put, noise: Noise) -> None:
    with pytest.raises(ValueError, match="selects something"):
        write_key_objects(put(noise()), [], instance=names("ko", 6))
