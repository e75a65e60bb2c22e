"""Objects of an analysis (pictures, SEG, SR): made when first asked for, then kept as they are.

They are drawn and written in the process at the door, since they decode the source image again.
What was sent once is sent again byte for byte: an object's bytes never change within one state
of a revision.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.analysis import SourceFile, State
from app.errors import NoObject
from app.intake.archive import add_made
from app.jobs.processes import WorkerPlace
from app.results import pictures, reporting
from app.results.stored_analysis import StoredAnalysis
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.records import AnalysisRecord
from app.store.rows import ObjectRow
from imaging.dicom.sr import PredecessorDocument, predecessor
from imaging.dicom.storage import facts_of_object
from imaging.limits import DecodeLimits

OBJECT_S = 60.0
DICOM = "application/dicom"
REPORT, IMAGE = "sr.dcm", "image.dcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKind:
    """An object that can be asked for: its file name, media type and who makes it.

    `of_frame` ones can be asked for by a frame: there is one for each, or for some.
    """

    name: str
    media_type: str
    of_frame: bool
    make: Callable[..., bytes]
    of_dose: bool = False
    """True if it cannot be made where the network abstained and nothing was planned."""


KINDS: Mapping[str, ObjectKind] = {
    kind.name: kind
    for kind in (
        ObjectKind(
            name="overlay.png",
            media_type="image/png",
            of_frame=True,
            make=pictures.overlay_png,
        ),
        ObjectKind(
            name="overlay.svg",
            media_type="image/svg+xml",
            of_frame=True,
            make=pictures.overlay_svg,
        ),
        ObjectKind(name="mask.png", media_type="image/png", of_frame=True, make=pictures.mask_png),
        ObjectKind(name="seg.dcm", media_type=DICOM, of_frame=True, make=reporting.seg),
        ObjectKind(
            name="sr.dcm",
            media_type=DICOM,
            of_frame=False,
            make=reporting.sr,
            of_dose=True,
        ),
        ObjectKind(name="sc.dcm", media_type=DICOM, of_frame=True, make=reporting.capture),
        ObjectKind(name="pr.dcm", media_type=DICOM, of_frame=True, make=reporting.state),
        ObjectKind(
            name="ko.dcm",
            media_type=DICOM,
            of_frame=False,
            make=reporting.key_objects,
        ),
        ObjectKind(name="image.dcm", media_type=DICOM, of_frame=True, make=reporting.image),
        ObjectKind(
            name="overlay.webp",
            media_type="image/webp",
            of_frame=False,
            make=pictures.overlay_webp,
        ),
        ObjectKind(
            name="plan.pdf", media_type="application/pdf", of_frame=False, make=reporting.pdf
        ),
        ObjectKind(
            name="fhir", media_type="application/fhir+json", of_frame=False, make=reporting.fhir
        ),
    )
}


def stored_analysis(
    record: AnalysisRecord,
    blobs: Blobs,
    *,
    uid_root: str | None = None,
    predecessors: tuple[PredecessorDocument, ...] = (),
) -> StoredAnalysis:
    """What an object is made of. Raises NoObject while there is no plan."""
    if record.plan is None:
        raise NoObject(
            f"There is nothing to draw yet: the analysis is "
            f"{record.state.value.replace('_', ' ')}.",
            remedy="Wait until the analysis is finished; /events tells when.",
        )
    verifier, verified_at = None, None
    if record.confirmation is not None:
        verifier = record.confirmation["clinician"].get("name")
        verified_at = dt.datetime.fromisoformat(record.confirmation["at"])
    return StoredAnalysis(
        analysis_id=record.id,
        revision=record.revision,
        created_at=record.revised_at,
        state=record.state,
        plan=record.plan,
        masks={key: blobs.read(digest) for key, digest in record.masks.items()},
        sources=tuple(
            SourceFile(
                path=str(blobs.path(file.sha256)),
                name=file.name,
                sop_instance_uid=(file.facts.get("identity") or {}).get("sop_instance_uid"),
            )
            for file in record.files
        ),
        verifier=verifier,
        verified_at=verified_at,
        uid_root=uid_root,
        request=record.request,
        submitted_at=record.created_at,
        predecessors=predecessors,
    )


def obtain(
    record: AnalysisRecord,
    kind: ObjectKind,
    frame: str | None,
    *,
    store: Store,
    blobs: Blobs,
    door: WorkerPlace,
    uid_root: str | None,
) -> bytes:
    """The object's bytes, the same each time; a DICOM one is found in its study from then on.

    Raises NoObject where it cannot be made, and whatever decoding the source raises.
    """
    name = kind.name if frame is None else f"{kind.name}#{frame}"
    key = (record.id, record.revision, _state_of(record).value, name)
    with store.read() as session:
        known = session.get(ObjectRow, key)
        earlier = _earlier_reports(session, record) if kind.name == REPORT else ()
    if known is not None:
        return blobs.read(known.sha256)
    stored = stored_analysis(
        record,
        blobs,
        uid_root=uid_root,
        predecessors=tuple(predecessor(blobs.read(digest)) for digest in earlier),
    )
    if "waits_for" in stored.plan and not kind.media_type.startswith("image/"):
        raise NoObject(
            stored.plan["waits_for"]["text"],
            remedy="Name it with PATCH, then ask again. The mask is at mask.png.",
        )
    if kind.of_dose and "dose" not in stored.plan:
        raise NoObject(
            "Nothing was planned, so there is nothing to report.",
            remedy="Click on the muscle, draw a box or outline it, then ask again.",
        )
    if kind.media_type == DICOM and kind.name != IMAGE and _of_plain_pictures(record):
        # What the object refers to stands in the study before it does.
        for number, each in enumerate(frames_of(stored, door).get(IMAGE, [])):
            with contextlib.suppress(NoObject):
                obtain(
                    record,
                    KINDS[IMAGE],
                    each if number else None,
                    store=store,
                    blobs=blobs,
                    door=door,
                    uid_root=uid_root,
                )
    more = {"frame": frame} if kind.of_frame and frame is not None else {}
    made = door.result(door.run(kind.make, stored, **more), within_s=OBJECT_S)
    digest, at = blobs.put(made), dt.datetime.now(dt.UTC)
    facts = None
    if kind.media_type == DICOM:
        work = door.run(facts_of_object, blobs.path(digest), kind.name, DecodeLimits())
        facts = door.result(work, within_s=OBJECT_S)
    try:
        with store.write() as session:
            session.add(
                ObjectRow(
                    analysis_id=key[0],
                    revision=key[1],
                    state=key[2],
                    kind=key[3],
                    sha256=digest,
                    made_at=at,
                )
            )
            session.flush()
            if facts is not None:
                add_made(
                    session,
                    digest,
                    facts,
                    size_bytes=len(made),
                    analysis_id=record.id,
                    at=at,
                )
    except IntegrityError:
        # Another request was first: its object is the one that stays.
        with store.read() as session:
            return blobs.read(session.get_one(ObjectRow, key).sha256)
    return made


def frames_of(stored: StoredAnalysis, door: WorkerPlace) -> dict[str, list[str]]:
    """The frames by which each of several objects of one name is asked for, by that name.

    The first is the one that is made where no frame is named. None of a name: there is one, or
    the object itself tells why there is none.
    """
    work = door.run(reporting.object_frames, replace(stored, masks={}))
    try:
        return door.result(work, within_s=OBJECT_S)
    except NoObject:
        return {}


def _of_plain_pictures(record: AnalysisRecord) -> bool:
    return any(file.facts["media"] == "plain" for file in record.files)


def _earlier_reports(session: Session, record: AnalysisRecord) -> tuple[str, ...]:
    """The digests of the reports that were made before: of earlier revisions, and the draft's."""
    rows = session.scalars(
        select(ObjectRow)
        .where(
            ObjectRow.analysis_id == record.id,
            ObjectRow.kind == REPORT,
            or_(
                ObjectRow.revision < record.revision,
                (ObjectRow.revision == record.revision)
                & (ObjectRow.state != _state_of(record).value),
            ),
        )
        .order_by(ObjectRow.revision, ObjectRow.made_at)
    )
    return tuple(row.sha256 for row in rows)


def _state_of(record: AnalysisRecord) -> State:
    """The state that an object is kept under: confirmed, or not."""
    return State.CONFIRMED if record.confirmation is not None else record.state
