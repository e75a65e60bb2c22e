"""What receiving needs and no more: the parts of a listener in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass

from app.intake.examine import get_ready
from app.jobs.processes import Door
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.object_store import open_blobs
from imaging.limits import DecodeLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """A store to put objects into, and the process that looks at them first."""

    settings: Settings
    limits: DecodeLimits
    store: Store
    blobs: Blobs
    door: Door

    def start(self) -> None:
        """Brings the tables up to date and has the door warm."""
        self.store.migrate()
        self.door.start()

    def close(self) -> None:
        """Gives everything back."""
        self.door.close()
        self.store.close()


def open_reception(settings: Settings) -> Reception:
    """The parts for these settings, not yet started; lighter than the whole service's."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return Reception(
        settings=settings,
        limits=settings.decode_limits,
        store=Store(settings.database),
        blobs=open_blobs(settings),
        door=Door(memory_bytes=settings.job_memory_bytes, warm_up=get_ready),
    )
