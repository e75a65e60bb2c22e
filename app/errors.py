"""What can be wrong with a request as a whole: one tree, no HTTP numbers.

`code` is stable and machine-readable, `remedy` is the way out for the sonographer;
`api/problems.py` maps both to a problem document.

    AppError
    ├── RequestConflict       the request contradicts itself or the images
    │   ├── MixedPatients         images of two patients in one request
    │   └── FrameNotFound         a frame, click or outline that no uploaded file has
    ├── NoObject              an object that cannot be made from this analysis
    ├── NotFound              no such analysis, revision, file or name
    ├── StateConflict         the analysis is in a state where this cannot be done
    │   └── ConfirmationRefused   stops, unanswered questions or a nominal scale
    ├── Tampered              (app/shipped.py) a table or the weights are not as released
    ├── RulesRefused          a file of routing rules that cannot be used
    ├── TelemetryMissing      traces are asked for without the packages that make them
    ├── StaleEdit             somebody else changed the analysis first
    ├── IdempotencyConflict   one Idempotency-Key, two different requests
    ├── InstanceConflict      other bytes under a known SOP Instance UID
    ├── TooBusy               the queue is full
    ├── DiskFull              too little space for another file
    ├── CanaryFailed          the network does not give its known answer
    ├── ClusterLost           the cluster that makes the analyses is away
    └── JobLost               a job that did not end by itself
        ├── WorkerDied            its process died each time
        └── TookTooLong           it ran over its time
"""

from __future__ import annotations

from typing import Any, ClassVar


class AppError(Exception):
    """A request that cannot be carried out, with the way out in `remedy`."""

    code: ClassVar[str] = "app_error"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross the process boundary from a worker: rebuild with the keyword.
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[AppError], message: str, remedy: str) -> AppError:
    return kind(message, remedy=remedy)


class RequestConflict(AppError):
    """The request contradicts itself or the images that came with it."""

    code = "request_conflict"


class MixedPatients(RequestConflict):
    """Images of more than one patient in one request."""

    code = "mixed_patients"


class FrameNotFound(RequestConflict):
    """The request names a file or frame that was not uploaded."""

    code = "frame_not_found"


class NoObject(AppError):
    """The object asked for cannot be made from this analysis."""

    code = "no_object"


class NotFound(AppError):
    """There is no such analysis, revision, file or name."""

    code = "not_found"


class StateConflict(AppError):
    """The analysis is in a state where this cannot be done."""

    code = "state_conflict"


class ConfirmationRefused(StateConflict):
    """The plan cannot be confirmed as it stands; `reasons` says each why."""

    code = "confirmation_refused"

    def __init__(self, message: str, *, remedy: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class RulesRefused(AppError):
    """The file of routing rules cannot be used; the message names lines and fields."""

    code = "rules_refused"


class TelemetryMissing(AppError):
    """Traces are asked for, and the packages that make them are not installed."""

    code = "telemetry_missing"


class StaleEdit(AppError):
    """The analysis was changed since the editor read it; `difference` shows what."""

    code = "stale_edit"

    def __init__(
        self,
        message: str,
        *,
        remedy: str,
        current_etag: str = "",
        difference: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.current_etag = current_etag
        self.difference = difference or {}


class IdempotencyConflict(AppError):
    """The Idempotency-Key was used before for something else."""

    code = "idempotency_conflict"


class InstanceConflict(AppError):
    """Other bytes are stored under the same SOP Instance UID."""

    code = "instance_conflict"


class TooBusy(AppError):
    """The queue is full."""

    code = "too_busy"


class DiskFull(AppError):
    """There is too little space for another file."""

    code = "disk_full"


class CanaryFailed(AppError):
    """The network does not give the answer that it is known to give."""

    code = "canary_failed"


class ClusterLost(AppError):
    """The cluster that makes the analyses is away, or has forgotten a task."""

    code = "cluster_lost"


class JobLost(AppError):
    """A job that did not end by itself."""

    code = "job_lost"


class WorkerDied(JobLost):
    """The job's process died on every attempt."""

    code = "worker_died"


class TookTooLong(JobLost):
    """The job ran over its time and was stopped."""

    code = "took_too_long"
