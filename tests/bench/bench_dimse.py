"""50 clips of about 9 MB by C-STORE into `sonodose listen` and into Orthanc, in one run.

    python tests/bench/bench_dimse.py [--count 50] [--rounds 3]

One sender (dcmtk's dcmsend) and one association, each round into fresh folders, the two in turn.
Both are started with their own defaults; ours answers Success only when an object is on the disk
and in the database. Prints one line of JSON; skipped where Orthanc or dcmtk is not installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.app import studies  # noqa: E402 -- after the path
from tests.listener import listening  # noqa: E402 -- after the path
from tests.orthanc import orthanc  # noqa: E402 -- after the path

ROWS, COLUMNS, FRAMES = 480, 640, 30
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"


def clips(folder: Path, count: int) -> list[str]:
    """New clips of one series, 9.2 MB each, that nothing compresses."""
    rng, study, series = np.random.default_rng(7), generate_uid(), generate_uid()
    paths = []
    for number in range(count):
        pixels = rng.integers(0, 256, (FRAMES, ROWS, COLUMNS), dtype=np.uint8)
        path = folder / f"{number:03}.dcm"
        path.write_bytes(
            studies.dicom_still(
                rows=ROWS,
                columns=COLUMNS,
                SOPClassUID=MULTI_FRAME,
                NumberOfFrames=FRAMES,
                StudyInstanceUID=study,
                SeriesInstanceUID=series,
                InstanceNumber=number + 1,
                PixelData=pixels.tobytes(),
            )
        )
        paths.append(str(path))
    return paths


def send(port: int, called: str, files: list[str]) -> float:
    """Seconds until all files are acknowledged."""
    command = ["dcmsend", "--no-uid-checks", "-aec", called, "127.0.0.1", str(port), *files]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 -- a fixed program
    return time.perf_counter() - began


def main() -> None:
    """Sends, and prints the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not (shutil.which("Orthanc") and shutil.which("dcmsend")):
        print("bench_dimse: skipped, Orthanc or dcmtk is not installed")
        return
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        files = clips(there, arguments.count)
        for number in range(arguments.rounds):
            with listening(there / f"ours{number}") as listener:
                ours.append(send(listener.port, "SONODOSE", files))
            with orthanc(there / f"orthanc{number}") as pacs:
                theirs.append(send(pacs.dicom_port, "ORTHANC", files))
    result = {
        "clips": arguments.count,
        "sonodose_s": round(statistics.median(ours), 2),
        "orthanc_s": round(statistics.median(theirs), 2),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "sonodose_all_s": [round(s, 2) for s in ours],
        "orthanc_all_s": [round(s, 2) for s in theirs],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
