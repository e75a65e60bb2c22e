"""DICOM Structured Report (TID 1500) of a plan: sites as points, numbers in groups of their own.

Viewers make a probe of a measurement group that holds a point and no number; a number beside the
point makes Cornerstone drop it. A group under Imaging Measurements without any point makes OHIF
3.13 give up on the whole report. So a site is two groups, its point and its numbers, with one
tracking UID, by which OHIF puts them together again; and what is of no point (area, volume, dose
of the muscle) is a group under Derived Imaging Measurements. The muscle's contour is not published
here (the SEG holds it): viewers recompute a polygon's area on ultrasound, and wrongly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from imaging.dicom import codes as c
from imaging.dicom.codes import CodedAnatomy, DicomCode, side_of
from imaging.dicom.content import (
    KeyObject,
    code_value,
    container,
    content_item,
    evidence,
    image_reference,
    number_value,
    person_value,
    study_reference,
    text_value,
    uid_value,
)
from imaging.dicom.header import number_of_frames
from imaging.dicom.instance import (
    IMPLEMENTATION_UID,
    MANUFACTURER,
    NewInstance,
    Sources,
    coding_scheme_identification,
    date_and_time,
    derived_uid,
    headers_of,
    names_of,
    new_dataset,
    to_bytes,
)
from imaging.geometry import ImagePoint

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSite:
    """One injection site on a 0-based frame; None where a number is unknown.

    `image` is the source that it is on, counted from 0.
    """

    number: int
    frame: int
    image: int = 0
    point: ImagePoint
    depth_mm: float | None = None
    units: float | None = None
    ml: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportNumber:
    """One measured or computed number; `low` and `high` are its interval, `method` its words."""

    name: DicomCode
    value: float
    unit: DicomCode
    method: str | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredecessorDocument:
    """A report that this one takes the place of."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def predecessor(report: bytes) -> PredecessorDocument:
    """The reference to a report that was written here before."""
    names = names_of(report)
    return PredecessorDocument(
        study_instance_uid=names["study_instance_uid"],
        series_instance_uid=names["series_instance_uid"],
        sop_instance_uid=names["sop_instance_uid"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """The named clinician who confirmed the plan, of which organization if known, and when."""

    name: str
    organization: str
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """All that the report says. `dose_rows` and `cautions` are sentences, in their order.

    `results` are the objects made with it from the same images: the report is their root, as IHE
    AI Results calls the document by which a viewer finds them, and names them as its evidence.
    """

    anatomy: CodedAnatomy
    sites: tuple[ReportSite, ...] = ()
    numbers: tuple[ReportNumber, ...] = ()
    product: str | None = None
    dose_rows: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    quality: str | None = None
    calibration: str | None = None
    algorithm_name: str | None = None
    algorithm_version: str | None = None
    versions: tuple[str, ...] = ()
    predecessors: tuple[PredecessorDocument, ...] = ()
    results: tuple[KeyObject, ...] = ()


def write_sr(
    sources: Sources,
    report: ReportContent,
    *,
    instance: NewInstance,
    verified: Verifier | None = None,
) -> bytes:
    """The SR file of a plan on one source image, or on several.

    UNVERIFIED and PRELIMINARY until a verifier is named, then VERIFIED and FINAL (PS3.3
    C.17.2). Raises ValueError for a site on a frame that the source does not have.
    """
    headers = headers_of(sources)
    header = headers[0]
    ds = new_dataset(header, instance, sop_class=COMPREHENSIVE_SR, modality="SR")
    ds.ContentDate, ds.ContentTime = date_and_time(instance.created)
    ds.CodingSchemeIdentificationSequence = coding_scheme_identification()
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence([])
    ds.PerformedProcedureCodeSequence = DicomSequence([])
    ds.CompletionFlag = "PARTIAL" if verified is None else "COMPLETE"
    ds.PreliminaryFlag = "PRELIMINARY" if verified is None else "FINAL"
    ds.VerificationFlag = "UNVERIFIED" if verified is None else "VERIFIED"
    if verified is not None:
        ds.VerifyingObserverSequence = DicomSequence([_verifying_observer(verified)])
    if report.predecessors:
        ds.PredecessorDocumentsSequence = DicomSequence(
            _document_reference(p) for p in report.predecessors
        )
    ds.CurrentRequestedProcedureEvidenceSequence = evidence(
        header.StudyInstanceUID, headers, report.results
    )
    root = container(None, c.IMAGING_MEASUREMENT_REPORT, template="1500")
    root.ContentSequence = DicomSequence(_body(headers, report, instance, verified))
    ds.update(root)
    return to_bytes(ds, like=header)


def _body(
    headers: Sequence[Dataset],
    report: ReportContent,
    instance: NewInstance,
    verified: Verifier | None,
) -> list[Dataset]:
    return [
        code_value("HAS CONCEPT MOD", c.LANGUAGE, c.ENGLISH),
        *_observers(instance, verified),
        code_value("HAS CONCEPT MOD", c.PROCEDURE_REPORTED, c.ULTRASONOGRAPHY),
        _library(headers),
        container(
            "CONTAINS",
            c.IMAGING_MEASUREMENTS,
            *(_site_group(headers, site, report.anatomy, instance) for site in report.sites),
            *_site_number_groups(report, instance),
        ),
        *_muscle_numbers(report, instance),
        *_evaluations(report),
    ]


def _observers(instance: NewInstance, verified: Verifier | None) -> list[Dataset]:
    """TID 1002: the device that computed, and the person who confirmed."""
    context = "HAS OBS CONTEXT"
    found = [
        code_value(context, c.OBSERVER_TYPE, c.DEVICE),
        uid_value(context, c.DEVICE_UID, IMPLEMENTATION_UID),
        text_value(context, c.DEVICE_NAME, f"{MANUFACTURER} {instance.software_version}"),
        text_value(context, c.DEVICE_MANUFACTURER, MANUFACTURER),
        text_value(context, c.DEVICE_MODEL, MANUFACTURER),
    ]
    if verified is not None:
        found += [
            code_value(context, c.OBSERVER_TYPE, c.PERSON),
            person_value(context, c.PERSON_NAME, verified.name),
        ]
        if verified.organization:
            found.append(text_value(context, c.PERSON_ORGANIZATION, verified.organization))
    return found


def _library(headers: Sequence[Dataset]) -> Dataset:
    """TID 1600: the images that all of this is about."""
    images = []
    for header in headers:
        image = content_item("CONTAINS", "IMAGE", None)
        image.ReferencedSOPSequence = DicomSequence([image_reference(header, None)])
        images.append(image)
    return container(
        "CONTAINS", c.IMAGE_LIBRARY, container("CONTAINS", c.IMAGE_LIBRARY_GROUP, *images)
    )


def _group(
    identifier: str, instance: NewInstance, anatomy: CodedAnatomy, *parts: Dataset
) -> Dataset:
    """TID 1501: a measurement group about the muscle, with its tracking identifiers."""
    site = code_value("CONTAINS", c.FINDING_SITE, anatomy.concept)
    if anatomy.laterality is not None:
        site.ContentSequence = DicomSequence(
            [code_value("HAS CONCEPT MOD", c.LATERALITY, side_of(anatomy.laterality))]
        )
    uid = derived_uid(instance.sop_instance_uid, identifier, root=instance.uid_root)
    return container(
        "CONTAINS",
        c.MEASUREMENT_GROUP,
        text_value("HAS OBS CONTEXT", c.TRACKING_IDENTIFIER, identifier),
        uid_value("HAS OBS CONTEXT", c.TRACKING_UID, uid),
        code_value("CONTAINS", c.FINDING, c.TARGET),
        site,
        *parts,
    )


def _site_group(
    headers: Sequence[Dataset], site: ReportSite, anatomy: CodedAnatomy, instance: NewInstance
) -> Dataset:
    header = headers[site.image]
    if not 0 <= site.frame < number_of_frames(header):
        raise ValueError(f"the source has no frame {site.frame} for site {site.number}")
    image = content_item("SELECTED FROM", "IMAGE", None)
    image.ReferencedSOPSequence = DicomSequence([image_reference(header, site.frame)])
    point = content_item("CONTAINS", "SCOORD", c.IMAGE_REGION)
    point.GraphicType = "POINT"
    point.GraphicData = [site.point.column, site.point.row]
    point.ContentSequence = DicomSequence([image])
    return _group(f"Site {site.number}", instance, anatomy, point)


def _site_number_groups(report: ReportContent, instance: NewInstance) -> list[Dataset]:
    """The sites' numbers, each under the tracking identifiers of its site's point."""
    groups = []
    for site in report.sites:
        parts = [
            number_value("CONTAINS", name, value, unit)
            for name, value, unit in (
                (c.DEPTH, site.depth_mm, c.MM),
                (c.TOXIN_UNITS, site.units, c.ARBITRARY_UNITS),
                (c.SOLUTION_VOLUME, site.ml, c.CM3),
            )
            if value is not None
        ]
        if parts:
            if report.product is not None and site.units is not None:
                parts.insert(0, text_value("CONTAINS", c.PRODUCT, report.product))
            groups.append(_group(f"Site {site.number}", instance, report.anatomy, *parts))
    return groups


def _muscle_numbers(report: ReportContent, instance: NewInstance) -> list[Dataset]:
    """The container of what was derived for the muscle as a whole, if anything was."""
    if not report.numbers:
        return []
    parts = [part for number in report.numbers for part in _number(number)]
    if report.product is not None:
        parts.insert(0, text_value("CONTAINS", c.PRODUCT, report.product))
    group = _group("Muscle", instance, report.anatomy, *parts)
    return [container("CONTAINS", c.DERIVED_MEASUREMENTS, group)]


def _number(number: ReportNumber) -> list[Dataset]:
    """The number with its method, then the ends of its interval as minimum and maximum."""
    main = number_value("CONTAINS", number.name, number.value, number.unit)
    if number.method is not None:
        main.ContentSequence = DicomSequence(
            [text_value("HAS CONCEPT MOD", c.METHOD, number.method)]
        )
    found = [main]
    for derivation, end in ((c.MINIMUM, number.low), (c.MAXIMUM, number.high)):
        if end is not None:
            item = number_value("CONTAINS", number.name, end, number.unit)
            item.ContentSequence = DicomSequence(
                [code_value("HAS CONCEPT MOD", c.DERIVATION, derivation)]
            )
            found.append(item)
    return found


def _evaluations(report: ReportContent) -> list[Dataset]:
    """Everything in words: standing, quality, calibration, dose arithmetic, cautions, versions."""
    rows: list[tuple[DicomCode, str | None]] = [
        *((c.MARK, mark) for mark in report.marks),
        (c.IMAGE_QUALITY, report.quality),
        (c.CALIBRATION, report.calibration),
        (c.PRODUCT, report.product),
        *((c.DOSE_ARITHMETIC, row) for row in report.dose_rows),
        *((c.CAUTION, caution) for caution in report.cautions),
        (c.ALGORITHM_NAME, report.algorithm_name),
        (c.ALGORITHM_VERSION, report.algorithm_version),
        *((c.VERSION, version) for version in report.versions),
    ]
    texts = [text_value("CONTAINS", name, words) for name, words in rows if words]
    return [container("CONTAINS", c.QUALITATIVE_EVALUATIONS, *texts)] if texts else []


def _verifying_observer(verified: Verifier) -> Dataset:
    item = Dataset()
    # Type 1: never empty.
    item.VerifyingOrganization = verified.organization[:64] or "not stated"
    item.VerificationDateTime = verified.at.strftime("%Y%m%d%H%M%S")
    item.VerifyingObserverName = verified.name
    item.VerifyingObserverIdentificationCodeSequence = DicomSequence([])
    return item


def _document_reference(document: PredecessorDocument) -> Dataset:
    sop = Dataset()
    sop.ReferencedSOPClassUID = COMPREHENSIVE_SR
    sop.ReferencedSOPInstanceUID = document.sop_instance_uid
    return study_reference(document.study_instance_uid, document.series_instance_uid, sop)
