"""A pushed study becomes analyses once it is quiet: by rule, once, and never of our own objects."""

from __future__ import annotations

import datetime as dt
import threading
import time
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import select

from app import review
from app.analysis import State
from app.intake.archive import keep_instance
from app.intake.examine import Examined, Upload, examine_objects
from app.planning.request import AnalysisRequest
from app.services import Services
from app.store import records, worklist
from app.store.records import AnalysisRecord
from app.store.rows import AnalysisRow, ArrivalRow, JobRow
from imaging.dicom.instance import MANUFACTURER
from tests.app import studies, workloads
from tests.app.conftest import Opener, until

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RULES = """
rules:
  - name: biceps
    when: {description: biceps}
    then: {muscle: biceps_brachii, view: short_axis, product: XEOMIN,
           indication: upper_limb_spasticity}
  - name: calf
    when: {body_part: CALF, calling_ae: SCANNER}
    then: {muscle: gastrocnemius_medial, side: left}
"""


def push(parts: Services, study: str, seed: int = 1, *, ae: str = "SCANNER", **changes: Any) -> str:
    """The SHA-256 of an image of a study as C-STORE keeps it."""
    data = studies.dicom_still(seed, rows=64, columns=64, StudyInstanceUID=study, **changes)
    return push_bytes(parts, data, ae=ae)


def push_bytes(parts: Services, data: bytes, *, ae: str = "SCANNER") -> str:
    with parts.blobs.incoming() as incoming:
        incoming.write(data)
        incoming.finish()
        (found,) = examine_objects(
            [Upload(name="x.dcm", incoming=incoming)], door=parts.door, limits=parts.limits
        )
        assert isinstance(found, Examined), found
        kept = keep_instance(
            found,
            principal=f"dimse:{ae}",
            store=parts.store,
            blobs=parts.blobs,
            door=parts.door,
            settings=parts.settings,
        )
    return kept.sha256


def rules(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "rules.yaml"
    file.write_text(RULES, "utf-8")
    return {"routing_rules": file, "study_quiet_s": 0.2}


def analyses(parts: Services) -> list[AnalysisRecord]:
    with parts.store.read() as session:
        ids = session.scalars(select(AnalysisRow.id).order_by(AnalysisRow.id))
        return [records.load(session, analysis_id) for analysis_id in ids]


def settled(parts: Services, *, within_s: float = 30) -> list[AnalysisRecord]:
    """All analyses, once no study waits and no job is left."""
    end = time.monotonic() + within_s
    while True:
        with parts.store.read() as session:
            waits = session.scalar(
                select(ArrivalRow).where(ArrivalRow.due_at.is_not(None)).limit(1)
            )
            busy = session.scalar(
                select(JobRow).where(JobRow.state.in_(["queued", "running"])).limit(1)
            )
        if waits is None and busy is None:
            return analyses(parts)
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_rule_starts_the_analysis(opened: Opener, tmp_path: Path) -> None:
    """The images of a rule and side are analysed together, by the name of the rule."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    uids, series = [generate_uid(), generate_uid()], generate_uid()
    for number, uid in enumerate(reversed(uids)):
        push(
            parts,
            study,
            number,
            SOPInstanceUID=uid,
            SeriesInstanceUID=series,
            InstanceNumber=2 - number,
            SeriesDescription="Biceps quer",
            Laterality="R",
        )
    push(parts, study, 5, SeriesDescription="Something else", Laterality="R")
    (found,) = settled(parts)
    assert found.state == State.DRAFT
    assert found.created_by == "routing:biceps"
    assert found.request == {
        "muscle": "biceps_brachii",
        "side": "right",
        "view": "short_axis",
        "product": "XEOMIN",
        "indication": "upper_limb_spasticity",
        "jurisdiction": "US",
    }
    assert [file.name for file in found.files] == [f"{uid}.dcm" for uid in uids]
    assert found.routing is not None
    assert (found.routing.study_instance_uid, found.routing.rule) == (study, "biceps")


def test_each_side_is_an_analysis_of_its_own(opened: Opener, tmp_path: Path) -> None:
    """Left and right images of one rule become two analyses, an unmarked image a question."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    for number, side in enumerate(("L", "R", "")):
        push(parts, study, number, StudyDescription="biceps", Laterality=side)
    found = {record.request.get("side"): record for record in settled(parts)}
    assert {side: record.state for side, record in found.items()} == {
        "left": State.DRAFT,
        "right": State.DRAFT,
        None: State.NEEDS_TARGET,
    }
    assert found[None].request["muscle"] == "biceps_brachii"


def test_without_a_rule_it_waits(opened: Opener, tmp_path: Path) -> None:
    """A study that no rule knows stands in the work list as needs_target, and has no job."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    push(parts, study, Laterality="L", BodyPartExamined="CALF", ae="OTHER")
    (found,) = settled(parts)
    assert found.state == State.NEEDS_TARGET
    assert found.created_by == "routing"
    assert found.request == {"jurisdiction": "US"}
    assert found.image_side == "left"
    with parts.store.read() as session:
        (listed,) = worklist.work_list(session, limit=5, state=State.NEEDS_TARGET)
        assert (listed.muscle, listed.side, listed.patient_id) == (None, None, "P-1")
        assert session.scalar(select(JobRow)) is None


def test_our_own_objects_are_never_analysed(opened: Opener, tmp_path: Path) -> None:
    """A picture of ours that a PACS sends back is stored, and starts nothing."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    push(
        parts,
        study,
        SOPClassUID=SECONDARY_CAPTURE,
        Manufacturer=MANUFACTURER,
        SeriesDescription="biceps",
        Laterality="L",
    )
    assert settled(parts) == []


def test_the_same_again_starts_nothing(opened: Opener, tmp_path: Path) -> None:
    """A study that is sent a second time is not analysed a second time."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    data = studies.dicom_still(StudyInstanceUID=study, StudyDescription="biceps", Laterality="L")
    push_bytes(parts, data)
    (first,) = settled(parts)
    push_bytes(parts, data)
    (second,) = settled(parts)
    assert (second.id, second.version) == (first.id, first.version)


def test_late_images_make_a_new_revision(opened: Opener, tmp_path: Path) -> None:
    """Images after the analysis join it as a new revision; the first one keeps what it was of."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    push(parts, study, 1, StudyDescription="biceps", Laterality="L")
    (first,) = settled(parts)
    push(parts, study, 2, StudyDescription="biceps", Laterality="L")
    (second,) = settled(parts)
    assert (second.revision, len(second.files), second.late_images) == (2, 2, 0)
    assert second.request == first.request
    with parts.store.read() as session:
        old = records.load(session, first.id, 1)
    assert [file.name for file in old.files] == [file.name for file in first.files]


def test_late_images_leave_a_persons_plan_alone(opened: Opener, tmp_path: Path) -> None:
    """Once a person changed the analysis, late images change nothing, and it tells of them."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    push(parts, study, 1, StudyDescription="biceps", Laterality="L")
    (first,) = settled(parts)
    request = AnalysisRequest.model_validate({**first.request, "muscle_length_mm": 240})
    review.amend(parts.store, first.id, request, if_match=first.etag, principal="Dr. Example")
    parts.runner.wake()
    until(parts, first.id, State.DRAFT)
    push(parts, study, 2, StudyDescription="biceps", Laterality="L")
    (found,) = settled(parts)
    assert (found.revision, len(found.files), found.late_images) == (2, 1, 1)


def test_a_study_that_waits_takes_late_images(opened: Opener, tmp_path: Path) -> None:
    """Late images of a study without a rule join the analysis that waits for its target."""
    parts, study = opened(**rules(tmp_path)), generate_uid()
    push(parts, study, 1)
    settled(parts)
    push(parts, study, 2)
    (found,) = settled(parts)
    assert (found.state, found.revision, len(found.files)) == (State.NEEDS_TARGET, 2, 2)


def test_a_late_image_waits_for_the_running_job(opened: Opener, tmp_path: Path) -> None:
    """While the analysis is being made, late images wait for its end."""
    parts, study = opened(workloads.slow, drain_s=0.1, **rules(tmp_path)), generate_uid()
    push(parts, study, 1, StudyDescription="biceps", Laterality="L")
    end = time.monotonic() + 30
    while not analyses(parts):
        assert time.monotonic() < end
        time.sleep(0.05)
    push(parts, study, 2, StudyDescription="biceps", Laterality="L")
    time.sleep(0.3)
    at = dt.datetime.now(dt.UTC)
    parts.quiet.settle_one(at)
    (found,) = analyses(parts)
    assert (found.revision, len(found.files)) == (1, 1)
    with parts.store.read() as session:
        waits = session.get_one(ArrivalRow, study)
    assert waits.due_at is not None
    assert waits.due_at > at


def test_the_deadline_outlives_the_service(opened: Opener, tmp_path: Path) -> None:
    """A study received by a service that then died is taken up by the next one."""
    parts, study = opened(start=False, **rules(tmp_path)), generate_uid()
    parts.store.migrate()
    push(parts, study, StudyDescription="biceps", Laterality="L")
    parts.door.close()
    parts.store.close()
    (found,) = settled(opened(**rules(tmp_path)))
    assert found.state == State.DRAFT


def test_two_services_start_it_once(opened: Opener, tmp_path: Path) -> None:
    """Several services that look at the same moment make one analysis of each study."""
    one = opened(start=False, **rules(tmp_path))
    one.store.migrate()
    uids = [generate_uid() for _ in range(6)]
    for uid in uids:
        push(one, uid, StudyDescription="biceps", Laterality="L")
    other = opened(start=False, **rules(tmp_path))
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)

    def drain(parts: Services) -> None:
        while parts.quiet.settle_one(at):
            pass

    threads = [threading.Thread(target=drain, args=(p,)) for p in (one, other, one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = analyses(one)
    assert sorted(r.routing.study_instance_uid for r in found if r.routing) == sorted(uids)
    one.door.close()
    for parts in (one, other):
        parts.store.close()


def test_one_study_that_fails_keeps_no_other(
    opened: Opener, tmp_path: Path, monkeypatch: Any
) -> None:
    """A study that cannot be settled is put off, and the next one is taken up."""
    from app import quiet

    parts = opened(start=False, **rules(tmp_path))
    parts.store.migrate()
    bad, good = generate_uid(), generate_uid()
    push(parts, bad, StudyDescription="biceps", Laterality="L")
    push(parts, good, StudyDescription="biceps", Laterality="L")
    real = quiet.settle

    def settle(session: Any, study: str, *rest: Any, **more: Any) -> Any:
        if study == bad:
            raise RuntimeError("a defect")
        return real(session, study, *rest, **more)

    monkeypatch.setattr(quiet, "settle", settle)
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=10)
    while parts.quiet.settle_one(at):
        pass
    (found,) = analyses(parts)
    assert found.routing is not None
    assert found.routing.study_instance_uid == good
    with parts.store.read() as session:
        assert session.get_one(ArrivalRow, bad).due_at is not None
    parts.door.close()
    parts.store.close()
