"""Every object of a plan, for every kind of source, before the validators and back again."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pypdfium2
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from app.errors import NoObject
from app.results import pictures, reporting
from app.results.stored_analysis import StoredAnalysis
from imaging.dicom.sr import predecessor
from imaging.limits import DecodeLimits
from imaging.read import read_clip
from tests.app.plans import NOW, PATIENT, stored_plan
from tests.judges import dicom_errors, judge, study_errors

KINDS = ("image", "seg", "sr", "capture", "state", "key_objects")
NAMED: dict[str, Any] = {
    "patient": PATIENT,
    "study": {
        "instance_uid": "1.2.3.4",
        "id": "S-1",
        "date": "2026-11-25",
        "time": "10:11",
        "accession": "A-1",
    },
}
ROOT = "1.2.826.0.1.3680043.10.99999"


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def study_of(stored: StoredAnalysis, folder: Path) -> list[Path]:
    """The plan's objects as files in a folder, the sources among them."""
    made = {f"{kind}.dcm": getattr(reporting, kind)(stored) for kind in ("sr", "key_objects")}
    for kind, name in (("seg", "seg.dcm"), ("state", "pr.dcm"), ("capture", "sc.dcm")):
        for key in reporting.object_frames(stored)[name]:
            made[f"{kind}_{key}.dcm"] = getattr(reporting, kind)(stored, key)
    for source in stored.sources:
        if source.sop_instance_uid is not None:
            made[f"image_{source.name}"] = Path(source.path).read_bytes()
    if stored.sources[0].sop_instance_uid is None:
        for key in reporting.object_frames(stored)["image.dcm"]:
            made[f"image_{key}.dcm"] = reporting.image(stored, key)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


@pytest.mark.parametrize(
    "source",
    [
        {"frames": 1},
        {"frames": 2},
        {"frames": 30},
        {"frames": 300, "rows": 120, "columns": 160},
        {"frames": 1, "rows": 735, "columns": 975},
        {"frames": 2, "rows": 735, "columns": 975},
        {"frames": 1, "plain": True, "request": NAMED},
        {"frames": 30, "plain": True, "request": NAMED},
        {"frames": 9, "stills": True},
        {"frames": 3, "stills": True, "rows": 147, "columns": 195},
        {"frames": 3, "stills": True, "plain": True, "request": NAMED},
    ],
    ids=lambda s: "_".join(str(v) for k, v in s.items() if k != "request"),
)
def test_the_validators_find_no_error(source: dict[str, Any], tmp_path: Path) -> None:
    """dciodvfy passes every object, dcentvfy the study, for stills, clips, sweeps and pictures."""
    (tmp_path / "study").mkdir()
    files = study_of(stored_plan(tmp_path, **source), tmp_path / "study")
    assert [line for path in files for line in dicom_errors(path)] == []
    assert study_errors(tmp_path / "study") == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> StoredAnalysis:
    return stored_plan(tmp_path_factory.mktemp("clip"), frames=6)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> StoredAnalysis:
    return stored_plan(tmp_path_factory.mktemp("plain"), frames=6, plain=True, request=NAMED)


def test_highdicom_reads_the_same_masks(clip: StoredAnalysis) -> None:
    """Each frame's mask comes back equal by its source frame, and no other segment is there."""
    seg = hd.seg.segread(io.BytesIO(reporting.seg(clip)))
    frames = [f for f in clip.plan["frames"] if f["section"] is not None]
    uid = clip.plan["frames"][0]["sop_instance_uid"]
    pixels = seg.get_pixels_by_source_frame(
        source_sop_instance_uid=uid, source_frame_numbers=[f["frame"] + 1 for f in frames]
    )
    assert seg.number_of_segments == 1
    for index, frame in enumerate(frames):
        assert np.array_equal(pixels[index, :, :, 0] > 0, clip.labels(frame["key"]).muscle)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> StoredAnalysis:
    """Nine stills of one series, each an instance of its own."""
    return stored_plan(tmp_path_factory.mktemp("sweep"), frames=9, stills=True)


def test_a_sweep_of_stills_is_one_segmentation(sweep: StoredAnalysis) -> None:
    """highdicom finds each instance's own mask, and the SEG refers to all of them, by no frame."""
    data = reporting.seg(sweep)
    uids = [f["sop_instance_uid"] for f in sweep.plan["frames"]]
    (series,) = read(data).ReferencedSeriesSequence
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert named == uids
    assert len(set(uids)) == 9
    derivations = [
        source
        for group in read(data).PerFrameFunctionalGroupsSequence
        for source in group.DerivationImageSequence[0].SourceImageSequence
    ]
    assert [source.ReferencedSOPInstanceUID for source in derivations] == uids
    assert not any("ReferencedFrameNumber" in source for source in derivations)
    pixels = hd.seg.segread(io.BytesIO(data)).get_pixels_by_source_instance(uids)
    for index, frame in enumerate(sweep.plan["frames"]):
        assert np.array_equal(pixels[index, :, :, 0] > 0, sweep.labels(frame["key"]).muscle)


def test_a_sweep_s_sites_are_on_their_own_instances(sweep: StoredAnalysis) -> None:
    """Report, state and key objects point each site and each contour to the instance it is on."""
    frames = {f["key"]: f["sop_instance_uid"] for f in sweep.plan["frames"]}
    sites = [frames[site["frame_key"]] for site in sweep.plan["sites"]]
    assert len(set(sites)) > 1
    points = hd.sr.utils.find_content_items(
        hd.sr.srread(io.BytesIO(reporting.sr(sweep))),
        value_type=hd.sr.ValueTypeValues.SCOORD,
        recursive=True,
    )
    assert [
        point.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for point in points
    ] == sites
    state = read(reporting.state(sweep))
    (series,) = state.ReferencedSeriesSequence
    assert len(series.ReferencedImageSequence) == 9
    contours = [a for a in state.GraphicAnnotationSequence if a.GraphicLayer == "MUSCLE"]
    assert [a.ReferencedImageSequence[0].ReferencedSOPInstanceUID for a in contours] == list(
        frames.values()
    )
    selected = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in read(reporting.key_objects(sweep)).ContentSequence
        if "ReferencedSOPSequence" in item
    ]
    assert set(selected) & set(frames.values()) == set(sites)


def test_every_still_of_a_sweep_has_its_picture(sweep: StoredAnalysis) -> None:
    """Nine captures of one series, numbered along the sweep, each of its own instance."""
    keys = reporting.object_frames(sweep)["sc.dcm"]
    made = [read(reporting.capture(sweep, key)) for key in sorted(keys, key=int)]
    assert len({picture.SeriesInstanceUID for picture in made}) == 1
    assert [picture.InstanceNumber for picture in made] == list(range(1, 10))
    assert [p.SourceImageSequence[0].ReferencedSOPInstanceUID for p in made] == [
        f["sop_instance_uid"] for f in sweep.plan["frames"]
    ]
    with pytest.raises(NoObject, match="no such object"):
        reporting.capture(sweep, "77")


def test_unlike_images_have_a_segmentation_each(sweep: StoredAnalysis, tmp_path: Path) -> None:
    """A SEG has one size: of images of another size there is another one, valid as well."""
    other = stored_plan(
        tmp_path, frames=1, rows=150, columns=200, uids="1.2.3.2", request={"side": "left"}
    )
    (frame,), key = other.plan["frames"], "9"
    both = replace(
        sweep,
        plan={**sweep.plan, "frames": [*sweep.plan["frames"], {**frame, "key": key}]},
        masks={**sweep.masks, key: other.masks["0"]},
        sources=(*sweep.sources, *other.sources),
    )
    assert reporting.object_frames(both)["seg.dcm"] == [both.frame(None)["key"], key]
    (tmp_path / "study").mkdir()
    files = study_of(both, tmp_path / "study")
    assert [line for path in files for line in dicom_errors(path)] == []
    assert study_errors(tmp_path / "study") == []
    small = read(reporting.seg(both, key))
    assert (small.Rows, small.Columns, small.NumberOfFrames) == (150, 200, 1)
    assert read(reporting.seg(both)).NumberOfFrames == 9
    named = {
        str(sop.ReferencedSOPInstanceUID)
        for series in read(reporting.sr(both)).CurrentRequestedProcedureEvidenceSequence[0][
            "ReferencedSeriesSequence"
        ]
        for sop in series.ReferencedSOPSequence
    }
    assert {str(small.SOPInstanceUID), frame["sop_instance_uid"]} <= named


def test_highdicom_reads_the_same_sites(clip: StoredAnalysis) -> None:
    """The report's points and Units are the plan's, by highdicom's own reader."""
    report = hd.sr.srread(io.BytesIO(reporting.sr(clip)))
    points = hd.sr.utils.find_content_items(
        report, value_type=hd.sr.ValueTypeValues.SCOORD, recursive=True
    )
    assert [tuple(point.value[0]) for point in points] == [
        pytest.approx((site["column"], site["row"]), abs=1e-3) for site in clip.plan["sites"]
    ]
    units = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in hd.sr.utils.find_content_items(
            report, value_type=hd.sr.ValueTypeValues.NUM, recursive=True
        )
        if item.name.value == "TOXIN_UNITS"
    ]
    assert units[: len(clip.plan["sites"])] == [site["units"] for site in clip.plan["sites"]]


def test_dsrdump_prints_the_report(clip: StoredAnalysis, tmp_path: Path) -> None:
    """dcmtk reads the report without a complaint, and prints product, volume and the mark."""
    path = tmp_path / "sr.dcm"
    path.write_bytes(reporting.sr(clip))
    done = subprocess.run(  # noqa: S603 -- a fixed program on a file of the test's own
        [judge("dsrdump"), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Its checker of value representations knows no UTF-8, and says so.
    said = [line for line in done.stderr.splitlines() if "ISO_IR 192" not in line]
    assert said == []
    assert "XEOMIN" in done.stdout
    assert f"{clip.plan['volume']['volume_ml']:.8g}" in done.stdout
    assert "SUGGESTION" in done.stdout


def test_dcmp2pgm_draws_the_grayscale_state(clip: StoredAnalysis, tmp_path: Path) -> None:
    """dcmtk takes image and state together, and the picture it makes is the image's own."""
    (tmp_path / "state.dcm").write_bytes(reporting.state(clip))
    done = subprocess.run(  # noqa: S603 -- as above
        [
            judge("dcmp2pgm"),
            "-p",
            str(tmp_path / "state.dcm"),
            clip.sources[0].path,
            str(tmp_path / "out.pgm"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = np.asarray(Image.open(tmp_path / "out.pgm"))
    first = read_clip(Path(clip.sources[0].path), name="a", frames=[0], limits=DecodeLimits())
    assert shown.shape == first.frames[0].pixels.shape
    assert np.corrcoef(shown.ravel(), first.frames[0].pixels.ravel())[0, 1] > 0.99


def test_plain_pictures_become_objects_of_the_named_patient(plain: StoredAnalysis) -> None:
    """A clip without a header is wrapped as it was seen, and all objects refer to the wrapping."""
    image = read(reporting.image(plain))
    assert image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7.2"
    assert (image.PatientID, str(image.PatientName)) == ("P-1", "Smith^Ada")
    assert (image.PatientBirthDate, image.StudyInstanceUID) == ("19700203", "1.2.3.4")
    assert (image.StudyDate, image.StudyTime, image.Modality) == ("20261125", "1011", "US")
    frames = read_clip(Path(plain.sources[0].path), name="a.mp4", limits=DecodeLimits()).frames
    assert np.array_equal(image.pixel_array, np.stack([f.pixels for f in frames]))
    assert float(image.FrameTime) == pytest.approx(50.0, abs=0.5)
    for kind in ("seg", "sr", "capture", "state", "key_objects"):
        made = getattr(reporting, kind)(plain)
        assert read(made).StudyInstanceUID == "1.2.3.4"
        assert str(image.SOPInstanceUID).encode() in made, kind


def test_the_wrapped_picture_is_one_for_all_revisions(plain: StoredAnalysis) -> None:
    """A later revision keeps the wrapped picture byte for byte; another scale is another one."""
    later = replace(plain, revision=2, created_at=NOW + dt.timedelta(hours=1), verifier="Dr Ada")
    assert reporting.image(later) == reporting.image(plain)
    frames = [
        {
            **frame,
            "calibration": {
                **frame["calibration"],
                "used": {**frame["calibration"]["used"], "row_mm_per_px": 0.5},
            },
        }
        for frame in plain.plan["frames"]
    ]
    other = replace(plain, plan={**plain.plan, "frames": frames})
    assert (
        read(reporting.image(other)).SOPInstanceUID != read(reporting.image(plain)).SOPInstanceUID
    )


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, ("patient.id", "study.instance_uid")),
        ({"patient": PATIENT}, ("study.instance_uid",)),
        ({"study": NAMED["study"], "patient": {"age_years": 40}}, ("patient.id",)),
    ],
)
def test_pictures_of_nobody_have_no_objects(
    plain: StoredAnalysis, request_: dict[str, Any], words: tuple[str, ...]
) -> None:
    """Without patient or study every DICOM object is refused, with what to give."""
    nobody = replace(plain, request=request_)
    for kind in KINDS:
        with pytest.raises(NoObject) as caught:
            getattr(reporting, kind)(nobody)
        for word in words:
            assert word in caught.value.remedy


def test_dicom_images_are_not_wrapped(clip: StoredAnalysis) -> None:
    """What came as DICOM is served as it came."""
    with pytest.raises(NoObject, match="as they came"):
        reporting.image(clip)


def test_the_key_objects_are_those_of_the_plan(clip: StoredAnalysis) -> None:
    """The selection names the frames with sites, then the picture and the report by their UIDs."""
    selection = read(reporting.key_objects(clip))
    named = [
        item.ReferencedSOPSequence[0]
        for item in selection.ContentSequence
        if "ReferencedSOPSequence" in item
    ]
    keys = {site["frame_key"] for site in clip.plan["sites"]}
    frames = [f["frame"] + 1 for f in clip.plan["frames"] if f["key"] in keys]
    assert [n.ReferencedFrameNumber for n in named if "ReferencedFrameNumber" in n] == frames
    others = [n.ReferencedSOPInstanceUID for n in named if "ReferencedFrameNumber" not in n]
    pictures = [reporting.capture(clip, key) for key in reporting.object_frames(clip)["sc.dcm"]]
    assert others == [
        *(read(picture).SOPInstanceUID for picture in pictures),
        read(reporting.sr(clip)).SOPInstanceUID,
    ]


def test_the_report_is_the_root_of_its_results(clip: StoredAnalysis) -> None:
    """The report's evidence names image, segmentation, state and picture of the same revision."""
    (study,) = read(reporting.sr(clip)).CurrentRequestedProcedureEvidenceSequence
    named = {
        str(sop.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }
    pictures = [reporting.capture(clip, key) for key in reporting.object_frames(clip)["sc.dcm"]]
    made = (reporting.seg(clip), *pictures, reporting.state(clip))
    image = clip.plan["frames"][0]["sop_instance_uid"]
    assert named == {image, *(str(read(each).SOPInstanceUID) for each in made)}


def test_a_confirmed_report_names_those_before_it(clip: StoredAnalysis, tmp_path: Path) -> None:
    """The final report has its drafts as predecessors, in the same study and a new series."""
    draft = reporting.sr(clip)
    confirmed = replace(
        clip, verifier="Dr Ada", verified_at=NOW, predecessors=(predecessor(draft),)
    )
    made = reporting.sr(confirmed)
    assert made == reporting.sr(confirmed)
    (tmp_path / "sr.dcm").write_bytes(made)
    assert dicom_errors(tmp_path / "sr.dcm") == []
    final, before = read(made), read(draft)
    (study,) = final.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == final.StudyInstanceUID == before.StudyInstanceUID
    assert series.SeriesInstanceUID == before.SeriesInstanceUID != final.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID


@pytest.mark.parametrize("kind", KINDS)
def test_every_uid_of_ours_lies_under_the_site_s_root(kind: str, plain: StoredAnalysis) -> None:
    """With a root no UID is made up elsewhere, tracking and dimension UIDs among them."""
    made = read(getattr(reporting, kind)(replace(plain, uid_root=ROOT)))
    uids = {
        str(element.value)
        for element in made.iterall()
        if element.VR == "UI" and not str(element.value).startswith(("1.2.840.10008.", "1.2.3.4"))
    }
    # The Device Observer UID names this software, not a thing of the site's.
    uids -= {"2.25.200816432709174016283457150913422081377"}
    assert {uid for uid in uids if not uid.startswith(ROOT + ".")} == set()


def test_a_clip_s_overlay_moves(clip: StoredAnalysis) -> None:
    """The animation has a picture for each analysed frame, all of one size, at the clip's pace."""
    moving = Image.open(io.BytesIO(pictures.overlay_webp(clip)))
    assert moving.n_frames == len(clip.plan["frames"])
    moving.seek(1)
    moving.load()
    assert moving.info["duration"] == 40


def test_a_still_does_not_move(tmp_path: Path) -> None:
    """A still has no animation, and the refusal says so."""
    with pytest.raises(NoObject, match="does not move"):
        pictures.overlay_webp(stored_plan(tmp_path, frames=1))


def test_any_frame_has_its_picture(clip: StoredAnalysis) -> None:
    """A frame that was not analysed is shown without a contour and says that it was not."""
    frames = [f for f in clip.plan["frames"] if f["key"] != "4"]
    some = replace(clip, plan={**clip.plan, "frames": frames})
    drawing = pictures.overlay_svg(some, "4").decode()
    assert "not analysed" in drawing
    assert "SUGGESTION" in drawing
    assert "Smith Ada" in drawing
    assert "P-1" in drawing
    with pytest.raises(NoObject, match="was not analysed"):
        pictures.overlay_svg(some, "6")


def test_two_identifiers_stand_on_every_picture_and_page(plain: StoredAnalysis) -> None:
    """Of a plain picture they are the request's: on overlay, page and bundle."""
    assert "Smith Ada" in pictures.overlay_svg(plain).decode()
    assert "P-1" in pictures.overlay_svg(plain).decode()
    with pypdfium2.PdfDocument(reporting.pdf(plain)) as document:
        words = document[0].get_textpage().get_text_range()
    assert "Smith Ada" in words
    assert "P-1" in words
    bundle = reporting.fhir(plain).decode()
    assert "P-1" in bundle
    assert "urn:oid:1.2.3.4" in bundle


def test_a_page_of_nobody_asks_for_the_name(plain: StoredAnalysis) -> None:
    """Where neither image nor request names the patient, the print has room for a hand."""
    with pypdfium2.PdfDocument(reporting.pdf(replace(plain, request={}))) as document:
        words = document[0].get_textpage().get_text_range()
    assert "Patient ____" in words
    assert "Id or birth date ____" in words


def test_nothing_is_printed_outside_the_margins(clip: StoredAnalysis) -> None:
    """Rendered, the page is white within ten millimetres of each edge."""
    with pypdfium2.PdfDocument(reporting.pdf(clip)) as document:
        pixels = np.asarray(document[0].render(scale=100 / 72).to_pil().convert("L"))
    edge = round(10 / 25.4 * 100)
    inner = pixels[edge:-edge, edge:-edge]
    assert pixels.min() < 100
    assert (pixels == 255).sum() - (inner == 255).sum() == pixels.size - inner.size


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
def test_an_image_of_no_study_has_no_objects(keyword: str, tmp_path: Path) -> None:
    """What no object could point to is said in words, with the attribute that the image lacks."""
    stored = stored_plan(tmp_path, frames=1)
    path = Path(stored.sources[0].path)
    ds = pydicom.dcmread(path)
    del ds[keyword]
    ds.save_as(path, enforce_file_format=False)
    for make in (reporting.seg, reporting.sr, reporting.capture, reporting.state):
        with pytest.raises(NoObject, match=r"Instance UID|SOP Class UID"):
            make(stored)
