"""The samples are what their script writes, and small enough to live in a repository."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from app.clinic.plan import check_request
from app.clinic.tables import load_tables
from app.planning.request import AnalysisRequest
from app.planning.request_inputs import clinical_inputs

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_dicoms"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", ROOT / "tools/make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_writes_the_same_bytes_again(script: ModuleType, tmp_path: Path) -> None:
    """Every sample in the repository is what tools/make_samples.py writes today."""
    script.main(tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    kept = sorted(p.name for p in SAMPLES.iterdir() if p.suffix in (".dcm", ".png", ".json"))
    assert written == kept
    for name in written:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def test_the_samples_are_small() -> None:
    """All samples together stay under 5 MB."""
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 5_000_000


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_each_request_can_be_planned(path: Path) -> None:
    """Each sample's request passes what is judged before any pixel is looked at."""
    request = AnalysisRequest.model_validate(json.loads(path.read_text("utf-8")))
    check_request(clinical_inputs(request), load_tables())


def test_every_image_is_attributed() -> None:
    """Each original stands in the samples' README with its licence."""
    readme = (SAMPLES / "README.md").read_text("utf-8")
    for path in (SAMPLES / "originals").glob("*.png"):
        assert path.name in readme
