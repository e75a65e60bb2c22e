"""One JSON object a line for whoever gathers logs, without patient data.

An error's own words are left out, since they may quote a file: its kind and where it came from
stay. UIDs and ids of DICOM objects become hashes with the site's key, the same each time, so that
lines of one study are found together and nobody learns whose it is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import logging
import re
import traceback
from pathlib import Path
from typing import Any

from app.results.export import site_key
from app.settings import Settings

UID = re.compile(r"\b[0-9]+(?:\.[0-9]+){4,}\b")
"""Five components and more: an IP address has four."""
FIELDS = ("request_id", "method", "route", "status", "ms", "principal", "subject")


class JsonLines(logging.Formatter):
    """Records as JSON: time, level, who, what; the fields of a request beside them."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        said: dict[str, Any] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._hashed(record.getMessage()),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                said[name] = self._hashed(value) if isinstance(value, str) else value
        if record.exc_info and record.exc_info[0] is not None:
            said["error"] = record.exc_info[0].__name__
            said["at_lines"] = [
                f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(said, ensure_ascii=False)

    def _hashed(self, text: str) -> str:
        return UID.sub(lambda found: self._hash(found[0]), text)

    def _hash(self, uid: str) -> str:
        return f"uid-{hmac.new(self._key, f'log|{uid}'.encode(), hashlib.sha256).hexdigest()[:12]}"


def set_up_logs(settings: Settings) -> None:
    """Makes every log line JSON on the standard error, where the site asks for it."""
    if settings.log != "json":
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(site_key(settings.data_dir / "deidentification.key")))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("sonodose").setLevel(logging.INFO)
