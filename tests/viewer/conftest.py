"""The real service, a real browser, and the errors that a page must not make."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.judges import REQUIRED, judge
from tests.viewer import phantoms
from tools.client import post_analysis

HERE = Path(__file__).parent
OPTIONS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
REQUEST: dict[str, Any] = {
    "muscle": "biceps_brachii",
    "side": "left",
    "view": "short_axis",
    "product": "XEOMIN",
    "indication": "upper_limb_spasticity",
    "patient": {"id": "P-7", "age_years": 54, "weight_kg": 72, "height_m": 1.74},
    "severity": {"scale": "MAS", "value": "2"},
    "dilution": {"units": 100, "ml": 2},
    "muscle_length_mm": 240,
}
CLICK = {"column": 300, "row": 250, "positive": True}
ANSWERED: dict[str, Any] = {
    "prior_treatments": [],
    "safety": dict.fromkeys(
        (
            "hypersensitivity",
            "infection_at_site",
            "neuromuscular_disease",
            "swallowing_disorder",
            "breathing_disorder",
            "interacting_drugs",
            "anticoagulation",
            "pregnancy",
        ),
        False,
    ),
}


class Service:
    """A running service and the studies that a test puts into it."""

    def __init__(self, base: str, folder: Path) -> None:
        self.base = base
        self._folder = folder
        self._sent = 0

    def file(self, data: bytes, name: str) -> Path:
        """The data as a file of this name."""
        self._sent += 1
        folder = self._folder / str(self._sent)
        folder.mkdir(parents=True)
        path = folder / name
        path.write_bytes(data)
        return path

    def study(self, data: bytes | None = None, name: str = "still.dcm", **request: Any) -> str:
        """The id of a planned study; `request` changes what is asked, None leaves a part out."""
        asked = {**REQUEST, "clicks": [CLICK], **request}
        asked = {key: value for key, value in asked.items() if value is not None}
        path = self.file(phantoms.dicom() if data is None else data, name)
        analysis_id: str = post_analysis(self.base, asked, [path])["id"]
        return analysis_id

    def push(self, data: bytes) -> None:
        """A DICOM file sent as a PACS does, without a request."""
        body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--x--"
        kind = 'multipart/related; type="application/dicom"; boundary=x'
        request = urllib.request.Request(  # noqa: S310 -- loopback
            f"{self.base}/dicom-web/studies", data=body, headers={"Content-Type": kind}
        )
        urllib.request.urlopen(request, timeout=20).close()  # noqa: S310 -- loopback


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with a stand-in for the network alone, over a fresh folder."""
    destinations = [
        {"kind": "stow", "name": name, "url": url, "on_confirmation": True}
        for name, url in (("pacs", "{base}/dicom-web"), ("away", "http://127.0.0.1:9/dicom-web"))
    ]
    settings = {
        "SONODOSE_DESTINATIONS": json.dumps(destinations),
        "SONODOSE_STUDY_QUIET_S": "0.5",
    }
    folder = tmp_path_factory.mktemp("viewer")
    with serving(folder, [str(HERE / "service.py")], settings) as found:
        yield found


@contextlib.contextmanager
def serving(
    folder: Path, program: list[str], settings: dict[str, str] | None = None
) -> Iterator[Service]:
    """A service of this program on a free port until the context is left.

    `settings` are more of them, with `{base}` for the service's address.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    log = folder / "service.log"
    with log.open("wb") as told:
        process = subprocess.Popen(  # noqa: S603 -- our own service
            [sys.executable, *program],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("SONODOSE_")},
                "SONODOSE_DATA_DIR": str(folder / "data"),
                "SONODOSE_PORT": str(port),
                "SONODOSE_WORKERS": "1",
                "SONODOSE_TEST_SLOW_S": "4",
                **{k: v.replace("{base}", base) for k, v in (settings or {}).items()},
            },
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(base, process, log)
        yield Service(base, folder / "files")
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text("utf-8", "replace")
        try:
            with urllib.request.urlopen(f"{base}/readyz", timeout=2):  # noqa: S310 -- loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"not ready: {log.read_text('utf-8', 'replace')}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium under Playwright."""
    program = judge("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        if REQUIRED:
            pytest.fail("playwright is not installed, and SONODOSE_REQUIRE_JUDGES=1 demands it")
        pytest.skip("playwright is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield chromium
        chromium.close()


class Wire:
    """A way to the service that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._whole = threading.Event()
        self._whole.set()
        self._done = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.1)
        self.base = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Ends every connection and takes no new one."""
        self._whole.clear()

    def mend(self) -> None:
        """Lets connections through again."""
        self._whole.set()

    def close(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def _accept(self) -> None:
        while not self._done.is_set():
            try:
                near, _ = self._listening.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._pass_on, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            if not self._whole.is_set():
                return
            with socket.create_connection(("127.0.0.1", self._to)) as far:
                other = {near: far, far: near}
                while self._whole.is_set() and not self._done.is_set():
                    for end in select.select([near, far], [], [], 0.05)[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        other[end].sendall(data)


@pytest.fixture
def wire(service: Service) -> Iterator[Wire]:
    made = Wire(int(service.base.rsplit(":", 1)[1]))
    yield made
    made.close()


Desk = Callable[..., Any]


@pytest.fixture
def desk(browser: Any, service: Service) -> Iterator[Desk]:
    """Opens pages, each for itself; at the end none may have asked elsewhere or made an error."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def open_desk(
        path: str = "/", *, width: int = 1400, height: int = 900, base: str = "", **more: Any
    ) -> Any:
        base = base or service.base
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **more
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(f"{error}\n{error.stack}"))
        page.on("console", lambda m: _note(m, wrong))
        page.on("dialog", lambda d: _close(d, wrong))
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((base, "blob:", "data:"))
                else wrong.append(f"asked elsewhere: {r.url}")
            ),
        )
        page.goto(base + path)
        return page

    yield open_desk
    for context in contexts:
        context.close()
    assert wrong == []


def _close(dialog: Any, wrong: list[str]) -> None:
    wrong.append(f"a dialog opened: {dialog.message}")
    dialog.dismiss()


def _note(message: Any, wrong: list[str]) -> None:
    # A refusal's status and a cut connection are told by the browser itself; tests expect them.
    if message.type == "error" and "Failed to load resource" not in message.text:
        wrong.append(f"console: {message.text}")


def dev_tool(path: str) -> Path:
    """A file of the development tools of package.json (`npm install --prefix tests/viewer`)."""
    found = HERE / "node_modules" / path
    if not found.exists():
        told = f"{path.split('/')[0]} is not installed: npm install --prefix tests/viewer"
        if REQUIRED:
            pytest.fail(f"{told}, and SONODOSE_REQUIRE_JUDGES=1 demands it")
        pytest.skip(told)
    return found
