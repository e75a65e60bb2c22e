"""The viewer's modules by node: the pure ones run, all of them type-checked."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.judges import judge
from tests.viewer.conftest import dev_tool

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "api" / "static"


def test_the_pure_modules() -> None:
    """Geometry, edits, undo: against the same answers as the service's own."""
    done = subprocess.run(  # noqa: S603 -- our own tests
        [judge("node"), "--test", str(HERE / "modules.test.mjs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_types() -> None:
    """`tsc --checkJs` finds nothing in any module."""
    tsc = dev_tool("typescript/bin/tsc")
    done = subprocess.run(  # noqa: S603 -- a fixed program on our own files
        [judge("node"), str(tsc), "-p", str(STATIC / "jsconfig.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
