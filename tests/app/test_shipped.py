"""A service starts on the tables and weights that were released, and on no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.cli import main
from app import shipped


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small stand-ins for the guarded files, with a list that fits them."""
    for name in ("app/clinic/data/dose_rows.csv", "models/weights/net.onnx"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"content of {name}")
    monkeypatch.setattr(shipped, "HOME", tmp_path)
    monkeypatch.setattr(shipped, "LIST", tmp_path / "shipped.sha256")
    (tmp_path / "shipped.sha256").write_text(shipped.sums())
    return tmp_path


def test_the_list_is_current() -> None:
    """Every table and weight is listed as it is; after a reviewed change run `make sums`."""
    assert shipped.LIST.read_text("utf-8") == shipped.sums()
    assert shipped.check_shipped() > 10


@pytest.mark.parametrize("how", ["changed", "added", "missing"])
def test_a_tampered_file_refuses_to_start(
    copy: Path, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed, added or missing file: the service does not start, and names it."""
    monkeypatch.setenv("SONODOSE_DATA_DIR", str(copy / "data"))
    assert shipped.check_shipped() == 2
    path = copy / "app/clinic/data/dose_rows.csv"
    if how == "missing":
        path.unlink()
    elif how == "added":
        path.with_name("more.csv").write_text("x")
    else:
        path.write_text("content of app/clinic/data/dose_rows.csv, and 1000 Units")
    assert main(["serve", "--port", "0"]) == 1
    told = capsys.readouterr().err
    name = "more.csv" if how == "added" else "dose_rows.csv"
    verb = {"changed": "was changed", "added": "was added", "missing": "is missing"}[how]
    assert f"app/clinic/data/{name} {verb}" in told
    assert "Install sonodose again" in told
