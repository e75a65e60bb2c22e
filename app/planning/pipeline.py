"""One study in, one plan out: a pure function, the house's spine.

No I/O, no clock, no database: whoever asks where a number comes from walks up `analyse`, step
by step (calibrate, grade, segment, measure, plan). The job runner (`app/jobs/worker.py`) is its
impure shell.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence

from app.analysis import Analysis, Stage, State
from app.clinic.inputs import PriorTreatment
from app.clinic.observation import Observation, ObservedSection
from app.clinic.plan import MovedSite, plan_muscle
from app.clinic.tables import ClinicalTables
from app.errors import MixedPatients
from app.planning.frames import UsedFrame, avoid_masks, chosen_frames, look_at, measured, names
from app.planning.plan_document import plan_document
from app.planning.request import AnalysisRequest, StudyRequest
from app.planning.request_inputs import clinical_inputs
from app.planning.scale import decide_scale
from imaging.frame import Clip
from imaging.geometry import ImagePoint
from imaging.mask import labels_png
from imaging.plane import positions_mm
from models.segment import Segmenter

Progress = Callable[[Stage], None]

_SIDES = {"L": "left", "R": "right"}
"""Laterality (0020,0060): B and U say nothing about one side."""


def analyse(
    clips: Sequence[Clip],
    request: StudyRequest,
    *,
    segmenter: Segmenter,
    tables: ClinicalTables,
    today: dt.date,
    recorded: Sequence[PriorTreatment] = (),
    progress: Progress = lambda stage: None,
) -> Analysis:
    """The analysis of the clips' frames: state, plan and masks; a suggestion, not a treatment.

    `recorded` are the patient's treatments that the service's own record has. A request that does
    not name muscle and side gives masks and sizes, and no plan.
    Raises MixedPatients, FrameNotFound, CalibrationRefused and the clinic's errors for a request
    that cannot be carried out.
    """
    check_one_patient(clips)
    progress(Stage.CALIBRATE)
    scales = [decide_scale(clip, request.calibration) for clip in clips]
    progress(Stage.SEGMENT)
    used = [
        look_at(clip, scale, frame, key, request, segmenter)
        for clip, scale, frame, key in chosen_frames(clips, scales, request)
    ]
    progress(Stage.MEASURE)
    used = [measured(frame) for frame in used]
    progress(Stage.PLAN)
    observation = observe(used, request)
    state = state_of(used, request)
    plan = None
    if isinstance(request, AnalysisRequest) and state is not State.ABSTAINED:
        plan = plan_muscle(
            clinical_inputs(request, recorded),
            observation,
            tables,
            today=today,
            moved_sites=moved_sites(request, used),
        )
    document = plan_document(request, used, observation.view, plan, tables)
    progress(Stage.RENDER)
    return Analysis(
        state=state,
        plan=document,
        masks={frame.key: label_map(frame) for frame in used},
    )


def label_map(frame: UsedFrame) -> bytes:
    """What was found on the frame as a PNG label map."""
    found = frame.segmentation
    aponeurosis = None if found is None else found.aponeurosis
    return labels_png(frame.muscle, *avoid_masks(frame), aponeurosis)


def check_one_patient(clips: Iterable[Clip]) -> None:
    """Raises MixedPatients when the files name more than one patient."""
    known = {
        (clip.identity.patient_id, clip.identity.issuer)
        for clip in clips
        if clip.identity is not None and clip.identity.patient_id
    }
    if len(known) > 1:
        raise MixedPatients(
            "The uploaded files belong to more than one patient.",
            remedy="Send one request for each patient; check the patient on the scanner.",
        )


def moved_sites(request: StudyRequest, used: Sequence[UsedFrame]) -> list[MovedSite]:
    """The sites that the operator put elsewhere, each on the first analysed frame it names."""
    return [
        MovedSite(
            number=site.number,
            frame_key=frame.key,
            point=ImagePoint(column=site.column, row=site.row),
        )
        for site in request.sites or ()
        for frame in [f for f in used if names(site.file, site.frame, f.clip, f.frame)][:1]
    ]


def observe(used: Sequence[UsedFrame], request: StudyRequest) -> Observation:
    """What the clinic needs of the frames: sections in millimetres, in the order of the sweep.

    The scale holds for all frames or for none: one frame without makes the study uncalibrated.
    """
    calibrated = all(frame.scale.used is not None for frame in used)
    places_mm = sweep_positions_mm(used, request)
    sections = []
    for index, frame in enumerate(used):
        if frame.section is None:
            continue
        nerve, vessel = avoid_masks(frame)
        looked_for = frame.segmentation is not None
        section = frame.section
        sections.append(
            ObservedSection(
                frame_key=frame.key,
                position_mm=None if places_mm is None else places_mm[index],
                area_mm2=section.area_mm2 if calibrated else None,
                thickness_mm=section.thickness_mm if calibrated else None,
                width_mm=section.width_mm if calibrated else None,
                depth_mm=section.depth_mm if calibrated else None,
                area_interval_mm2=_area_interval_mm2(frame) if calibrated else None,
                mask=frame.muscle,
                avoid=nerve | vessel if looked_for else None,
                possible_bone=frame.possible_bone,
                calibration=frame.scale.used if calibrated else None,
                skin_row=frame.skin_row,
                skin_rows=frame.skin_rows,
            )
        )
    identities = [f.clip.identity for f in used if f.clip.identity is not None]
    sides = {_SIDES[i.laterality] for i in identities if i.laterality in _SIDES}
    return Observation(
        view=_view_of(used, request),
        sections=tuple(sections),
        laterality=" and ".join(sorted(sides)) or None,
        patient_id=next((i.patient_id for i in identities if i.patient_id), None),
    )


def sweep_positions_mm(used: Sequence[UsedFrame], request: StudyRequest) -> list[float] | None:
    """Where each frame lies along the sweep, in mm: by the operator's spacing where one is given,
    else by the frames' own places in space; None where neither is known."""
    if request.sweep is not None:
        return [index * request.sweep.spacing_mm for index in range(len(used))]
    return positions_mm([frame.frame.plane for frame in used])


def _area_interval_mm2(frame: UsedFrame) -> tuple[float, float] | None:
    scale, segmentation = frame.scale.used, frame.segmentation
    if scale is None or segmentation is None:
        return None
    low, high = segmentation.area_interval_px
    return scale.area_mm2(low), scale.area_mm2(high)


def _view_of(used: Sequence[UsedFrame], request: StudyRequest) -> str | None:
    """The view that the operator named, else the one that most frames were taken for."""
    if request.view is not None:
        return request.view
    if request.sweep is not None:
        return "short_axis"
    seen = [f.segmentation.view.value for f in used if f.segmentation is not None]
    known = [view for view in seen if view in ("long_axis", "short_axis")]
    return max(sorted(set(known)), key=known.count) if known else None


def state_of(used: Sequence[UsedFrame], request: StudyRequest) -> State:
    """Abstained if no frame shows the muscle, needs_calibration without a scale, else a draft;
    whatever was found, nothing is planned for a muscle or a side that nobody named."""
    if not isinstance(request, AnalysisRequest):
        return State.NEEDS_TARGET
    if not any(frame.muscle.any() for frame in used):
        return State.ABSTAINED
    if any(frame.scale.used is None for frame in used):
        return State.NEEDS_CALIBRATION
    return State.DRAFT
