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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-q", "-w"]
    subprocess.run(  # noqa: S603 -- pip on our own folder
        [*command, str(folder)], check=True, timeout=300
    )
    return zipfile.ZipFile(next(folder.glob("sonodose-*.whl")))


def test_the_wheel_holds_the_four_rooms_alone(wheel: zipfile.ZipFile) -> None:
    """Four top-level packages and the distribution's own record, nothing beside them."""
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == ROOMS


def test_every_file_of_the_rooms_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """Modules, weights, tables, fonts, migrations and the viewer: nothing was forgotten."""
    names = set(wheel.namelist())
    files = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert [path for path in files if path not in names] == []


def test_no_other_distribution_owns_the_rooms() -> None:
    """`app` and its like are common names: nothing else that is installed may hold them."""
    owners = packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, ["sonodose"])) == {"sonodose"}, room
