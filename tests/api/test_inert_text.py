"""Text of files and of requests is text everywhere: in pages, pictures, PDF, tables, logs, XML."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from pathlib import Path
from xml.etree import ElementTree

import pdfplumber
import pytest

from api.batch import DONE, _write_table
from app.jobs.worker import run_analysis
from tests.api.conftest import ANALYSES, Serve, draft
from tests.app import studies

ROOT = Path(__file__).resolve().parents[2]
EVIL = "<script>alert(1)</script>\"'&<font size=99>^{{7*7}}"


def test_evil_text_is_inert(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Markup, formulas and line breaks in names and descriptions change no document's structure."""
    caplog.set_level(logging.INFO)
    client = serve(run_analysis)
    data = studies.dicom_still(
        PatientName=EVIL[:64],
        StudyDescription=EVIL[:64],
        SeriesDescription="=HYPERLINK(1)",
        Manufacturer=EVIL[:64],
    )
    # A line break and an escape in an id, which pydicom would not write.
    data = data.replace(b"P-1 ", b"\n\x1bP1")
    body = draft(client, data=data, name=f"{EVIL}.dcm")
    address = f"{ANALYSES}/{body['id']}"

    drawn = client.get(f"{address}/overlay.svg")
    assert drawn.status_code == 200
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn.text).iter()}  # noqa: S314 -- our own answer
    assert not tags & {"script", "foreignObject", "iframe", "object"}
    assert not re.search(r"\son\w+=|javascript:", drawn.text)

    printed = client.get(f"{address}/plan.pdf")
    assert printed.status_code == 200
    assert b"/JavaScript" not in printed.content
    assert b"/Launch" not in printed.content
    with pdfplumber.open(io.BytesIO(printed.content)) as pdf:
        sizes = {round(letter["size"]) for page in pdf.pages for letter in page.chars}
    assert max(sizes) < 40

    for answer in (client.get(address), client.get(f"{address}/fhir"), client.get(ANALYSES)):
        assert "html" not in answer.headers["content-type"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    said = [record.getMessage() for record in caplog.records]
    assert not [line for line in said if "alert(1)" in line or "\x1b" in line or "\n" in line]


def test_a_table_holds_no_formula(tmp_path: Path) -> None:
    """A file name that a spreadsheet would run is a text in the table, too."""
    names = ["=cmd|' /C calc'!A0.png", "+1.dcm", "@SUM(A1).png", "-2.dcm", "\t=1.png", "plain.png"]
    lines = [json.dumps({"image": name, "error": "=x"}) for name in names]
    (tmp_path / DONE).write_text("\n".join(lines) + "\n", "utf-8")
    _write_table(tmp_path, "csv")
    with (tmp_path / "measurements.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [*(f"'{name}" for name in names[:-1]), "plain.png"]
    assert {row["error"] for row in rows} == {"'=x"}


def test_a_problem_document_repeats_no_markup_as_markup(serve: Serve) -> None:
    """What is quoted back to the sender is JSON, and is not sniffed for anything else."""
    client = serve()
    answer = client.post(
        ANALYSES, data={"request": "{}", EVIL: "x"}, files=[("files", ("a.png", b"x"))]
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_xml_is_read(serve: Serve) -> None:
    """No part of the product parses XML, so no entity is ever expanded; sent XML is refused."""
    parsers = re.compile(
        r"\b(fromstring|iterparse|XMLParser|XMLPullParser|minidom|sax\.parse|lxml)\b"
    )
    for room in ("api", "app", "models", "imaging"):
        for path in (ROOT / room).rglob("*.py"):
            assert not parsers.search(path.read_text("utf-8")), path
    bomb = b'<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    client = serve()
    for path, kind in (
        ("/dicom-web/studies", "application/dicom+xml"),
        ("/dicom-web/studies", 'multipart/related; type="application/dicom+xml"; boundary=b'),
        ("/api/v1/what-if", "application/xml"),
    ):
        answer = client.post(path, content=bomb, headers={"Content-Type": kind})
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
