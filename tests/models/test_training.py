"""Training, resuming and evaluating on a made-up folder."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.segment import load_segmenter
from models.training.calibrate import calibrate, case_of
from models.training.data import load_samples, second_belly
from models.training.evaluate import EvaluateSettings, evaluate, moved_clicks
from models.training.figures import figure, report
from models.training.folds import Fold, folds_by_group, thinned
from models.training.negatives import KINDS, make_negatives
from models.training.promises import cross_fitted, table
from models.training.rows import Row, counted_objects, read_rows, score_limit, write_rows
from models.training.scenes import make_scenes
from models.training.train import TrainSettings, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one collection: six long-axis pictures in three groups."""
    root = tmp_path_factory.mktemp("data")
    base = root / "longitudinal"
    for name in ("images", "bellies", "aponeuroses"):
        (base / name).mkdir(parents=True)
    rows = []
    for number in range(6):
        random = np.random.default_rng(number)
        image = random.integers(10, 90, (96, 128)).astype(np.uint8)
        lines = np.zeros_like(image)
        for place in (12, 48, 84):
            lines[place : place + 3] = 255
        image[lines > 0] = 230
        belly = np.zeros_like(image)
        belly[15:48] = 255
        for kind, content in (("images", image), ("bellies", belly), ("aponeuroses", lines)):
            cv2.imwrite(str(base / kind / f"{number:05d}.png"), content)
        rows.append([f"{number:05d}", 128, 96, 0, 0, 128, 96, "B", number // 2, 0.3])
    with (base / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "id",
                "width",
                "height",
                "sector_x",
                "sector_y",
                "sector_width",
                "sector_height",
                "device",
                "group",
                "belly_fraction",
            ]
        )
        writer.writerows(rows)
    return root


def settings(folder: Path, out: Path) -> TrainSettings:
    return TrainSettings(
        data=folder,
        out=out,
        steps=2,
        small_size=64,
        small_share=1.0,
        scenes=1,
        negatives=16,
        threads=1,
        batch=4,
        mix={"long": 1, "second": 1, "scene": 1, "negative": 1},
        progress=lambda line: None,
    )


def test_two_steps_train_and_a_run_that_was_cut_off_goes_on(folder: Path, tmp_path: Path) -> None:
    asked = settings(folder, tmp_path / "run")

    class CutOff(Exception):
        pass

    def cut_off(line: str) -> None:
        if "train on" in line:
            raise CutOff

    with pytest.raises(CutOff):
        train(replace(asked, progress=cut_off))
    assert not (tmp_path / "run/weights.safetensors").exists()
    first = train(replace(asked, checkpoint_every_seconds=0.0))
    assert first.steps == 2
    assert first.weights.exists()
    assert not (tmp_path / "run/checkpoint.safetensors").exists()
    # A finished run is not trained again.
    again = train(asked)
    assert again.steps == 2
    # Fine-tuning starts from weights.
    tuned = train(replace(asked, out=tmp_path / "tuned", init=first.weights))
    assert tuned.weights.exists()


def test_second_bellies_lie_between_the_second_and_third_line(folder: Path) -> None:
    samples = load_samples(folder)
    assert all(len(sample.targets) == 2 for sample in samples)
    lines = np.zeros((100, 50), np.uint8)
    for place in (10, 40, 80):
        lines[place : place + 4] = 255
    belly = second_belly(lines)
    assert belly is not None
    assert belly[44:80].all()
    assert not belly[:44].any()
    assert second_belly(lines[:60]) is None


def test_folds_part_groups_and_never_split_one(folder: Path) -> None:
    samples = load_samples(folder)
    folds = folds_by_group(samples)
    held = [Fold(folds=(number,)).holds(sample, folds) for number in range(5) for sample in samples]
    assert sum(held) == len(samples)
    assert Fold(devices=("B",)).holds(samples[0], folds)
    assert not Fold(collections=("transverse",)).holds(samples[0], folds)


def test_rows_survive_the_file_and_make_the_same_report(folder: Path, tmp_path: Path) -> None:
    rows = evaluate(
        load_segmenter(), EvaluateSettings(data=folder, hold_out=Fold(folds=(0,)), run="fold 0")
    )
    assert {row.mode for row in rows} == {"auto", "click", "moved", "corrected"}
    write_rows(rows, tmp_path / "rows.csv")
    again = read_rows(tmp_path / "rows.csv")
    assert len(again) == len(rows)
    lines = report(again).as_record()
    assert json.dumps(lines)
    assert any("longitudinal, automatic, Dice" in name for name in lines)


def made_rows(count: int = 300) -> list[Row]:
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        quality = float(random.uniform(0.4, 1.0))
        dice = min(1.0, max(0.0, quality + float(random.normal()) * 0.03))
        rows.append(
            Row(
                run="made",
                kind="muscle",
                collection="made",
                device="a",
                group=f"group{number // 3}",
                name=str(number),
                view="long_axis",
                mode="auto",
                outline="high",
                dice=dice,
                log_area=float(random.normal()) * (1.05 - quality),
                log_thickness=float(random.normal()) * 0.05,
                quality=quality,
                not_muscle=float(random.uniform(0, 0.2)),
                second_share=0.0,
                view_right=1.0,
            )
        )
    return rows


def test_intervals_out_of_calibration_cover_what_they_promise() -> None:
    rows = made_rows()
    made = calibrate(rows)
    covered = []
    for row in made_rows(600):
        trusted = float(np.interp(row.quality, made.confidence.at, made.confidence.value))
        if trusted < made.confidence_limit:
            continue
        limits = made.intervals_of(case_of(row))
        low = float(np.interp(trusted, limits.area_low.at, limits.area_low.value))
        high = float(np.interp(trusted, limits.area_high.at, limits.area_high.value))
        covered.append(low <= row.log_area <= high)
    assert 0.9 < np.mean(covered) <= 1.0
    assert list(made.confidence.value) == sorted(made.confidence.value)
    assert made.not_muscle_limit <= 0.5


def test_what_a_person_mended_is_promised_more_narrowly() -> None:
    """Each case has its own intervals where enough groups were measured, else those of all."""
    loose = made_rows()
    tight = [
        replace(row, view="short_axis", mode="corrected", log_area=row.log_area * 0.1)
        for row in made_rows()
    ]
    made = calibrate([*loose, *tight])
    assert set(made.by_case) == {"long_axis/nothing", "short_axis/corrections"}
    narrow = made.intervals_of("short_axis/corrections").area_high.value
    assert max(narrow) < min(made.intervals_of("long_axis/nothing").area_high.value)
    assert made.intervals_of("short_axis/click") == made.intervals


def test_two_answers_equally_good_stay_withheld_whatever_clicks_leave_out() -> None:
    """The limit comes from answers without a click; a clicked muscle may be the smaller part."""
    alone = made_rows()
    clicked = [replace(row, mode="click", second_share=1.4) for row in made_rows()]
    assert calibrate([*alone, *clicked]).ambiguous_share == calibrate(alone).ambiguous_share == 0.5
    doubtful = [replace(row, second_share=0.95) for row in made_rows()]
    assert calibrate(doubtful).ambiguous_share == 0.8


def test_promises_are_judged_by_other_groups_than_those_they_were_fitted_to() -> None:
    judged = cross_fitted(made_rows())
    assert len(judged) == 300
    assert len({id(one.calibration) for one in judged}) == 5
    lines = table(made_rows()).lines
    assert 0.9 < lines["promise, all views: area inside its 95 % interval"].value <= 1


def test_the_score_of_objects_is_set_by_the_false_ones() -> None:
    whole = replace(made_rows(1)[0], kind="vessel", mode="image", objects=1)
    objects = [
        replace(whole, mode="object", objects=0, quality=0.9, found=1),
        replace(whole, mode="object", objects=0, quality=0.6, false=1),
    ]
    least = score_limit([whole, *objects])
    assert 0.6 < least <= 0.9
    (counted,) = counted_objects([whole, *objects], least)
    assert (counted.found, counted.false) == (1, 0)


def test_the_figure_of_groups_counts_every_group_once() -> None:
    rows = [replace(row, group="big", dice=0.2) for row in made_rows(90)]
    rows.append(replace(made_rows(1)[0], group="small", dice=0.8))
    made = figure(rows, lambda row: row.dice)
    assert made is not None
    assert abs(made.value - 0.5) < 1e-9
    assert made.groups == 2


def test_thinning_keeps_every_group_and_spreads_over_it(folder: Path) -> None:
    samples = load_samples(folder)
    assert len(thinned(samples, 1)) == 3
    assert thinned(samples, 9) == samples


def test_moved_clicks_stay_inside() -> None:
    mask = np.zeros((60, 90), np.bool_)
    mask[20:40, 10:70] = True
    moved = moved_clicks(mask, (40.0, 30.0, True))
    assert len(moved) == 4
    assert all(mask[int(row), int(column)] for column, row, _ in moved)


def test_scenes_come_back_from_the_cache_as_they_were_made(tmp_path: Path) -> None:
    made = make_scenes(2, seed=3, cache=tmp_path / "scenes.npz")
    again = make_scenes(2, seed=3, cache=tmp_path / "scenes.npz")
    for one, other in zip(made, again, strict=True):
        assert np.array_equal(one.image, other.image)
        assert len(one.targets) == len(other.targets)


def test_negatives_of_every_kind_are_pictures_and_the_same_from_one_seed() -> None:
    here, there = make_negatives(len(KINDS), seed=5), make_negatives(len(KINDS), seed=5)
    for one, other in zip(here, there, strict=True):
        assert one.shape == (256, 256)
        assert one.dtype == np.uint8
        assert np.array_equal(one, other)
