"""`constraints-hashes.txt` from a report of pip: the SHA-256 of every package of one build.

    python -m pip install --dry-run --ignore-installed --no-deps -r constraints.txt --report r.json
    python tools/pin_hashes.py r.json

A wheel for any Python and any machine is the same file everywhere, so it can be pinned for all. One
with native code differs by platform and is left out (docs/security.md).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).parent.parent / "constraints-hashes.txt"
HEAD = "# Made by tools/pin_hashes.py (make hashes); checked by make verify-hashes.\n"


def main(report: str) -> int:
    """Writes the pins; the exit code is 0."""
    installed: list[dict[str, Any]] = json.loads(Path(report).read_text("utf-8"))["install"]
    lines = sorted(
        f"{each['metadata']['name']}=={each['metadata']['version']} "
        f"--hash=sha256:{each['download_info']['archive_info']['hashes']['sha256']}\n"
        for each in installed
        if each["download_info"]["url"].partition("#")[0].endswith("-none-any.whl")
    )
    PINS.write_text(HEAD + "".join(lines), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
