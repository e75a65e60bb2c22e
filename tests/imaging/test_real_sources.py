"""Our objects on other people's ultrasound files: lossy YBR, palette, RGB, an old scanner's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from imaging.dicom.capture import write_capture
from imaging.dicom.key_objects import write_key_objects
from imaging.dicom.seg import Algorithm, write_seg
from imaging.dicom.sr import ReportContent, ReportSite, write_sr
from imaging.dicom.state import StateFrame, StateSite, write_state
from imaging.geometry import ImagePoint
from tests.imaging.conftest import BICEPS, disc, names, scale
from tests.judges import dicom_errors, judge


@pytest.mark.parametrize(
    "name",
    [
        "examples_ybr_color.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "examples_jpeg2k.dcm",
        "ExplVR_BigEnd.dcm",
    ],
)
def test_objects_on_a_real_file_pass_the_validator(name: str, tmp_path: Path) -> None:
    judge("dciodvfy")
    source = Path(str(get_testdata_file(name, download=False)))
    header = dcmread(source, stop_before_pixels=True)
    rows, columns = int(header.Rows), int(header.Columns)
    frame = int(header.get("NumberOfFrames") or 1) - 1
    muscle = disc(rows, columns, columns / 2, rows / 2, rows / 4)
    point = ImagePoint(column=columns / 2, row=rows / 2)
    objects = {
        "seg": write_seg(
            source,
            {frame: {"muscle": muscle}},
            calibration=scale(),
            anatomy=BICEPS,
            algorithm=Algorithm(name="net", version="1", kind="SEMIAUTOMATIC"),
            instance=names("seg", 2),
        ),
        "sr": write_sr(
            source,
            ReportContent(anatomy=BICEPS, sites=(ReportSite(number=1, frame=frame, point=point),)),
            instance=names("sr", 3),
        ),
        "state": write_state(
            source,
            [StateFrame(frame=frame, muscle=muscle, sites=(StateSite(number=1, point=point),))],
            instance=names("state", 4),
        ),
        "sc": write_capture(
            source,
            [np.zeros((50, 60, 3), dtype=np.uint8)],
            instance=names("sc", 5),
            source_frame=frame,
        ),
        "ko": write_key_objects(source, [frame], instance=names("ko", 6)),
    }
    for kind, data in objects.items():
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(data)
        assert dicom_errors(path) == [], kind
        made = dcmread(path, stop_before_pixels=True)
        assert made.StudyInstanceUID == header.StudyInstanceUID
        assert str(made.PatientName) == str(header.get("PatientName", ""))
