"""Other people's programs as judges: skipped by name where absent, demanded where required."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REQUIRED = os.environ.get("SONODOSE_REQUIRE_JUDGES") == "1"


def judge(program: str) -> str:
    """The path of a program; without it the test is skipped, or fails where judges are required."""
    found = shutil.which(program)
    if found is not None:
        return found
    told = f"{program} is not installed"
    if REQUIRED:
        pytest.fail(f"{told}, and SONODOSE_REQUIRE_JUDGES=1 demands it")
    pytest.skip(told)


def dicom_errors(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a DICOM file: none, or one line each."""
    done = subprocess.run(  # noqa: S603 -- a fixed program on a file of the test's own
        [judge("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    found = [line for line in lines if line.startswith("Error")]
    # A crash or an unreadable file says nothing that starts with Error.
    return found if found or done.returncode == 0 else [f"dciodvfy failed: {lines}"]


def study_errors(folder: Path) -> list[str]:
    """The errors that dcentvfy finds between the files of a study: none, or one line each."""
    files = sorted(str(path) for path in folder.glob("*.dcm"))
    done = subprocess.run(  # noqa: S603 -- as above
        [judge("dcentvfy"), *files], capture_output=True, text=True, check=False
    )
    return [x for x in (done.stderr + done.stdout).splitlines() if x.startswith("Error")]
