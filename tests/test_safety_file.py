"""The safety file is true: each named test exists, and what follows from the code is current."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SAFETY = ROOT / "docs" / "safety"
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`")
PERMISSIVE = re.compile(r"MIT|BSD|Apache|ISC|PSF|Python Software|HPND|Unlicense|0BSD|CC0|Zlib")
ONLY_ITS_FILES = {"certifi": "MPL-2.0, a list of certificates"}
"""Weak copyleft, which binds changes of its own files alone: certifi is used as it comes."""


@pytest.mark.parametrize("name", ["hazards.md", "threats.md"])
def test_every_named_test_exists(name: str) -> None:
    """A control is proved by a test that is there; each line names at least one."""
    text = (SAFETY / name).read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    heads = [line for line in rows if "proved by" in line or "shown by" in line]
    assert len(rows) > len(heads) + 20
    for row in rows:
        if row in heads:
            continue
        named = NAMED.findall(row)
        assert named, f"no test proves: {row[:80]}"
        for file, test in named:
            tree = ast.parse((ROOT / file).read_text("utf-8"))
            there = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
            assert test in there, f"{file} has no {test}"


def test_the_generated_parts_are_current() -> None:
    """Conformance statement and lists of software are what the code makes now: `make safety`."""
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the list of software was made on Python 3.11; another one may need others")
    from tools.safety_file import made

    for name, text in made().items():
        assert (SAFETY / name).read_text("utf-8") == text, f"{name} is old: run `make safety`"


def test_what_is_installed_may_be_used() -> None:
    """Every library is permissive, pinned in constraints.txt at the version listed."""
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    listed = json.loads((SAFETY / "sbom.cdx.json").read_text("utf-8"))["components"]
    assert len(listed) > 30
    for part in listed:
        stated = json.dumps(part["licenses"])
        assert PERMISSIVE.search(stated) or part["name"] in ONLY_ITS_FILES, (part["name"], stated)
        assert "GPL" not in stated, part["name"]
        assert pinned.get(part["name"].replace(".", "-")) == part["version"].lower(), part["name"]


def test_the_image_installs_nothing_that_is_not_pinned() -> None:
    """The service, its extras and all that these bring stand in constraints.txt."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the versions were pinned on Python 3.11; another one may need others")
    from tools.safety_file import shipped

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = list(project["dependencies"])
    for extra in ("postgres", "dask", "s3", "telemetry", "parquet"):
        asked += project["optional-dependencies"][extra]
    pinned = {
        canonicalize_name(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text("utf-8").split()
    }
    brought = {canonicalize_name(part.name) for part in shipped(asked, set())}
    assert len(brought) > 60
    assert brought <= pinned


def test_every_pinned_version_is_pinned_by_hash_too() -> None:
    """All of constraints.txt but torch, whose CPU build is another file: `make hashes`."""
    pinned = {
        line.lower().replace("_", "-").replace(".", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").split()
        if not line.startswith("torch==")
    }
    text = (ROOT / "constraints-hashes.txt").read_text("utf-8")
    text = re.sub(r"^ *#.*\n", "", text, flags=re.M).replace("\\\n", "")
    by_hash = {}
    for line in text.splitlines():
        name, *digests = line.split()
        by_hash[name.lower().replace("_", "-").replace(".", "-")] = digests
    assert by_hash.keys() == pinned
    for name, digests in by_hash.items():
        assert digests, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in digests), name
    # Native code: a wheel for each platform and Python, each with its hash.
    for native in ("numpy", "onnxruntime", "python-gdcm", "opencv-python-headless"):
        (digests,) = (each for name, each in by_hash.items() if name.startswith(f"{native}=="))
        assert len(digests) > 3, native


def test_every_exception_from_a_rule_has_its_reason() -> None:
    """`noqa`, `nosec` and `type: ignore` are followed by words that say why, tests included."""
    for room in ("api", "app", "imaging", "models", "tools", "tests"):
        for path in (ROOT / room).rglob("*.py"):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                found = re.search(r"#\s*(noqa|nosec|type: ignore)\b[^`]*$", line)
                if found is not None:
                    reason = re.search(r"(--?|\]  #) \w", found[0])
                    assert reason, f"{path.relative_to(ROOT)}:{number}: no reason"
