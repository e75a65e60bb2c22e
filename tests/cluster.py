"""Real parts of a site with many machines, each for a test and gone after it.

`python -m tests.cluster ARGS` starts all of them and runs pytest with ARGS on them: PostgreSQL,
an S3 server, a Dask scheduler and two workers. `--bench FILE` runs a script so instead.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.judges import judge

ROOT = Path(__file__).parents[1]
S3 = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end, f"{process.args} does not answer"
        time.sleep(0.05)


@contextmanager
def running(*command: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the environment until the end of the block, silent."""
    process = subprocess.Popen(  # noqa: S603 -- fixed programs on the test's own folders
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a private PostgreSQL server, run by a user who is not root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb") or (str(binaries[-1] / "initdb") if binaries else None)
    folder = Path(initdb or judge("initdb")).parent
    data = Path(tempfile.mkdtemp(prefix="sonodose-pg-"))
    # PostgreSQL refuses root, who becomes the user that the package made.
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    if user is not None:
        os.chown(data, user.pw_uid, user.pw_gid)
    port = free_port()
    options = f"-p {port} -h 127.0.0.1 -k {data} -c fsync=off -c max_connections=300"
    try:
        for command in (
            [folder / "initdb", "-D", data / "db", "-U", "sonodose", "-A", "trust", "-E", "UTF8"],
            [folder / "pg_ctl", "-D", data / "db", "-l", data / "log", "-o", options, "start"],
        ):
            subprocess.run(command, check=True, cwd=data, stdout=subprocess.DEVNULL, **who)  # noqa: S603 -- fixed
        try:
            yield f"postgresql+psycopg://sonodose@127.0.0.1:{port}/postgres"
        finally:
            stop = [folder / "pg_ctl", "-D", data / "db", "-m", "immediate", "stop"]
            subprocess.run(stop, check=False, cwd=data, stdout=subprocess.DEVNULL, **who)  # noqa: S603 -- fixed
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """The environment of a client of a private S3 server with one bucket, `sonodose`."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)) as server:
        wait_for(port, server)
        request = urllib.request.Request(f"{address}/sonodose", method="PUT")  # noqa: S310 -- loopback
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 -- our own loopback
        yield {**S3, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}


@contextmanager
def scheduler(port: int | None = None) -> Iterator[str]:
    """The address of a Dask scheduler without a worker."""
    port = port or free_port()
    command = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--no-dashboard")
    with running(sys.executable, *command, "--port", str(port)) as process:
        wait_for(port, process)
        yield f"tcp://127.0.0.1:{port}"


@contextmanager
def worker(
    address: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the cluster as a site starts it, for one job at a time."""
    command = ("-m", "api.cli", "worker", address, "--jobs", "1", *options)
    with running(sys.executable, *command, **(environment or {})) as process:
        yield process


def main(arguments: list[str]) -> int:
    # A run that is told to end takes its servers with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as parts:
        database = parts.enter_context(postgres())
        s3 = parts.enter_context(object_store())
        dask = parts.enter_context(scheduler())
        for _ in range(2):
            parts.enter_context(worker(dask, environment=s3))
        told = {
            **s3,
            "SONODOSE_TEST_POSTGRES": database,
            "SONODOSE_TEST_BLOB_URL": "s3://sonodose",
            "SONODOSE_TEST_DASK": dask,
        }
        command = [sys.executable, "-m", "pytest", *arguments]
        if arguments[:1] == ["--bench"]:
            command = [sys.executable, *arguments[1:]]
        return subprocess.call(command, cwd=ROOT, env={**os.environ, **told})  # noqa: S603 -- fixed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
