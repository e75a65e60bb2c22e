"""SEG and SR as the adapters of Cornerstone and OHIF read them: the same masks, the same sites."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.results import reporting
from app.results.stored_analysis import StoredAnalysis
from imaging.arrays import BoolMask
from imaging.mask import labels_png
from tests.app.plans import stored_plan
from tests.judges import judge
from tests.viewer.conftest import dev_tool

HERE = Path(__file__).parent
CASES: Mapping[str, dict[str, Any]] = {
    "a still": {"frames": 1},
    "a clip of 2": {"frames": 2},
    "a clip of 30": {"frames": 30},
    "a clip of 300": {"frames": 300, "rows": 120, "columns": 160},
    "an odd still": {"frames": 1, "rows": 735, "columns": 975},
    "an odd clip": {"frames": 2, "rows": 735, "columns": 975},
    "a sweep of stills": {"frames": 9, "stills": True},
    "an odd sweep of stills": {"frames": 3, "stills": True, "rows": 147, "columns": 195},
    "nerve and vessel": {"frames": 1},
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredAnalysis]:
    made = {
        name: stored_plan(tmp_path_factory.mktemp("source"), **how) for name, how in CASES.items()
    }
    made["nerve and vessel"] = with_others(made["nerve and vessel"])
    return made


def with_others(stored: StoredAnalysis) -> StoredAnalysis:
    """The plan with a nerve within its muscle, and a vessel over its edge."""
    (key,) = stored.masks
    muscle = stored.labels(key).muscle
    rows, columns = np.nonzero(muscle)
    middle, top = int(rows.mean()), int(rows.min())
    nerve, vessel = np.zeros_like(muscle), np.zeros_like(muscle)
    nerve[middle : middle + 9, int(columns.mean()) : int(columns.mean()) + 13] = True
    vessel[top - 4 : top + 7, int(columns.mean()) : int(columns.mean()) + 5] = True
    return replace(stored, masks={key: labels_png(muscle, nerve, vessel)})


@pytest.fixture(scope="module")
def seen(
    plans: Mapping[str, StoredAnalysis], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What the adapters read of each plan's SEG and SR; one process for all of them."""
    dev_tool("@cornerstonejs/adapters/package.json")
    folder = tmp_path_factory.mktemp("objects")
    jobs = []
    for number, stored in enumerate(plans.values()):
        seg, sr = folder / f"{number}.seg.dcm", folder / f"{number}.sr.dcm"
        seg.write_bytes(reporting.seg(stored))
        sr.write_bytes(reporting.sr(stored))
        sources = [source.path for source in stored.sources]
        jobs.append({"sources": sources, "seg": str(seg), "sr": str(sr)})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(  # noqa: S603 -- our own script
        [judge("node"), str(HERE / "cornerstone.mjs"), str(folder / "jobs.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(plans, lines, strict=True))


def box_and_count(mask: BoolMask) -> dict[str, Any]:
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    return {"pixels": int(mask.sum()), "box": [int(edge) for edge in box]}


def place_of(frame: Mapping[str, Any]) -> tuple[str, int]:
    """The instance and the frame in it, counted from 1."""
    return frame["sop_instance_uid"], frame["frame"] + 1


@pytest.mark.parametrize("case", CASES)
def test_every_mask_is_where_ours_is(
    case: str, plans: Mapping[str, StoredAnalysis], seen: Mapping[str, dict[str, Any]]
) -> None:
    """Each segment has our pixel count and box, on the frame and the instance that it is of."""
    stored = plans[case]
    ours = {}
    for frame in stored.plan["frames"]:
        labels = stored.labels(frame["key"])
        masks = [m for m in (labels.muscle, labels.nerve, labels.vessel) if m.any()]
        if masks:
            ours[place_of(frame)] = {
                str(number): box_and_count(mask) for number, mask in enumerate(masks, start=1)
            }
    assert "refused" not in seen[case], seen[case]
    theirs = {(each["image"], each["frame"]): each["segments"] for each in seen[case]["seg"]}
    assert theirs == ours


@pytest.mark.parametrize("case", CASES)
def test_every_site_is_a_probe(
    case: str, plans: Mapping[str, StoredAnalysis], seen: Mapping[str, dict[str, Any]]
) -> None:
    """Each site is a Probe on its frame, half a pixel less, as pixels count from their centres."""
    plan = plans[case].plan
    frames = {frame["key"]: frame for frame in plan["frames"]}
    assert plan["sites"]
    for site, probe in zip(plan["sites"], seen[case]["sr"], strict=True):
        assert probe["tool"] == "Probe"
        assert (probe["image"], probe["frame"]) == place_of(frames[site["frame_key"]])
        assert probe["point"][:2] == pytest.approx(
            [site["column"] - 0.5, site["row"] - 0.5], abs=0.01
        )
