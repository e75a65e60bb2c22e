"""A real `sonodose listen` in a process of its own, and dcmtk's programs to call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.judges import judge

ROOT = Path(__file__).parents[1]
AE = "SONODOSE"


@dataclass(frozen=True)
class Listening:
    """Where it listens; `call` runs a program of dcmtk against it."""

    port: int
    pid: int
    options: list[str] = field(default_factory=list)

    def call(
        self,
        program: str,
        *arguments: str | Path,
        called: str = AE,
        calling: str = "SCANNER",
        folder: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The ended program: its exit code and what it said."""
        command = [judge(program), *self.options, "-aec", called, "-aet", calling]
        command += ["127.0.0.1", str(self.port), *map(str, arguments)]
        return subprocess.run(  # noqa: S603 -- a fixed program on our own loopback
            command, capture_output=True, text=True, check=False, timeout=120, cwd=folder
        )


@contextmanager
def listening(data: Path, **settings: Any) -> Iterator[Listening]:
    """A listener on a free port over a data folder."""
    environment = {**os.environ}
    for name, value in {"data_dir": data, **settings}.items():
        text = value if isinstance(value, str | Path) else json.dumps(value)
        environment[f"SONODOSE_{name.upper()}"] = str(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli", "listen", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told.startswith("sonodose listens"), told
        yield Listening(port=int(told.rsplit(":", 1)[1]), pid=process.pid)
    finally:
        process.terminate()
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
