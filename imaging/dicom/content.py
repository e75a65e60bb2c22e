"""Content items and references of structured reports and key objects (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.dicom.codes import DicomCode, code_sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyObject:
    """An object of the same study that a document names: an image, or a report."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    is_image: bool = True

    def sop_reference(self) -> Dataset:
        """The item of a reference to it."""
        sop = Dataset()
        sop.ReferencedSOPClassUID = self.sop_class_uid
        sop.ReferencedSOPInstanceUID = self.sop_instance_uid
        return sop


def evidence(
    study_uid: str, sources: Iterable[Dataset], others: Iterable[KeyObject]
) -> DicomSequence:
    """An evidence sequence (PS3.3 C.17.2.3): the sources and then the objects of the document's
    own study, by study and series."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for source in sources:
        by_series = studies.setdefault(str(source.StudyInstanceUID), {})
        sops = by_series.setdefault(str(source.SeriesInstanceUID), [])
        sops.append(image_reference(source, None))
    for other in others:
        by_series = studies.setdefault(study_uid, {})
        by_series.setdefault(other.series_instance_uid, []).append(other.sop_reference())
    return DicomSequence(_study(uid, by_series) for uid, by_series in studies.items())


def _study(uid: str, by_series: Mapping[str, Iterable[Dataset]]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = uid
    study.ReferencedSeriesSequence = DicomSequence()
    for series_uid, sops in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = DicomSequence(sops)
        study.ReferencedSeriesSequence.append(series)
    return study


def references_by_series(headers: Iterable[Dataset], references: str) -> DicomSequence:
    """A Referenced Series Sequence: the images in the sequence `references` of their series."""
    found: dict[str, list[Dataset]] = {}
    for header in headers:
        found.setdefault(str(header.SeriesInstanceUID), []).append(image_reference(header, None))
    items = []
    for uid, images in found.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        setattr(series, references, DicomSequence(images))
        items.append(series)
    return DicomSequence(items)


def study_reference(study_uid: str, series_uid: str, sop: Dataset) -> Dataset:
    """An item of an evidence sequence: one instance in its series and study."""
    return _study(study_uid, {series_uid: [sop]})


def image_reference(header: Dataset, frame: int | None) -> Dataset:
    """A reference to the source, to one 0-based frame of it where it has frames."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None and "NumberOfFrames" in header:
        item.ReferencedFrameNumber = frame + 1
    return item


def content_item(relationship: str | None, value_type: str, name: DicomCode | None) -> Dataset:
    """A content item of this value type and concept name, its value still to be set."""
    item = Dataset()
    if relationship is not None:
        item.RelationshipType = relationship
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = code_sequence(name)
    return item


def container(
    relationship: str | None, name: DicomCode, *content: Dataset, template: str | None = None
) -> Dataset:
    """A CONTAINER item; `template` is a DCMR template's number."""
    item = content_item(relationship, "CONTAINER", name)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        identification = Dataset()
        identification.MappingResource = "DCMR"
        identification.TemplateIdentifier = template
        item.ContentTemplateSequence = DicomSequence([identification])
    if content:
        item.ContentSequence = DicomSequence(content)
    return item


def code_value(relationship: str, name: DicomCode, value: DicomCode) -> Dataset:
    """A CODE item."""
    item = content_item(relationship, "CODE", name)
    item.ConceptCodeSequence = code_sequence(value)
    return item


def text_value(relationship: str, name: DicomCode, value: str) -> Dataset:
    """A TEXT item."""
    item = content_item(relationship, "TEXT", name)
    item.TextValue = value
    return item


def uid_value(relationship: str, name: DicomCode, value: str) -> Dataset:
    """A UIDREF item."""
    item = content_item(relationship, "UIDREF", name)
    item.UID = value
    return item


def person_value(relationship: str, name: DicomCode, value: str) -> Dataset:
    """A PNAME item."""
    item = content_item(relationship, "PNAME", name)
    item.PersonName = value
    return item


def number_value(relationship: str, name: DicomCode, value: float, unit: DicomCode) -> Dataset:
    """A NUM item, its value as a decimal string and as a double."""
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = code_sequence(unit)
    measured.NumericValue = f"{value:.8g}"
    measured.FloatingPointValue = float(value)
    item = content_item(relationship, "NUM", name)
    item.MeasuredValueSequence = DicomSequence([measured])
    return item
