"""The DICOM listener as a process: alone (`sonodose listen`), or as a child of the service."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from app.settings import Settings

START_S = 60.0
AGAIN_S = 2.0
_SPAWN = multiprocessing.get_context("spawn")
log = logging.getLogger(__name__)


def listen(settings: Settings) -> int:
    """The exit code once the listener ended: 1 if it may not or cannot start."""
    return _run(settings, None)


class ListenerProcess:
    """The listener beside the service: started again when it dies, gone when the service is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closing = threading.Event()
        self._process = self._spawn()
        self._watcher = threading.Thread(target=self._watch, name="dimse", daemon=True)
        self._watcher.start()

    @property
    def is_alive(self) -> bool:
        """True while it answers."""
        return self._process.is_alive()

    @property
    def pid(self) -> int | None:
        """The listener's process id."""
        return self._process.pid

    def close(self) -> None:
        """Ends it; objects that are being stored are finished first."""
        self._closing.set()
        self._process.terminate()
        self._process.join(10)
        self._process.kill()
        # One that was just being started again is known once the watcher is done with it.
        self._watcher.join()
        self._process.kill()
        self._process.join()

    def _spawn(self) -> multiprocessing.process.BaseProcess:
        ours, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(
            target=_child, args=(self._settings, theirs), name="dimse", daemon=False
        )
        process.start()
        theirs.close()
        try:
            started = ours.poll(START_S) and ours.recv()
        except EOFError:
            started = False
        if not started:
            process.kill()
            process.join()
            raise ListenerNotStarted
        return process

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._process.join()
            if self._closing.wait(AGAIN_S):
                return
            log.error("the DICOM listener ended with %s; it starts again", self._process.exitcode)
            try:
                self._process = self._spawn()
            except ListenerNotStarted:
                log.error("the DICOM listener could not start again")


class ListenerNotStarted(Exception):
    """The listener said on standard error why it could not start."""


def _child(settings: Settings, started: Connection) -> None:
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    sys.exit(_run(settings, started))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _run(settings: Settings, started: Connection | None) -> int:
    # Heavy, and not for the process that merely starts this one.
    from api.dimse import Listener
    from app.errors import AppError
    from app.intake.reception import open_reception

    reception = open_reception(settings)
    try:
        listener = Listener(reception)
    except AppError as refused:
        print(f"sonodose: {refused.message}\n  {refused.remedy}", file=sys.stderr)
        return 1
    except OSError as failed:
        print(
            f"sonodose: cannot listen for DICOM on {settings.dimse_host}:{settings.dimse_port}: "
            f"{failed.strerror or failed}.\n  Another program may use the port, or a file of the "
            "TLS settings may be missing.",
            file=sys.stderr,
        )
        return 1
    reception.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=listener.close).start())
    host, port = listener.address
    shown = f"[{host}]" if ":" in host else host
    print(f"sonodose listens as {settings.dimse_ae} at {shown}:{port}", flush=True)
    if started is not None:
        started.send(True)
    try:
        listener.serve()
    finally:
        reception.close()
    return 0
