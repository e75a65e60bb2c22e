"""Files at the door: names made harmless, headers looked at, nothing decoded or stored yet."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from app.errors import AppError, MixedPatients, RequestConflict, TookTooLong, WorkerDied
from app.jobs.processes import WorkerPlace
from app.store.blobs import Incoming
from imaging.dicom.preamble import check_one_kind
from imaging.dicom.storage import facts_of_object
from imaging.errors import ImagingError, TooLarge
from imaging.frame import FileFacts
from imaging.limits import DecodeLimits
from imaging.read import peek

PEEK_S = 20.0
"""Time for the headers of one upload: a header that takes longer is made to harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that arrived in full, not yet kept."""

    name: str
    incoming: Incoming


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """An upload whose header was looked at and found good."""

    name: str
    incoming: Incoming
    facts: FileFacts


def harmless_name(name: str | None, position: int) -> str:
    """The sender's file name without folders and control characters, never empty."""
    plain = PurePosixPath(PureWindowsPath(name or "").name).name
    plain = "".join(c for c in plain if unicodedata.category(c)[0] != "C").strip()
    return plain[-200:] if plain.strip(".") else f"file-{position}"


def examine(
    uploads: Sequence[Upload], *, door: WorkerPlace, limits: DecodeLimits
) -> tuple[Examined, ...]:
    """The uploads with their header facts, read in a process of its own.

    Raises ImagingError for a file that is none of ours, MixedPatients and RequestConflict for
    files that do not belong together.
    """
    if not uploads:
        raise RequestConflict(
            "No file came with the request.",
            remedy="Add the images as parts named `files`.",
        )
    names = [upload.name for upload in uploads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestConflict(
            f"Two files have the same name: {', '.join(twice)}.",
            remedy="Give each file its own name, so that clicks and outlines can name it.",
        )
    for upload in uploads:
        check_one_kind(upload.incoming.second_kind, upload.name)
    headers = tuple((str(u.incoming.path), u.name) for u in uploads)
    try:
        facts = door.result(door.run(peek_all, headers, limits), within_s=PEEK_S)
    except (WorkerDied, TookTooLong) as lost:
        raise _unreadable_header(names) from lost
    except (MemoryError, RecursionError) as lost:
        raise _swelling_header(names) from lost
    check_one_patient(facts)
    _check_distinct(facts)
    return in_acquired_order(
        Examined(name=u.name, incoming=u.incoming, facts=f)
        for u, f in zip(uploads, facts, strict=True)
    )


def in_acquired_order(files: Iterable[Examined]) -> tuple[Examined, ...]:
    """The images of one series by their Instance Numbers, as a PACS would have sent them.

    Whatever is not one numbered series stays in the order in which it was sent.
    """
    sent = tuple(files)
    known = [file.facts.identity for file in sent]
    series = {None if each is None else each.series_instance_uid for each in known}
    numbered = {
        each.instance_number: file
        for each, file in zip(known, sent, strict=True)
        if each is not None and each.instance_number is not None
    }
    if len(series) > 1 or len(numbered) < len(sent):
        return sent
    return tuple(numbered[number] for number in sorted(numbered))


def _check_distinct(facts: Sequence[FileFacts]) -> None:
    uids = [f.identity.sop_instance_uid for f in facts if f.identity is not None]
    if len(set(uids)) < len(uids):
        raise RequestConflict(
            "Two of the files are the same image: they have one SOP Instance UID.",
            remedy="Send each image once.",
        )


def examine_objects(
    uploads: Sequence[Upload], *, door: WorkerPlace, limits: DecodeLimits
) -> tuple[Examined | ImagingError | AppError, ...]:
    """Each DICOM object of a study with its header facts, or why it cannot be stored.

    Reports, masks and images of other kinds pass as well; their facts say `analysable` False.
    """
    headers = tuple((str(u.incoming.path), u.name) for u in uploads)
    try:
        facts = door.result(door.run(look_at_all, headers, limits), within_s=PEEK_S)
    except (WorkerDied, TookTooLong, MemoryError, RecursionError) as lost:
        if len(uploads) == 1:
            of_memory = isinstance(lost, MemoryError | RecursionError)
            why = _swelling_header if of_memory else _unreadable_header
            return (why([uploads[0].name]),)
        # One of them is made to harm: alone, it harms itself only.
        return tuple(
            answer
            for upload in uploads
            for answer in examine_objects([upload], door=door, limits=limits)
        )
    return tuple(
        _examined(u, f) if isinstance(f, FileFacts) else f
        for u, f in zip(uploads, facts, strict=True)
    )


def _examined(upload: Upload, facts: FileFacts) -> Examined | ImagingError:
    try:
        check_one_kind(upload.incoming.second_kind, upload.name)
    except ImagingError as refused:
        return refused
    return Examined(name=upload.name, incoming=upload.incoming, facts=facts)


def look_at_all(
    headers: Sequence[tuple[str, str]], limits: DecodeLimits
) -> list[FileFacts | ImagingError]:
    """The header facts of each (path, name) of a DICOM object, or why there are none."""
    found: list[FileFacts | ImagingError] = []
    for path, name in headers:
        try:
            found.append(facts_of_object(Path(path), name, limits))
        except ImagingError as refused:
            found.append(refused)
    return found


def get_ready() -> None:
    """Run in the process at the door before the first file comes: this module is loaded then."""


def peek_all(headers: Sequence[tuple[str, str]], limits: DecodeLimits) -> list[FileFacts]:
    """The header facts of each (path, name). Raises ImagingError for the first bad one."""
    return [peek(Path(path), name=name, limits=limits) for path, name in headers]


def check_one_patient(facts: Sequence[FileFacts]) -> None:
    """Raises MixedPatients when the headers name more than one patient."""
    check_patients([(f.identity.patient_id, f.identity.issuer) for f in facts if f.identity])


def check_patients(named: Sequence[tuple[str | None, str | None]]) -> None:
    """Raises MixedPatients for more than one (id, issuer); without an id is nobody."""
    if len({(patient, issuer) for patient, issuer in named if patient}) > 1:
        raise MixedPatients(
            "The images belong to more than one patient.",
            remedy="Send one request for each patient; check the patient on the scanner.",
        )


def facts_json(facts: FileFacts) -> dict[str, Any]:
    """The facts as they are kept beside the stored file."""
    return asdict(facts)


def _swelling_header(names: Sequence[str]) -> ImagingError:
    return TooLarge(
        f"The header of {', '.join(names[:3])} takes more memory than one worker may have.",
        remedy="The file is damaged or made to harm: export it from the scanner again.",
    )


def _unreadable_header(names: Sequence[str]) -> AppError:
    return RequestConflict(
        f"The header of {', '.join(names[:3])} could not be read in time.",
        remedy="The file is damaged or made to harm: export it from the scanner again.",
    )
