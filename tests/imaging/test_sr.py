from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from imaging.dicom import codes
from imaging.dicom.sr import (
    PredecessorDocument,
    ReportContent,
    ReportNumber,
    ReportSite,
    Verifier,
    write_sr,
)
from imaging.geometry import ImagePoint
from tests.imaging.conftest import BICEPS, names, scale
from tests.judges import dicom_errors, judge, study_errors

Put = Callable[..., Path]
Noise = Callable[..., list[np.ndarray]]
WHO = Verifier(name="House^Gregory", organization="Clinic", at=dt.datetime(2026, 3, 4, 9, 0))


def report(frames: int = 1, **more: object) -> ReportContent:
    return ReportContent(
        **{
            "anatomy": BICEPS,
            "sites": tuple(
                ReportSite(
                    number=number,
                    frame=(number - 1) % frames,
                    point=ImagePoint(column=20.25 + number, row=30.75),
                    depth_mm=18.25,
                    units=20.0,
                    ml=0.4,
                )
                for number in (1, 2, 3)
            ),
            "numbers": (
                ReportNumber(name=codes.AREA, value=9.8, unit=codes.CM2),
                ReportNumber(
                    name=codes.VOLUME,
                    value=143.7,
                    unit=codes.CM3,
                    method="section × length",
                    low=120.0,
                    high=166.0,
                ),
            ),
            "product": "XEOMIN",
            "dose_rows": ("60 Units, bounded by the cap of the label",),
            "cautions": ("Check the side.",),
            "marks": ("SUGGESTION: CONFIRM BEFORE USE",),
            "quality": "usable",
            "calibration": "ultrasound_region: 0.15 mm per pixel",
            "versions": ("tables 1",),
            **more,
        }
    )


def items(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(ds: Dataset, concept: codes.DicomCode) -> list[Dataset]:
    return [
        item
        for item in items(ds)
        if "ConceptNameCodeSequence" in item
        and item.ConceptNameCodeSequence[0].CodeValue == concept.value
    ]


@pytest.fixture
def written(put: Put, noise: Noise, tmp_path: Path) -> Callable[..., Path]:
    def write(frames: int = 1, verified: Verifier | None = None, **more: object) -> Path:
        source = put(noise(frames=frames), scale())
        path = tmp_path / f"sr{len(list(tmp_path.iterdir()))}.dcm"
        data = write_sr(source, report(frames, **more), instance=names("sr", 3), verified=verified)
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("frames", [1, 2, 30, 300])
@pytest.mark.parametrize("verified", [None, WHO])
def test_a_report_passes_the_validator(
    frames: int, verified: Verifier | None, written: Callable[..., Path]
) -> None:
    assert dicom_errors(written(frames, verified)) == []


def test_report_and_image_agree_as_a_study(written: Callable[..., Path], tmp_path: Path) -> None:
    written(2)
    assert study_errors(tmp_path) == []


def test_a_site_is_a_point_in_a_group_without_a_number(written: Callable[..., Path]) -> None:
    ds = dcmread(written(2))
    groups = named(ds, codes.MEASUREMENT_GROUP)
    with_point = [g for g in groups if any(i.ValueType == "SCOORD" for i in g.ContentSequence)]
    assert len(with_point) == 3
    for number, group in enumerate(with_point, start=1):
        kinds = [item.ValueType for item in group.ContentSequence]
        assert "NUM" not in kinds
        point = next(i for i in group.ContentSequence if i.ValueType == "SCOORD")
        assert point.GraphicType == "POINT"
        assert list(point.GraphicData) == [20.25 + number, 30.75]
        image = point.ContentSequence[0].ReferencedSOPSequence[0]
        assert image.ReferencedFrameNumber == 1 + (number - 1) % 2
        assert group.ContentSequence[0].TextValue == f"Site {number}"


def test_a_still_is_referenced_without_a_frame_number(written: Callable[..., Path]) -> None:
    point = next(i for i in items(dcmread(written())) if i.ValueType == "SCOORD")
    assert "ReferencedFrameNumber" not in point.ContentSequence[0].ReferencedSOPSequence[0]


def test_a_dose_names_its_product_and_never_an_enzyme_unit(written: Callable[..., Path]) -> None:
    ds = dcmread(written())
    for group in named(ds, codes.MEASUREMENT_GROUP):
        doses = named(group, codes.TOXIN_UNITS)
        for dose in doses:
            unit = dose.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
            assert unit.CodeValue == "[arb'U]"
        if doses:
            assert named(group, codes.PRODUCT)[0].TextValue == "XEOMIN"


def test_numbers_carry_their_interval_and_method(written: Callable[..., Path]) -> None:
    volumes = named(dcmread(written()), codes.VOLUME)
    values = [float(v.MeasuredValueSequence[0].NumericValue) for v in volumes]
    assert values == [143.7, 120.0, 166.0]
    assert volumes[0].ContentSequence[0].TextValue == "section × length"
    ends = [v.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning for v in volumes[1:]]
    assert ends == ["Minimum", "Maximum"]


def test_a_suggestion_is_unverified_and_preliminary(written: Callable[..., Path]) -> None:
    ds = dcmread(written())
    assert (ds.VerificationFlag, ds.PreliminaryFlag, ds.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "PARTIAL",
    )
    assert "VerifyingObserverSequence" not in ds


def test_a_confirmed_plan_names_who_verified_it_and_what_it_replaces(
    written: Callable[..., Path],
) -> None:
    before = PredecessorDocument(
        study_instance_uid="1.2.3", series_instance_uid="1.2.4", sop_instance_uid="1.2.5"
    )
    path = written(1, WHO, predecessors=(before,))
    ds = dcmread(path)
    assert (ds.VerificationFlag, ds.PreliminaryFlag) == ("VERIFIED", "FINAL")
    assert ds.VerifyingObserverSequence[0].VerifyingObserverName == "House^Gregory"
    replaced = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert replaced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.5"
    assert dicom_errors(path) == []


def test_highdicom_reads_the_sites_and_the_numbers(written: Callable[..., Path]) -> None:
    content = highdicom.sr.srread(written(2)).content
    sites = content.get_planar_roi_measurement_groups()
    assert [str(group.tracking_identifier) for group in sites] == ["Site 1", "Site 2", "Site 3"]
    numbers = content.get_image_measurement_groups()
    assert [str(g.tracking_identifier) for g in numbers] == ["Site 1", "Site 2", "Site 3"]
    # OHIF puts a site's point and numbers together by their tracking UID.
    assert [g.tracking_uid for g in numbers] == [g.tracking_uid for g in sites]


def test_every_group_under_imaging_measurements_shares_its_tracking_uid_with_a_point(
    written: Callable[..., Path],
) -> None:
    measurements = named(dcmread(written(2)), codes.IMAGING_MEASUREMENTS)[0]
    tracked: dict[str, set[str]] = {}
    for group in measurements.ContentSequence:
        uid = named(group, codes.TRACKING_UID)[0].UID
        tracked.setdefault(uid, set()).update(i.ValueType for i in group.ContentSequence)
    assert len(tracked) == 3
    assert all({"SCOORD", "NUM"} <= kinds for kinds in tracked.values())


def test_dcmtk_prints_the_report(written: Callable[..., Path]) -> None:
    done = subprocess.run(  # noqa: S603 -- a fixed program on a file of the test's own
        [judge("dsrdump"), str(written())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.count("Site ") >= 6
    assert "SUGGESTION: CONFIRM BEFORE USE" in done.stdout
    assert "E:" not in done.stderr


def test_a_report_without_sites_and_numbers_still_passes(written: Callable[..., Path]) -> None:
    bare = {"sites": (), "numbers": (), "product": None, "dose_rows": (), "cautions": ()}
    assert dicom_errors(written(**bare)) == []


def test_a_site_on_a_frame_that_is_not_there_is_refused(written: Callable[..., Path]) -> None:
    site = ReportSite(number=1, frame=5, point=ImagePoint(column=1, row=1))
    with pytest.raises(ValueError, match="no frame 5"):
        written(2, sites=(site,))


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100", "ISO_IR 101", None])
def test_names_and_words_come_back_whatever_the_source_was_written_in(
    charset: str | None, put: Put, noise: Noise, tmp_path: Path
) -> None:
    name = {"ISO_IR 192": "Łukasz^Żółć^=山田", "ISO_IR 100": "Müller^José", "ISO_IR 101": "Łukasz"}
    source = put(noise(), scale())
    ds = dcmread(source)
    if charset is None:
        del ds.SpecificCharacterSet
    else:
        ds.SpecificCharacterSet = charset
    ds.PatientName = name.get(charset or "", "Doe^Jane")
    ds.save_as(source)
    path = tmp_path / "sr.dcm"
    words = report(cautions=("Depth ≤ 20 mm × 2 — käme",))
    path.write_bytes(write_sr(source, words, instance=names("sr", 3)))
    back = dcmread(path)
    assert str(back.PatientName) == name.get(charset or "", "Doe^Jane")
    assert named(back, codes.CAUTION)[0].TextValue == "Depth ≤ 20 mm × 2 — käme"
    assert dicom_errors(path) == []


def test_words_that_fit_leave_the_name_s_bytes_as_they_are_in_the_source(
    put: Put, noise: Noise, tmp_path: Path
) -> None:
    source = put(noise(), scale())
    ds = dcmread(source)
    ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 100", "Müller^José"
    ds.save_as(source)
    path = tmp_path / "sr.dcm"
    path.write_bytes(write_sr(source, report(cautions=("2 × 3",)), instance=names("sr", 3)))
    assert dcmread(path).SpecificCharacterSet == "ISO_IR 100"
    assert "Müller^José".encode("latin-1") in path.read_bytes()
    assert study_errors(tmp_path) == []
    assert dicom_errors(path) == []


def test_a_clinician_without_an_organization_can_verify(written: Callable[..., Path]) -> None:
    alone = Verifier(name="House^Gregory", organization="", at=WHO.at)
    path = written(1, alone)
    assert dicom_errors(path) == []
    assert not named(dcmread(path), codes.PERSON_ORGANIZATION)
