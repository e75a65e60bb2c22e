"""The rows of the database. Revisions, confirmations and the audit are written once, never changed.

Migrations under `app/store/migrations` make the tables; a test holds the two to one shape.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Digest = String(64)
Identifier = String(64)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """An aware UTC datetime; SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(
        self, value: dt.datetime | None, dialect: Dialect
    ) -> dt.datetime | None:
        return None if value is None else value.replace(tzinfo=dt.UTC)


class Row(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it as it stands
        dt.datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
    }


class InstanceRow(Row):
    """A stored file, once for its bytes, with the header facts found when it came in.

    `archived` ones came as part of a study, by STOW or C-STORE, and stay when an analysis of them
    is deleted; `made_for` names the analysis that an object of ours was made for.
    """

    __tablename__ = "instances"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[dt.datetime]
    received_from: Mapped[str] = mapped_column(String(200))
    sop_instance_uid: Mapped[str | None] = mapped_column(Identifier, index=True)
    series_instance_uid: Mapped[str | None] = mapped_column(Identifier, index=True)
    study_instance_uid: Mapped[str | None] = mapped_column(Identifier, index=True)
    sop_class_uid: Mapped[str | None] = mapped_column(Identifier)
    transfer_syntax_uid: Mapped[str | None] = mapped_column(Identifier)
    instance_number: Mapped[int | None]
    facts: Mapped[dict[str, Any]]
    conflicts_with: Mapped[str | None] = mapped_column(Digest)
    same_pixels: Mapped[bool | None]
    archived: Mapped[bool]
    made_for: Mapped[str | None] = mapped_column(String(32), index=True)


class StudyRow(Row):
    """A study that instances are stored of: what its first instance says, for searching.

    Names to search by are folded: lower case, without accents. `modalities` are those of its
    series, with a backslash around each.
    """

    __tablename__ = "studies"

    study_instance_uid: Mapped[str] = mapped_column(Identifier, primary_key=True)
    patient_id: Mapped[str | None] = mapped_column(String(200), index=True)
    issuer: Mapped[str | None] = mapped_column(String(200))
    patient_name: Mapped[str | None] = mapped_column(String(400))
    folded_name: Mapped[str] = mapped_column(String(400), index=True)
    birth_date: Mapped[str | None] = mapped_column(String(16))
    sex: Mapped[str | None] = mapped_column(String(16))
    study_date: Mapped[str] = mapped_column(String(16))
    study_time: Mapped[str] = mapped_column(String(16))
    accession: Mapped[str | None] = mapped_column(String(64), index=True)
    study_id: Mapped[str | None] = mapped_column(String(64))
    description: Mapped[str | None] = mapped_column(String(200))
    referring_physician: Mapped[str | None] = mapped_column(String(400))
    modalities: Mapped[str] = mapped_column(String(400), server_default="")
    received_at: Mapped[dt.datetime]
    changed_at: Mapped[dt.datetime]

    __table_args__ = (
        # What is searched by with wildcards lies in the index, which is read in its order.
        Index(
            "ix_studies_when",
            "study_date",
            "study_time",
            "study_instance_uid",
            "folded_name",
            "modalities",
            "patient_id",
            "description",
        ),
        Index("ix_studies_changed_at", "changed_at"),
    )


class SeriesRow(Row):
    """A series of a stored study: what its first instance says."""

    __tablename__ = "series"

    study_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("studies.study_instance_uid"), primary_key=True
    )
    series_instance_uid: Mapped[str] = mapped_column(Identifier, primary_key=True)
    modality: Mapped[str | None] = mapped_column(String(16), index=True)
    series_number: Mapped[int | None]
    description: Mapped[str | None] = mapped_column(String(200))
    body_part: Mapped[str | None] = mapped_column(String(64))
    laterality: Mapped[str | None] = mapped_column(String(16))
    protocol: Mapped[str | None] = mapped_column(String(200))
    manufacturer: Mapped[str | None] = mapped_column(String(200))

    __table_args__ = (Index("ix_series_series_instance_uid", "series_instance_uid"),)


class AnalysisRow(Row):
    """One study's plan in the making: its current revision and state; `version` is its ETag.

    `sought` holds the words that it is found by, folded: lower case, without accents.
    """

    __tablename__ = "analyses"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]
    created_by: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(24))
    revision: Mapped[int]
    version: Mapped[int] = mapped_column(Integer)
    muscle: Mapped[str] = mapped_column(String(200))
    side: Mapped[str] = mapped_column(String(8))
    product: Mapped[str | None] = mapped_column(String(200))
    patient_id: Mapped[str | None] = mapped_column(String(200), index=True)
    patient_name: Mapped[str | None] = mapped_column(String(400))
    sought: Mapped[str] = mapped_column(String(500), server_default="")

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 -- read as it stands
    # What a search looks at lies in the index, which is read in its order.
    __table_args__ = (
        Index("ix_analyses_sought", "id", "state", "sought"),
        Index("ix_analyses_state_id", "state", "id"),
    )


class SourceRow(Row):
    """A file of an analysis, under the name that the sender gave it, since one of its revisions."""

    __tablename__ = "analysis_files"

    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("instances.sha256"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    since_revision: Mapped[int] = mapped_column(default=1, server_default="1")


class ArrivalRow(Row):
    """A study from the network; `due_at` is when it counts as whole, None once settled."""

    __tablename__ = "arrivals"

    study_instance_uid: Mapped[str] = mapped_column(Identifier, primary_key=True)
    due_at: Mapped[dt.datetime | None] = mapped_column(index=True)


class RoutedRow(Row):
    """An analysis that routing made: one a study, rule and side, both empty where none is known."""

    __tablename__ = "routed_analyses"

    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(Identifier)
    rule: Mapped[str] = mapped_column(String(80))
    side: Mapped[str] = mapped_column(String(8))

    __table_args__ = (
        UniqueConstraint("study_instance_uid", "rule", "side", name="uq_routed_once"),
    )


class RevisionRow(Row):
    """One version of an analysis: what was asked, and once its job ended, what came out."""

    __tablename__ = "revisions"

    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[dt.datetime]
    created_by: Mapped[str] = mapped_column(String(200))
    request: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(24))
    finished_at: Mapped[dt.datetime | None]
    plan: Mapped[str | None] = mapped_column(Text)
    problem: Mapped[dict[str, Any] | None]


class MaskRow(Row):
    """The label map of one frame of a revision."""

    __tablename__ = "masks"

    analysis_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    frame_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(Digest)


class ObjectRow(Row):
    """An object made from a revision (SEG, SR, overlay), kept so that its bytes never change."""

    __tablename__ = "objects"

    analysis_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(24), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(Digest)
    made_at: Mapped[dt.datetime]


class JobRow(Row):
    """The work that a revision waits for; a lease says who does it and until when."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"))
    revision: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    cancel: Mapped[bool]
    stage: Mapped[str | None] = mapped_column(String(16))
    traceparent: Mapped[str | None] = mapped_column(String(55))
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]

    __table_args__ = (
        Index("ix_jobs_state_id", "state", "id"),
        Index("ix_jobs_analysis", "analysis_id", "revision"),
    )


class DeliveryRow(Row):
    """Something to be sent: an event still to be addressed, a webhook's call, or objects.

    `detail` is what the event says more or which objects were asked for; `sent` has what the
    other side took, object by object. A lease says who sends it, `next_at` when it is due.
    """

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"), index=True)
    revision: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    target: Mapped[str | None] = mapped_column(String(64))
    event: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]
    sent: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    next_at: Mapped[dt.datetime]
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[dt.datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime]
    created_by: Mapped[str] = mapped_column(String(200))
    finished_at: Mapped[dt.datetime | None]

    __table_args__ = (Index("ix_deliveries_due", "target", "state", "next_at"),)


class IdempotencyRow(Row):
    """A key that a principal gave to a POST, and what came of it."""

    __tablename__ = "idempotency_keys"

    principal: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Digest)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"))
    created_at: Mapped[dt.datetime]


class ConfirmationRow(Row):
    """A named clinician's word for one revision."""

    __tablename__ = "confirmations"

    analysis_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    confirmed_at: Mapped[dt.datetime]
    confirmed_by: Mapped[str] = mapped_column(String(200))
    clinician: Mapped[dict[str, Any]]


class AdministrationRow(Row):
    """What was really given; it, not the plan, counts for the next session."""

    __tablename__ = "administrations"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analyses.id"), index=True)
    revision: Mapped[int]
    recorded_at: Mapped[dt.datetime]
    recorded_by: Mapped[str] = mapped_column(String(200))
    given: Mapped[dict[str, Any]]


class AuditRow(Row):
    """One link of the audit: what it says, and a hash over it and the link before."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False
    )
    at: Mapped[str] = mapped_column(String(40))
    principal: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(200), index=True)
    detail: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(Digest)
    digest: Mapped[str] = mapped_column(Digest)


class ViewerSessionRow(Row):
    """A signed-in viewer, found by the SHA-256 of the secret in its cookie."""

    __tablename__ = "viewer_sessions"

    token_sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str | None] = mapped_column(String(200))
    shown: Mapped[str | None] = mapped_column(String(100))
    role: Mapped[str | None] = mapped_column(String(200))
    key_sha256: Mapped[str | None] = mapped_column(Digest)
    began_at: Mapped[dt.datetime]
    seen_at: Mapped[dt.datetime]
    ends_at: Mapped[dt.datetime]
