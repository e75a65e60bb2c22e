"""How long a plan and a what-if take, without service, network or files.

Run: python tests/bench/bench_clinic.py. Prints p50 and p95 in milliseconds by the clock, and p50
by the processor's time, which a busy machine changes less; that one is held against the aim
(a plan 10 ms, a what-if 5 ms) and marked OVER where it is above.
"""

from __future__ import annotations

import datetime as dt
import statistics
import time
from collections.abc import Callable

import numpy as np

from app.clinic.inputs import ClinicalInputs, Dilution, Patient, Severity, Sweep
from app.clinic.observation import Observation, ObservedSection
from app.clinic.plan import plan_muscle, what_if
from app.clinic.plan_json import plan_to_json
from app.clinic.tables import load_tables
from imaging.calibration import Calibration, CalibrationProvenance

ROWS, COLUMNS = 556, 660
TODAY = dt.date(2026, 3, 2)
ROUNDS = 100


def section(key: str, half: tuple[float, float], position_mm: float | None) -> ObservedSection:
    """An elliptic section of a 660 × 556 frame with a nerve and a vessel."""
    row, column = np.mgrid[0:ROWS, 0:COLUMNS] + 0.5
    mask = ((row - 220) / half[0]) ** 2 + ((column - 330) / half[1]) ** 2 <= 1
    avoid = ((row - 260) ** 2 + (column - 400) ** 2 <= 15**2) | (
        (row - 200) ** 2 + (column - 250) ** 2 <= 10**2
    )
    scale = Calibration(
        row_mm_per_px=0.1,
        column_mm_per_px=0.1,
        provenance=CalibrationProvenance.ULTRASOUND_REGION,
    )
    return ObservedSection(
        frame_key=key,
        position_mm=position_mm,
        area_mm2=scale.area_mm2(float(mask.sum())),
        thickness_mm=None,
        width_mm=None,
        depth_mm=None,
        area_interval_mm2=None,
        mask=mask,
        avoid=avoid,
        calibration=scale,
        skin_row=20,
    )


def milliseconds(work: Callable[[], object]) -> tuple[float, float, float]:
    """(p50, p95, processor p50) of one call in ms, after three calls to warm up."""
    for _ in range(3):
        work()
    clock, processor = [], []
    for _ in range(ROUNDS):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        clock.append((time.perf_counter() - start) * 1000)
        processor.append((time.process_time() - start_cpu) * 1000)
    p95 = statistics.quantiles(clock, n=20)[-1]
    return statistics.median(clock), p95, statistics.median(processor)


def main() -> None:
    """Prints one line for each case."""
    tables = load_tables()
    inputs = ClinicalInputs(
        muscle="biceps_brachii",
        side="left",
        view="short_axis",
        product="XEOMIN",
        indication="upper_limb_spasticity",
        patient=Patient(age_years=54, weight_kg=72, height_m=1.74),
        severity=Severity(scale="MAS", value="4"),
        dilution=Dilution(units=100, ml=2),
        muscle_length_mm=340,
    )
    still = Observation(view="short_axis", sections=(section("0", (130, 200), None),))
    belly = [60, 90, 110, 125, 130, 125, 110, 90, 60]
    swept = Observation(
        view="short_axis",
        sections=tuple(section(str(i), (h, h * 1.5), 20.0 * i) for i, h in enumerate(belly)),
    )
    sweep = ClinicalInputs(
        muscle="biceps_brachii",
        side="left",
        product="XEOMIN",
        indication="upper_limb_spasticity",
        patient=Patient(age_years=54),
        severity=Severity(scale="MAS", value="4"),
        sweep=Sweep(spacing_mm=20),
    )
    plan = plan_muscle(inputs, still, tables, today=TODAY)
    cases: list[tuple[str, float, Callable[[], object]]] = [
        (
            f"plan of one still, {len(plan.sites)} sites",
            10,
            lambda: plan_muscle(inputs, still, tables, today=TODAY),
        ),
        (
            "plan of a sweep of nine",
            10,
            lambda: plan_muscle(sweep, swept, tables, today=TODAY),
        ),
        ("what-if without the image", 5, lambda: what_if(inputs, plan.volume, tables)),
        ("plan as JSON", 5, lambda: plan_to_json(plan)),
        ("tables read", 100, load_tables),
    ]
    for name, aim_ms, work in cases:
        p50, p95, cpu = milliseconds(work)
        print(
            f"{name:32s} p50 {p50:7.2f} ms   p95 {p95:7.2f} ms   "
            f"processor p50 {cpu:7.2f} ms   aim {aim_ms:g} ms{'   OVER' if cpu > aim_ms else ''}"
        )


if __name__ == "__main__":
    main()
