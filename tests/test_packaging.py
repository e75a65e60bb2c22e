"""What a user installs holds the four rooms with their data, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"api", "app", "imaging", "models"}
DATA = (
    "models/weights/muscle_net.onnx",
    "models/weights/muscle_net.json",
    "models/CARD.md",
    "app/clinic/data/dose_rows.csv",
    "app/clinic/data/policy.yaml",
    "app/migrations/script.py.mako",
    "api/static/index.html",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-q", "-w"]
    subprocess.run([*command, str(folder)], check=True, timeout=300)
    return zipfile.ZipFile(next(folder.glob("sonodose-*.whl")))


def test_the_wheel_holds_the_four_rooms_alone(wheel: zipfile.ZipFile) -> None:
    """Four top-level packages and the distribution's own record, nothing beside them."""
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == ROOMS


def test_the_wheel_holds_its_data(wheel: zipfile.ZipFile) -> None:
    """Weights, tables, migrations and the viewer travel with the code."""
    names = set(wheel.namelist())
    assert [path for path in DATA if path not in names] == []


def test_every_module_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """No package was forgotten in the explicit list of pyproject.toml."""
    names = set(wheel.namelist())
    modules = [
        p.relative_to(ROOT).as_posix() for room in ROOMS for p in ROOT.glob(f"{room}/**/*.py")
    ]
    assert [path for path in modules if path not in names] == []


def test_no_other_distribution_owns_the_rooms() -> None:
    """`app` and its like are common names: nothing else that is installed may hold them."""
    owners = packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, ["sonodose"])) == {"sonodose"}, room
