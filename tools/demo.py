"""The whole way on the samples: starts the service, posts them over HTTP, prints the plans.

Writes `demo_output/` (the biceps at its top, one folder for each further sample) and keeps
serving until Ctrl-C. With --once it stops there: exit 0 only if every sample gave what
sample_dicoms/README.md says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import Refused, get, get_json, post_analysis
from show import plan_text

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_dicoms"
OUT = ROOT / "demo_output"
PHANTOM_TRUE_ML = 95.84
"""π/6 × 44 × 26 × 160 mm³: the ellipsoid of `imaging.phantom.ellipsoid_sweep`."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One file with its request, what changes in the request, and what must come out."""

    title: str
    stem: str
    folder: str
    change: dict[str, Any]
    expect: Callable[[dict[str, Any]], dict[str, bool]]


def biceps(answer: dict[str, Any]) -> dict[str, bool]:
    plan = answer["plan"]
    return {
        "the state is draft": answer["state"] == "draft",
        "an area was measured": plan["frames"][0]["section"]["area_mm2"] > 0,
        "volume by section × length × factor": plan["volume"].get("method") == "section_length",
        "XEOMIN inside 50 to 200 Units": plan["dose"]["planned"]
        and 50 <= plan["dose"]["units"] <= 200,
        "every site has depth, Units and mL": bool(plan["sites"])
        and all(s["depth_mm"] and s["units"] and s["ml"] for s in plan["sites"]),
        "marked DEMONSTRATION": any("DEMONSTRATION" in mark for mark in plan["marks"]),
        "confirmation is refused": not plan["may_be_confirmed"],
    }


def sweep(answer: dict[str, Any]) -> dict[str, bool]:
    plan = answer["plan"]
    volume = plan["volume"].get("volume_ml", 0.0)
    return {
        "the state is draft": answer["state"] == "draft",
        f"the volume is within 2 % of {PHANTOM_TRUE_ML} mL": abs(volume / PHANTOM_TRUE_ML - 1)
        <= 0.02,
        "by sweep": plan["volume"].get("method") == "sweep",
    }


def gastrocnemius(answer: dict[str, Any]) -> dict[str, bool]:
    plan = answer["plan"]
    section = plan["frames"][0]["section"] or {}
    return {
        "the state is draft": answer["state"] == "draft",
        "thickness and depth were measured": bool(section.get("thickness_mm"))
        and section.get("depth_mm") is not None,
        "the volume is unknown, with its reason": not plan["volume"]["known"]
        and bool(plan["volume"]["reason"]),
        "the dose is unscaled": plan["dose"]["planned"] and plan["dose"]["volume_ratio"] == 1.0,
        "a caution says so": any("volume" in c["code"] for c in plan["cautions"]),
    }


def vastus(answer: dict[str, Any]) -> dict[str, bool]:
    plan = answer["plan"]
    return {
        "the state is draft": answer["state"] == "draft",
        "an area between 5 and 40 cm²": 500
        < (plan["frames"][0]["section"] or {}).get("area_mm2", 0.0)
        < 4000,
        "there are sites": bool(plan["sites"]),
        "no dose without off-label planning": not plan["dose"]["planned"],
        "not marked DEMONSTRATION": not any("DEMONSTRATION" in mark for mark in plan["marks"]),
    }


def quadriceps(answer: dict[str, Any]) -> dict[str, bool]:
    plan = answer["plan"]
    return {
        "a dose for the quadriceps as a group": plan["dose"]["planned"]
        and plan["dose"]["group"] == "quadriceps",
        "graded as consensus": plan["dose"].get("grade") == "consensus",
    }


def uncalibrated(answer: dict[str, Any]) -> dict[str, bool]:
    plan = answer["plan"]
    return {
        "the state is needs_calibration": answer["state"] == "needs_calibration",
        "the mask is there": bool(plan["frames"][0]["section"]),
        "no millimetres": plan["frames"][0]["section"]["area_mm2"] is None,
        "no millilitres": not plan["volume"]["known"],
        "no Units": not plan["dose"]["planned"],
        "no sites": not plan["sites"],
    }


ALL = (
    Sample(
        title="1. Biceps brachii, short axis, one click",
        stem="biceps_short_axis",
        folder="",
        change={},
        expect=biceps,
    ),
    Sample(
        title="2. Phantom sweep with the operator's outlines",
        stem="phantom_sweep",
        folder="phantom_sweep",
        change={},
        expect=sweep,
    ),
    Sample(
        title="3. Gastrocnemius medialis, long axis, automatic",
        stem="gastrocnemius_long_axis",
        folder="gastrocnemius_long_axis",
        change={},
        expect=gastrocnemius,
    ),
    Sample(
        title="4. Vastus lateralis, panorama, one click",
        stem="vastus_lateralis_panorama",
        folder="vastus_lateralis_panorama",
        change={},
        expect=vastus,
    ),
    Sample(
        title="4b. The same, off-label planning asked for, for the quadriceps as a group",
        stem="vastus_lateralis_panorama",
        folder="vastus_lateralis_off_label",
        change={"muscle": "quadriceps", "off_label": True},
        expect=quadriceps,
    ),
    Sample(
        title="5. A frame without calibration",
        stem="no_calibration",
        folder="no_calibration",
        change={},
        expect=uncalibrated,
    ),
)


def start_service(data: Path) -> tuple[subprocess.Popen[str], str]:
    """The running service and its address, on a free port of this machine."""
    process = subprocess.Popen(  # noqa: S603 -- our own program, with arguments of our own
        [sys.executable, "-m", "api.cli", "serve", "--port", "0", "--data-dir", str(data)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout or ():
        found = re.search(r"http://[0-9a-zA-Z.:\[\]]+", line)
        if found:
            return process, found.group().rstrip("/")
    raise SystemExit("The service did not start: see the lines above.")


def run(base: str, sample: Sample) -> bool:
    """Posts a sample, prints its plan, writes its files; True if it gave what it should."""
    request = json.loads((SAMPLES / f"{sample.stem}.json").read_text("utf-8"))
    request.update(sample.change)
    source = next(p for p in SAMPLES.glob(f"{sample.stem}.*") if p.suffix in (".dcm", ".png"))
    print(f"\n=== {sample.title} ({source.name})")
    try:
        answer = post_analysis(base, request, [source])
    except Refused as refused:
        print(f"  REFUSED {refused}")
        return False
    if answer.get("plan") is None:
        print(f"  FAILED {answer['state']}: {answer.get('problem')}")
        return False
    print(plan_text(answer))
    folder = OUT / sample.folder
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(answer["plan"], indent=2, ensure_ascii=False)
    (folder / "plan.json").write_text(text + "\n", "utf-8")
    home = f"{base}/api/v1/analyses/{answer['id']}"
    missing = []
    for name in ("overlay.png", "seg.dcm", "sr.dcm", "plan.pdf"):
        try:
            (folder / name).write_bytes(get(f"{home}/{name}"))
        except Refused as refused:
            missing.append(f"  no {name}: {refused.problem.get('detail')}")
    (folder / f"source{source.suffix}").write_bytes(get(f"{home}/files/0"))
    print("\n".join([f"  files in {folder.relative_to(ROOT)}/", *missing]))
    wanted = sample.expect(answer)
    if answer["state"] == "draft":
        wanted["overlay, segmentation and report were made"] = not missing
    for sentence, holds in wanted.items():
        print(f"  {'ok  ' if holds else 'NOT '}{sentence}")
    print(f"  look: {base}/#/analyses/{answer['id']}")
    return all(wanted.values())


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--once", action="store_true", help="stop after the samples")
    once = arguments.parse_args().once
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    process, base = start_service(OUT / "service_data")
    try:
        print(f"The service runs at {base}")
        good = [run(base, sample) for sample in ALL]
        models = get_json(f"{base}/api/v1/models")
        print(f"\nModel: {json.dumps(models)[:300]}")
        print(f"{sum(good)} of {len(good)} samples gave what sample_dicoms/README.md says.")
        if not once:
            print(f"Serving at {base} until Ctrl-C; the picture is demo_output/overlay.png")
            process.wait()
        return 0 if all(good) else 1
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
