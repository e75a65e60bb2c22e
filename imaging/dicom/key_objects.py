"""Key Object Selection: which frames and objects of a study belong to the plan (TID 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.dicom.codes import KEY_OBJECT_DESCRIPTION, OF_INTEREST, DicomCode
from imaging.dicom.content import container, content_item, image_reference, text_value
from imaging.dicom.header import SECONDARY_CAPTURE
from imaging.dicom.instance import NewInstance, date_and_time, header_of, new_dataset, to_bytes

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyObject:
    """An object of the same study that the selection names: an image, or a report."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    is_image: bool = True


def capture_key(instance: NewInstance) -> KeyObject:
    """The key object of a Secondary Capture of ours."""
    return KeyObject(
        series_instance_uid=instance.series_instance_uid,
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=instance.sop_instance_uid,
    )


def write_key_objects(
    source: Dataset | Path,
    frames: Sequence[int],
    *,
    instance: NewInstance,
    others: Sequence[KeyObject] = (),
    title: DicomCode = OF_INTEREST,
    description: str = "",
) -> bytes:
    """A selection of 0-based frames of the source image, then of other objects of its study.

    Raises ValueError when nothing is selected.
    """
    header = header_of(source)
    if not frames and not others:
        raise ValueError("a key object selection selects something")
    ds = new_dataset(header, instance, sop_class=KEY_OBJECT_SELECTION, modality="KO")
    ds.ContentDate, ds.ContentTime = date_and_time(instance.created)
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence([])
    items = [text_value("CONTAINS", KEY_OBJECT_DESCRIPTION, description)] if description else []
    items += [_reference("IMAGE", image_reference(header, f)) for f in sorted(set(frames))]
    evidence = _Evidence()
    if frames:
        evidence.add(header.SeriesInstanceUID, image_reference(header, None))
    for other in others:
        sop = Dataset()
        sop.ReferencedSOPClassUID = other.sop_class_uid
        sop.ReferencedSOPInstanceUID = other.sop_instance_uid
        items.append(_reference("IMAGE" if other.is_image else "COMPOSITE", sop))
        evidence.add(other.series_instance_uid, sop)
    study = Dataset()
    study.StudyInstanceUID = header.StudyInstanceUID
    study.ReferencedSeriesSequence = evidence.series()
    ds.CurrentRequestedProcedureEvidenceSequence = DicomSequence([study])
    ds.update(container(None, title, *items, template="2010"))
    return to_bytes(ds, like=header)


def _reference(kind: str, sop: Dataset) -> Dataset:
    item = content_item("CONTAINS", kind, None)
    item.ReferencedSOPSequence = DicomSequence([sop])
    return item


class _Evidence:
    """Referenced instances by their series, in the order in which they came."""

    def __init__(self) -> None:
        self._by_series: dict[str, list[Dataset]] = {}

    def add(self, series_instance_uid: str, sop: Dataset) -> None:
        self._by_series.setdefault(str(series_instance_uid), []).append(sop)

    def series(self) -> DicomSequence:
        items = []
        for uid, sops in self._by_series.items():
            item = Dataset()
            item.SeriesInstanceUID = uid
            item.ReferencedSOPSequence = DicomSequence(sops)
            items.append(item)
        return DicomSequence(items)
