"""Queries of the DICOM listener: C-FIND, C-GET, C-MOVE and storage commitment."""

from __future__ import annotations

from typing import Any

QUERY_HANDLERS: list[Any] = []


def add_query_contexts(ae: Any) -> None:
    pass
