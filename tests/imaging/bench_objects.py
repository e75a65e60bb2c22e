"""How long SEG, SR, presentation state and overlay take, in milliseconds.

    python -m tests.imaging.bench_objects

The writers in processor time, so that a busy machine does not change the figures; the way from a
stored plan, masks and headers read, by the clock. The best of three.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.results import reporting
from imaging.dicom.seg import Algorithm, write_seg
from imaging.dicom.sr import ReportContent, ReportSite, write_sr
from imaging.dicom.state import StateFrame, StateSite, write_state
from imaging.dicom.ultrasound import write_ultrasound
from imaging.geometry import ImagePoint
from imaging.overlay import Overlay, OverlaySite, overlay_png
from tests.app.plans import stored_plan
from tests.imaging.conftest import BICEPS, FACTS, disc, names, scale

SIZES = ((556, 660, 1), (735, 975, 1), (64, 80, 30), (64, 80, 300), (556, 660, 100))
NETWORK = Algorithm(name="net", version="1", kind="AUTOMATIC")


def best_ms(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """The shortest of three runs."""
    times = []
    for _ in range(3):
        begin = clock()
        work()
        times.append((clock() - begin) * 1000.0)
    return min(times)


def main() -> None:
    print("rows x columns x frames     SEG     SR  state    sum | overlay of one frame")
    for rows, columns, count in SIZES:
        rng = np.random.default_rng(1)
        grey = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
        point = ImagePoint(column=columns / 2, row=rows / 2)
        muscle = disc(rows, columns, columns / 2, rows / 2, rows / 3)
        nerve = disc(rows, columns, columns / 2, rows / 2, rows / 12)
        sites = tuple(
            ReportSite(number=n, frame=0, point=point, depth_mm=20, units=20, ml=0.4)
            for n in range(1, 5)
        )
        report = ReportContent(anatomy=BICEPS, sites=sites, product="XEOMIN")
        shown = tuple(StateSite(number=n, point=point, label="20 U") for n in range(1, 5))
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "us.dcm"
            source.write_bytes(
                write_ultrasound(
                    [grey] * count, facts=FACTS, instance=names("bench"), calibration=scale()
                )
            )
            masks = {k: {"muscle": muscle, "nerve": nerve} for k in range(count)}
            seg = best_ms(
                lambda: write_seg(
                    source,  # noqa: B023 -- run at once, within the loop
                    masks,  # noqa: B023 -- run at once
                    calibration=scale(),
                    anatomy=BICEPS,
                    algorithm=NETWORK,
                    instance=names("seg"),
                )
            )
            sr = best_ms(lambda: write_sr(source, report, instance=names("sr")))  # noqa: B023 -- run at once
            states = [StateFrame(frame=k, muscle=muscle, sites=shown) for k in range(count)]
            state = best_ms(
                lambda: write_state(source, states, instance=names("state"))  # noqa: B023 -- run at once
            )
        overlay = Overlay(
            grey=grey,
            muscle=muscle,
            nerve=nerve,
            calibration=scale(),
            sites=tuple(OverlaySite(number=n, point=point, label="20 U") for n in range(1, 5)),
        )
        picture = best_ms(lambda: overlay_png(overlay))  # noqa: B023 -- run at once
        print(
            f"{rows:5} x {columns:4} x {count:4}     {seg:7.0f}{sr:7.0f}{state:7.0f}"
            f"{seg + sr + state:7.0f} | {picture:7.0f}"
        )

    print("\nfrom a stored plan, by the clock: SEG + SR + state (aims: 150 a still, 2000 of 100)")
    for rows, columns, count in ((556, 660, 1), (735, 975, 1), (556, 660, 100), (735, 975, 100)):
        with tempfile.TemporaryDirectory() as folder:
            stored = stored_plan(Path(folder), frames=count, rows=rows, columns=columns)
            parts = [
                best_ms(lambda make=make: make(stored), clock=time.perf_counter)  # noqa: B023 -- run at once
                for make in (reporting.seg, reporting.sr, reporting.state)
            ]
        print(
            f"{rows:5} x {columns:4} x {count:4}     "
            + "".join(f"{part:7.0f}" for part in [*parts, sum(parts)])
        )


if __name__ == "__main__":
    main()
