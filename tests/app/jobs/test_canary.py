"""The canary: a network that computes something else makes nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from app.errors import CanaryFailed
from app.jobs import canary
from app.services import Services
from tests.app import workloads
from tests.app.conftest import Opener, send, state_of, until


def test_the_shipped_weights_give_their_known_answer() -> None:
    """The answer in `canary.json` is that of the weights, to rounding (`make sums` renews it)."""
    assert (
        canary.check()["weights_sha256"] == json.loads(canary.ANSWER.read_text())["weights_sha256"]
    )


@pytest.mark.parametrize(
    "change", [{"middle_logit": 1.0}, {"quality": float("nan")}, {"weights_sha256": "0" * 64}]
)
def test_another_answer_is_told(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logit that is off, one that is no number, and other weights are all refused."""
    said = canary.ask()
    known = {**said, **change}
    if "middle_logit" in change:
        known["middle_logit"] = said["middle_logit"] + 2 * canary.ROUNDING
    other = tmp_path / "canary.json"
    other.write_text(json.dumps(known))
    monkeypatch.setattr(canary, "ANSWER", other)
    with pytest.raises(CanaryFailed, match="known answer"):
        canary.check()


def test_a_silent_canary_stops_the_work(opened: Opener) -> None:
    """While the network is wrong nothing is made and the service is not ready; then it is."""
    parts: Services = opened(start=False)
    parts.runner._canary = workloads.silent
    parts.start()
    try:
        analysis_id = send(parts)
        end = time.monotonic() + 60
        while parts.runner.canary["state"] != "silent":
            assert time.monotonic() < end
            time.sleep(0.02)
        assert not parts.ready
        assert state_of(parts, analysis_id).state == "queued"
        parts.runner._canary = workloads.sings
        until(parts, analysis_id, "draft")
        assert parts.runner.canary["state"] == "sings"
    finally:
        parts.close()
