"""The one way a plan is written as text, so that equal plans are equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Mapping[str, Any]) -> str:
    """The value as JSON with sorted keys and no spaces; NaN and infinity are a ValueError."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
