"""The command `segment`: what it writes, where, and what it says of failures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.arrays import GreyImage
from models.segment import load_segmenter
from models.segment_files import PromptsRefused, read_prompts, segment_files


def picture(rows: int = 120, columns: int = 160) -> GreyImage:
    random = np.random.default_rng(0)
    return random.integers(20, 200, (rows, columns)).astype(np.uint8)


def save(path: Path, grey: GreyImage) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), grey)
    return path


def silent(done: int, total: int, path: Path) -> None:
    """No bar in tests."""


def test_a_still_gives_three_masks_of_its_size_and_a_record(tmp_path: Path) -> None:
    save(tmp_path / "in" / "knee" / "scan.png", picture())
    assert segment_files([tmp_path / "in"], tmp_path / "out", progress=silent) == 0
    for kind in ("muscle", "nerve", "vessel"):
        mask = cv2.imread(str(tmp_path / f"out/knee/scan.{kind}.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape == (120, 160)
        assert set(np.unique(mask)) <= {0, 255}
    record = json.loads((tmp_path / "out/knee/scan.json").read_text())
    assert {
        "confidence",
        "abstained",
        "reason",
        "view",
        "sector",
        "area_px",
        "area_interval_px",
        "thickness_px",
        "thickness_interval_px",
        "objects",
        "weights_version",
    } <= set(record)


def test_where_it_abstains_the_mask_is_empty_and_the_guess_stands_beside(tmp_path: Path) -> None:
    path = save(tmp_path / "blank.png", np.zeros((90, 90), np.uint8))
    assert segment_files([path], tmp_path / "out", progress=silent) == 0
    record = json.loads((tmp_path / "out/blank.json").read_text())
    assert record["abstained"] is True
    assert record["reason"] == "blank"
    mask = cv2.imread(str(tmp_path / "out/blank.muscle.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert not mask.any()
    assert (tmp_path / "out/blank.candidate.png").exists()


def test_the_frames_of_a_clip_are_numbered(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.png", picture())
    segment_files(
        [path],
        tmp_path / "out",
        progress=silent,
        read_frames=lambda _: [picture(), picture(), picture()],
    )
    names = sorted(one.name for one in (tmp_path / "out").glob("*.muscle.png"))
    assert names == [f"clip.f000{number}.muscle.png" for number in range(3)]


def test_one_broken_file_fails_alone_and_sets_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save(tmp_path / "good.png", picture())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    assert segment_files([broken, good], tmp_path / "out", progress=silent) == 1
    assert (tmp_path / "out/good.json").exists()
    assert not (tmp_path / "out/broken.json").exists()
    assert "broken.png" in capsys.readouterr().err


def test_pictures_that_differ_in_their_suffix_do_not_overwrite_each_other(tmp_path: Path) -> None:
    save(tmp_path / "in/scan.png", picture())
    save(tmp_path / "in/scan.jpg", picture(80, 80))
    assert segment_files([tmp_path / "in"], tmp_path / "out", progress=silent) == 0
    assert (tmp_path / "out/scan.json").exists()
    assert (tmp_path / "out/scan.png.json").exists()


def test_prompts_come_as_objects_or_as_a_bare_list_of_clicks(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(
        json.dumps(
            {
                "a.png": {
                    "clicks": [{"column": 5, "row": 7, "positive": False}],
                    "box": {"column0": 1, "row0": 2, "column1": 30, "row1": 40},
                    "frame": 3,
                },
                "b.png": [[10, 20], [11, 21, False]],
            }
        )
    )
    asked = read_prompts(path)
    ((frame, prompt),) = asked["a.png"]
    assert frame == 3
    assert not prompt.clicks[0].positive
    assert prompt.box is not None
    assert prompt.box.column1 == 30
    ((every, clicked),) = asked["b.png"]
    assert every is None
    assert [click.positive for click in clicked.clicks] == [True, False]


@pytest.mark.parametrize("text", ["[]", "{", '{"a.png": {"clicks": [{"row": 1}]}}'])
def test_a_prompts_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(text)
    with pytest.raises(PromptsRefused):
        read_prompts(path)


def test_every_written_record_names_the_weights(tmp_path: Path) -> None:
    path = save(tmp_path / "one.png", picture())
    segment_files([path], tmp_path / "out", progress=silent)
    record = json.loads((tmp_path / "out/one.json").read_text())
    assert record["weights_version"] == load_segmenter().card.version
