"""A data set as a document: the DICOM JSON model (PS3.18 annex F) and native XML (PS3.19 annex A).

JSON is pydicom's own model; XML is made of the same model, so that the two never differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

Json = dict[str, Any]

INLINE_BYTES = 1024
"""Binary values up to this size stand in the document, larger ones at an address of their own."""
PIXEL_DATA = "7FE00010"
CHARACTER_SET = "00080005"
BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
# Group lengths and what lies in the file meta group are no part of the model (PS3.18 F.2.2).
NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def json_of(ds: Dataset, *, bulk_at: str | None = None) -> Json:
    """The JSON model; binary values over `INLINE_BYTES` become addresses below `bulk_at`.

    Without `bulk_at` they are left out. Elements whose value does not fit their VR are left out
    too: a viewer can do nothing with them. Text is Unicode, as Specific Character Set then says.
    """
    document: Json = {}
    for tag in sorted(ds.keys()):
        if tag.element == 0 or tag.group <= 2:
            continue
        entry = _entry(ds, tag, bulk_at)
        if entry is not None:
            document[f"{tag:08X}"] = entry
    if CHARACTER_SET in document:
        document[CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return document


def _entry(ds: Dataset, tag: BaseTag, bulk_at: str | None) -> Json | None:
    name = f"{tag:08X}"
    try:
        element = ds[tag]
        if element.VR == "SQ":
            items = [
                json_of(item, bulk_at=None if bulk_at is None else f"{bulk_at}/{name}/{number}")
                for number, item in enumerate(element.value)
            ]
            return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        if element.VR in BINARY_VRS and element.value and len(element.value) > INLINE_BYTES:
            return None if bulk_at is None else bulk_entry(str(element.VR), f"{bulk_at}/{name}")
        entry: Json = element.to_json_dict(None, 0)
    except Exception:
        return None
    if "Value" in entry:
        entry["Value"] = [_finite(value) for value in entry["Value"]]
    return entry


def bulk_entry(vr: str, address: str) -> Json:
    """The entry of a value that is fetched from an address of its own (PS3.18 F.2.6)."""
    return {"vr": vr, "BulkDataURI": address}


def _finite(value: Any) -> Any:
    # JSON knows no NaN and no infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def xml_of(document: Mapping[str, Any]) -> bytes:
    """The native XML of a JSON model."""
    root = ElementTree.Element("NativeDicomModel", {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _fill(root, document)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _fill(parent: ElementTree.Element, document: Mapping[str, Any]) -> None:
    for tag, entry in sorted(document.items()):
        attributes = {"tag": tag, "vr": entry["vr"]}
        keyword = keyword_for_tag(int(tag, 16))
        if keyword:
            attributes["keyword"] = keyword
        element = ElementTree.SubElement(parent, "DicomAttribute", attributes)
        if "BulkDataURI" in entry:
            ElementTree.SubElement(element, "BulkData", {"uri": entry["BulkDataURI"]})
        elif "InlineBinary" in entry:
            ElementTree.SubElement(element, "InlineBinary").text = entry["InlineBinary"]
        else:
            _values(element, entry["vr"], entry.get("Value", ()))


def _values(element: ElementTree.Element, vr: str, values: Sequence[Any]) -> None:
    for number, value in enumerate(values, 1):
        place = {"number": str(number)}
        if vr == "SQ":
            _fill(ElementTree.SubElement(element, "Item", place), value)
        elif vr == "PN":
            name = ElementTree.SubElement(element, "PersonName", place)
            for group in GROUPS:
                if group in (value or {}):
                    parts = ElementTree.SubElement(name, group)
                    said = value[group].split("^")
                    for part, text in zip(NAME_PARTS, said, strict=False):
                        if text:
                            ElementTree.SubElement(parts, part).text = _xml_text(text)
        else:
            told = ElementTree.SubElement(element, "Value", place)
            told.text = "" if value is None else _xml_text(str(value))


def _xml_text(text: str) -> str:
    """The text without the control characters that XML 1.0 cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\t\n\r")
