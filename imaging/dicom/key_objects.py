"""Key Object Selection: which frames and objects of a study belong to the plan (TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.dicom.codes import KEY_OBJECT_DESCRIPTION, OF_INTEREST, DicomCode
from imaging.dicom.content import (
    KeyObject,
    container,
    content_item,
    evidence,
    image_reference,
    text_value,
)
from imaging.dicom.header import SECONDARY_CAPTURE
from imaging.dicom.instance import (
    NewInstance,
    Sources,
    date_and_time,
    headers_of,
    new_dataset,
    to_bytes,
)

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


def capture_key(instance: NewInstance) -> KeyObject:
    """The key object of a Secondary Capture of ours."""
    return KeyObject(
        series_instance_uid=instance.series_instance_uid,
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=instance.sop_instance_uid,
    )


def write_key_objects(
    sources: Sources,
    frames: Sequence[int] | Sequence[Sequence[int]],
    *,
    instance: NewInstance,
    others: Sequence[KeyObject] = (),
    title: DicomCode = OF_INTEREST,
    description: str = "",
) -> bytes:
    """A selection of 0-based frames of the source image, then of other objects of its study.

    Of several sources `frames` has the frames of each. Raises ValueError when nothing is selected.
    """
    headers = headers_of(sources)
    header = headers[0]
    of_each = [[f] if isinstance(f, int) else f for f in frames]
    if isinstance(sources, Dataset | Path):
        of_each = [[f for some in of_each for f in some]]
    selected = [(h, sorted(set(some))) for h, some in zip(headers, of_each, strict=True) if some]
    if not selected and not others:
        raise ValueError("a key object selection selects something")
    ds = new_dataset(header, instance, sop_class=KEY_OBJECT_SELECTION, modality="KO")
    ds.ContentDate, ds.ContentTime = date_and_time(instance.created)
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence([])
    items = [text_value("CONTAINS", KEY_OBJECT_DESCRIPTION, description)] if description else []
    items += [
        _reference("IMAGE", image_reference(source, f)) for source, some in selected for f in some
    ]
    items += [
        _reference("IMAGE" if other.is_image else "COMPOSITE", other.sop_reference())
        for other in others
    ]
    ds.CurrentRequestedProcedureEvidenceSequence = evidence(
        header.StudyInstanceUID, [source for source, _ in selected], others
    )
    ds.update(container(None, title, *items, template="2010"))
    return to_bytes(ds, like=header)


def _reference(kind: str, sop: Dataset) -> Dataset:
    item = content_item("CONTAINS", kind, None)
    item.ReferencedSOPSequence = DicomSequence([sop])
    return item
