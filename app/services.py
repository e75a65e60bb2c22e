"""The composition root: from settings to the living parts, and back to rest.

The only place that names concrete parts; tests put other ones here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from app.clinic.tables import ClinicalTables, load_tables
from app.delivery.audit_syslog import AuditSender
from app.delivery.courier import Courier
from app.errors import WorkerDied
from app.intake.examine import get_ready
from app.intake.routing import Rules, load_rules
from app.jobs import canary
from app.jobs.hub import Hub
from app.jobs.processes import Door, Place, WorkerPlace
from app.jobs.runner import LOOK_AGAIN_S, JobRunner, Run
from app.jobs.worker import run_analysis, warm_up
from app.quiet import QuietWatch
from app.settings import Settings
from app.store.audit import AuditEntry, ViewLog
from app.store.blobs import Blobs
from app.store.database import Store
from app.store.object_store import open_blobs
from app.tracing import Traces
from app.upkeep import tidy
from imaging.limits import DecodeLimits

TIDY_S = 3600.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a request can need."""

    settings: Settings
    tables: ClinicalTables
    limits: DecodeLimits
    store: Store
    blobs: Blobs
    hub: Hub
    views: ViewLog
    syslog: AuditSender
    door: Door
    runner: JobRunner
    quiet: QuietWatch
    courier: Courier
    traces: Traces
    closing: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Brings the tables up to date and starts to work."""
        self.store.migrate()
        self.views.start()
        self.views.note(_of_service("service.started"))
        self.syslog.start()
        self.runner.start()
        self.quiet.start()
        self.courier.start()
        threading.Thread(target=self._open_door, name="door", daemon=True).start()
        threading.Thread(target=self._tidy, name="tidy", daemon=True).start()

    @property
    def ready(self) -> bool:
        """True while files can be looked at and every worker is warm."""
        return self.runner.ready and self.door.pid is not None

    def _open_door(self) -> None:
        """Has the process that looks at files warm before the first one comes."""
        while not self.closing.is_set():
            try:
                self.door.start()
            except WorkerDied:
                log.exception("the process that looks at files could not start")
                self.closing.wait(LOOK_AGAIN_S)
            else:
                return

    def _tidy(self) -> None:
        """Every hour: what is past its retention, files nothing refers to, broken uploads."""
        while not self.closing.wait(TIDY_S):
            try:
                tidy(self.store, self.blobs, self.settings)
            except Exception:
                log.exception("the store could not be tidied; the next hour tries again")

    def close(self) -> None:
        """Lets running jobs end, writes what waits, gives everything back."""
        self.closing.set()
        self.quiet.close()
        self.runner.close()
        self.courier.close()
        self.door.close()
        self.views.note(_of_service("service.stopped"))
        self.views.close()
        self.syslog.close()
        self.traces.close()
        self.store.close()


def _of_service(action: str) -> AuditEntry:
    return AuditEntry(principal="service", action=action, subject="", detail={})


def place_maker(settings: Settings, warm: Callable[[], None] | None) -> Callable[[], Place]:
    """Makes the places where jobs are done: processes of ours, or a cluster's."""
    if settings.executor == "dask":
        from app.jobs.cluster import Cluster, ClusterPlace

        cluster = Cluster(settings.dask_scheduler or "", resources=settings.dask_resources)
        return lambda: ClusterPlace(
            cluster,
            memory_bytes=settings.job_memory_bytes,
            within_s=settings.job_time_limit_s,
            warm_up=warm,
        )
    return lambda: WorkerPlace(memory_bytes=settings.job_memory_bytes, warm_up=warm)


def open_services(
    settings: Settings,
    *,
    run: Run = run_analysis,
    warm: Callable[[], None] | None = warm_up,
) -> Services:
    """The parts for these settings, not yet started.

    Raises TableError for bad dose tables, RulesRefused for bad routing rules, and TelemetryMissing.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store(settings.database)
    blobs = open_blobs(settings)
    hub, traces = Hub(), Traces(settings.otlp_endpoint)
    tables = load_tables(settings.table_override)
    door = Door(memory_bytes=settings.job_memory_bytes, warm_up=get_ready)
    runner = JobRunner(
        store=store,
        blobs=blobs,
        hub=hub,
        settings=settings,
        run=run,
        make_place=place_maker(settings, warm),
        traces=traces,
        canary=None if warm is None else canary.check,
    )
    return Services(
        settings=settings,
        tables=tables,
        limits=settings.decode_limits,
        store=store,
        blobs=blobs,
        hub=hub,
        views=ViewLog(store),
        syslog=AuditSender(store, settings),
        door=door,
        runner=runner,
        quiet=QuietWatch(
            store=store,
            hub=hub,
            runner=runner,
            rules=Rules()
            if settings.routing_rules is None
            else load_rules(settings.routing_rules, tables, jurisdiction=settings.jurisdiction),
            settings=settings,
        ),
        courier=Courier(store=store, blobs=blobs, door=door, settings=settings),
        traces=traces,
    )
