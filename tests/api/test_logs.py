"""Structured logs: one object a line, found together by study, nothing of a patient."""

from __future__ import annotations

import io
import json
import logging

from api.logs import JsonLines

STUDY = "1.2.826.0.1.3680043.8.498.1"


def lines(*, key: bytes = b"k" * 32) -> tuple[logging.Logger, io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines(key))
    log = logging.Logger("sonodose.test")
    log.addHandler(handler)
    return log, out


def test_a_study_is_a_hash_that_stays_the_same() -> None:
    """A UID becomes the same hash in each line, another one under another site's key."""
    log, out = lines()
    log.warning("the study %s could not be taken up", STUDY)
    log.warning("again %s from 10.1.2.3", STUDY)
    first, second = (json.loads(line)["message"] for line in out.getvalue().splitlines())
    assert STUDY not in out.getvalue()
    assert "uid-" in first
    assert first.split()[2] == second.split()[1]
    assert second.endswith("10.1.2.3")
    other, theirs = lines(key=b"o" * 32)
    other.warning("again %s", STUDY)
    assert json.loads(theirs.getvalue())["message"].split()[1] != second.split()[1]


def test_an_error_keeps_its_place_and_loses_its_words() -> None:
    """What an exception quotes may name somebody: its kind and its lines alone are written."""
    log, out = lines()
    try:
        raise RuntimeError("Example^Ada")
    except RuntimeError:
        log.exception("job %s failed", 7)
    said = json.loads(out.getvalue())
    assert (said["error"], said["message"]) == ("RuntimeError", "job 7 failed")
    assert said["at_lines"][0].startswith("test_logs.py:")
    assert "Ada" not in out.getvalue()


def test_a_request_is_a_line_with_its_fields() -> None:
    """The fields of a request stand beside the message, numbers as numbers."""
    log, out = lines()
    log.info("request", extra={"route": "/api/v1/analyses", "status": 200, "ms": 1.5})
    said = json.loads(out.getvalue())
    assert (said["route"], said["status"], said["ms"]) == ("/api/v1/analyses", 200, 1.5)
