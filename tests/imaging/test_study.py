"""All objects of one plan together, as a PACS gets them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from imaging.dicom.capture import write_capture
from imaging.dicom.key_objects import KeyObject, capture_key, write_key_objects
from imaging.dicom.seg import Algorithm, write_seg
from imaging.dicom.sr import COMPREHENSIVE_SR, ReportContent, ReportSite, write_sr
from imaging.dicom.state import StateFrame, StateSite, write_state
from imaging.overlay import Overlay, OverlaySite, draw_overlay
from imaging.phantom import SweepPhantom
from tests.imaging.conftest import BICEPS, fill, names
from tests.judges import dicom_errors, study_errors

Put = Callable[..., Path]


@pytest.mark.parametrize("frames", [1, 12])
def test_a_plan_s_objects_are_valid_and_agree_with_each_other(
    frames: int, phantom: SweepPhantom, put: Put, tmp_path: Path
) -> None:
    grey, masks = list(phantom.frames[:frames]), [fill(phantom, k) for k in range(frames)]
    source = put(grey, phantom.calibration)
    shown = frames // 2
    point = phantom.outlines[shown][0]
    site = ReportSite(number=1, frame=shown, point=point, depth_mm=20.0, units=20.0, ml=0.4)
    picture = draw_overlay(
        Overlay(
            grey=grey[shown],
            muscle=masks[shown],
            sites=(OverlaySite(number=1, point=point),),
            calibration=phantom.calibration,
        )
    )
    report = names("sr", 9002)
    objects = {
        "seg": write_seg(
            source,
            {k: {"muscle": mask} for k, mask in enumerate(masks)},
            calibration=phantom.calibration,
            anatomy=BICEPS,
            algorithm=Algorithm(name="net", version="1", kind="AUTOMATIC"),
            instance=names("seg", 9001),
        ),
        "sr": write_sr(source, ReportContent(anatomy=BICEPS, sites=(site,)), instance=report),
        "sc": write_capture(source, [picture], instance=names("sc", 9003), source_frame=shown),
        "state": write_state(
            source,
            [
                StateFrame(
                    frame=shown, muscle=masks[shown], sites=(StateSite(number=1, point=point),)
                )
            ],
            instance=names("state", 9004),
            calibration=phantom.calibration,
        ),
        "ko": write_key_objects(
            source,
            [shown],
            instance=names("ko", 9005),
            others=(
                capture_key(names("sc", 9003)),
                KeyObject(
                    series_instance_uid=report.series_instance_uid,
                    sop_class_uid=COMPREHENSIVE_SR,
                    sop_instance_uid=report.sop_instance_uid,
                    is_image=False,
                ),
            ),
        ),
    }
    for name, data in objects.items():
        (tmp_path / f"{name}.dcm").write_bytes(data)
        assert dicom_errors(tmp_path / f"{name}.dcm") == [], name
    assert study_errors(tmp_path) == []
    headers = [dcmread(path, stop_before_pixels=True) for path in tmp_path.glob("*.dcm")]
    assert len({ds.StudyInstanceUID for ds in headers}) == 1
    assert len({ds.SeriesInstanceUID for ds in headers}) == len(headers)
    assert len({ds.SOPInstanceUID for ds in headers}) == len(headers)


def test_the_seg_of_a_sweep_holds_each_section_s_area(
    phantom: SweepPhantom, put: Put, tmp_path: Path
) -> None:
    source = put(list(phantom.frames), phantom.calibration)
    path = tmp_path / "seg.dcm"
    path.write_bytes(
        write_seg(
            source,
            {k: {"muscle": fill(phantom, k)} for k in range(len(phantom.frames))},
            calibration=phantom.calibration,
            anatomy=BICEPS,
            algorithm=Algorithm(name="net", version="1", kind="AUTOMATIC"),
            instance=names("seg", 9001),
        )
    )
    ds = dcmread(path)
    spacing = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    areas = (ds.pixel_array > 0).sum(axis=(1, 2)) * float(spacing[0]) * float(spacing[1])
    assert areas == pytest.approx(np.array(phantom.true_areas_mm2), rel=0.01)
