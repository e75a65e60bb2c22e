"""The command line: a real service in a process of its own, and the small commands."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.cli import main

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, address) of a service on a free port."""
    command = [sys.executable, "-m", "api.cli", "serve", "--port", "0", "--data-dir", str(data)]
    process = subprocess.Popen(  # noqa: S603 -- our own command
        [*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 -- our own service
        found: bytes = answer.read()
        return found


def test_serve_prints_its_address_and_ends_in_order(tmp_path: Path) -> None:
    """`serve --port 0` prints a free address that answers, and SIGTERM ends it with 0."""
    with serving(tmp_path, "--workers", "1") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert json.loads(get(f"{address}/healthz")) == {"status": "alive"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_kept_connection_is_answered_at_once(tmp_path: Path) -> None:
    """Small answers do not wait 40 ms each for an acknowledgement, as TCP has it by default."""
    with serving(tmp_path, "--workers", "1") as (_, address):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        times = []
        for _ in range(30):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            times.append(time.perf_counter() - began)
        connection.close()
    assert min(times[20:]) < 0.03


def test_no_worker_outlives_a_killed_service(tmp_path: Path) -> None:
    """After kill -9 of the service its processes end by themselves."""
    with serving(tmp_path, "--workers", "1") as (process, _):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 20
        found: list[int] = []
        while len(found) < 2 and time.monotonic() < end:
            threads = Path(f"/proc/{process.pid}/task").iterdir()
            found = [int(c) for t in threads for c in (t / "children").read_text().split()]
            time.sleep(0.1)
        assert found, children
        process.kill()
        process.wait(10)
        end = time.monotonic() + 15
        while any(alive(pid) for pid in found):
            assert time.monotonic() < end
            time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_open_service_needs_access_control(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without keys a service listens on loopback alone, and says what to do."""
    monkeypatch.setenv("SONODOSE_DATA_DIR", str(tmp_path))
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1  # noqa: S104 -- it must refuse
    assert "SONODOSE_AUTH=keys" in capsys.readouterr().err


def test_new_key_prints_what_the_settings_need(capsys: pytest.CaptureFixture[str]) -> None:
    """The printed entry is the hash of the printed key."""
    import hashlib

    assert main(["new-key", "ward-3", "--scopes", "read,submit"]) == 0
    shown = capsys.readouterr().out.splitlines()
    token, entry = shown[0].split()[-1], json.loads(shown[1].split(":", 1)[1])
    assert entry[0]["sha256"] == hashlib.sha256(token.encode()).hexdigest()


def test_check_tables_and_audit_verify(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both say what holds, and fail where something does not."""
    monkeypatch.setenv("SONODOSE_DATA_DIR", str(tmp_path))
    assert main(["check-tables"]) == 0
    said = capsys.readouterr().out
    assert "118 dose rows" in said
    assert "  dose_rows  DYSPORT/cervical_dystonia/adult/US: every per-muscle dose range" in said
    assert "Laid over them" not in said
    own = ROOT / "app" / "clinic" / "data" / "groups.csv"
    assert main(["check-tables", str(own)]) == 0
    assert "Laid over them: groups.csv (groups.csv)" in capsys.readouterr().out
    assert main(["check-tables", str(tmp_path / "none")]) == 1
    assert main(["audit", "verify"]) == 0
    said = capsys.readouterr().out
    assert "0 entries" in said
    assert main(["audit", "verify", "--seal", said.split()[-1]]) == 0
    assert main(["audit", "verify", "--seal", f"7:{'a' * 64}"]) == 1
    assert "at entry 7: it was there when the seal was taken" in capsys.readouterr().err
    assert main(["audit", "verify", "--seal", "paper"]) == 2


@pytest.mark.skipif(os.name != "posix", reason="reads /proc")
def test_the_command_line_is_light() -> None:
    """Workers start from it: importing it loads neither the web nor the network."""
    code = "import sys, api.cli; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert not {"fastapi", "torch", "onnxruntime", "sqlalchemy"} & set(done.stdout.split())


@pytest.mark.parametrize("name", ["train", "evaluate", "export"])
def test_training_commands_take_their_own_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sonodose train --help` is the help of training, not a refusal of its options."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"sonodose {name}" in capsys.readouterr().out


def test_an_option_that_no_command_knows_is_refused() -> None:
    """A typing mistake is not overlooked."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--fast"])
    assert ended.value.code == 2


def test_check_rules_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check-rules` names the rule that decides for each image, and refuses bad files."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n  - {name: thigh, when: {body_part: THIGH}, then: {muscle: vastus_lateralis}}\n"
    )
    assert main(["check-rules", str(rules), str(ROOT / "sample_dicoms")]) == 0
    said = capsys.readouterr().out
    assert "vastus_lateralis_panorama.dcm: rule 'thigh' → vastus_lateralis, right" in said
    assert "biceps_short_axis.dcm: no rule matches" in said
    assert "✗ body_part 'THIGH': UPPER ARM" in said
    assert main(["check-rules", str(rules), str(ROOT / "README.md")]) == 1
    rules.write_text("rules: [{name: x, when: {}, then: {muscle: nothing}}]\n")
    assert main(["check-rules", str(rules)]) == 1
    assert "line 1: rules.0.then (x)" in capsys.readouterr().err
