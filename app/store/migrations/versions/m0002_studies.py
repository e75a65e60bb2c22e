"""Studies and series to search by; instances know their class and number."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables and fills them from the instances that are there."""
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=200), nullable=True),
        sa.Column("issuer", sa.String(length=200), nullable=True),
        sa.Column("patient_name", sa.String(length=400), nullable=True),
        sa.Column("folded_name", sa.String(length=400), nullable=False),
        sa.Column("birth_date", sa.String(length=16), nullable=True),
        sa.Column("sex", sa.String(length=16), nullable=True),
        sa.Column("study_date", sa.String(length=16), nullable=False),
        sa.Column("study_time", sa.String(length=16), nullable=False),
        sa.Column("accession", sa.String(length=64), nullable=True),
        sa.Column("study_id", sa.String(length=64), nullable=True),
        sa.Column("description", sa.String(length=200), nullable=True),
        sa.Column("referring_physician", sa.String(length=400), nullable=True),
        sa.Column("modalities", sa.String(length=400), nullable=False, server_default=""),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    for name in ("patient_id", "folded_name", "accession", "changed_at"):
        op.create_index(f"ix_studies_{name}", "studies", [name])
    op.create_index(
        "ix_studies_when",
        "studies",
        [
            "study_date",
            "study_time",
            "study_instance_uid",
            "folded_name",
            "modalities",
            "patient_id",
            "description",
        ],
    )
    op.create_table(
        "series",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=True),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("description", sa.String(length=200), nullable=True),
        sa.Column("body_part", sa.String(length=64), nullable=True),
        sa.Column("laterality", sa.String(length=16), nullable=True),
        sa.Column("protocol", sa.String(length=200), nullable=True),
        sa.Column("manufacturer", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["study_instance_uid"], ["studies.study_instance_uid"]),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid"),
    )
    for name in ("modality", "series_instance_uid"):
        op.create_index(f"ix_series_{name}", "series", [name])
    columns: tuple[sa.Column[Any], ...] = (
        sa.Column("sop_class_uid", sa.String(length=64), nullable=True),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=True),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("same_pixels", sa.Boolean(), nullable=True),
        sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("made_for", sa.String(length=32), nullable=True),
    )
    for column in columns:
        op.add_column("instances", column)
    op.create_index("ix_instances_series_instance_uid", "instances", ["series_instance_uid"])
    op.create_index("ix_instances_made_for", "instances", ["made_for"])
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    instances = sa.table(
        "instances",
        sa.column("sha256", sa.String),
        sa.column("facts", sa.JSON),
        sa.column("received_at", sa.DateTime(timezone=True)),
        sa.column("conflicts_with", sa.String),
        sa.column("sop_class_uid", sa.String),
        sa.column("transfer_syntax_uid", sa.String),
    )
    of_study = (*STUDY, "folded_name", "modalities")
    studies = sa.table("studies", *(sa.column(name, sa.String) for name in of_study))
    series = sa.table("series", *(sa.column(name) for name in SERIES))
    known: set[Any] = set()
    rows = connection.execute(sa.select(instances).order_by(instances.c.received_at)).all()
    for row in rows:
        said = row.facts.get("identity") or {}
        connection.execute(
            sa.update(instances)
            .where(instances.c.sha256 == row.sha256)
            .values(
                sop_class_uid=said.get("sop_class_uid"),
                transfer_syntax_uid=row.facts.get("transfer_syntax_uid"),
            )
        )
        study, serie = said.get("study_instance_uid"), said.get("series_instance_uid")
        if row.conflicts_with is not None or study is None or serie is None:
            continue
        at = sa.literal(row.received_at, sa.DateTime(timezone=True))
        if study not in known:
            known.add(study)
            values = {column: said.get(key) for column, key in STUDY.items() if key}
            values |= {
                "folded_name": " ".join((said.get("patient_name") or "").casefold().split()),
                "study_date": (said.get("study_date") or "").replace(".", ""),
                "study_time": (said.get("study_time") or "").replace(":", ""),
            }
            connection.execute(sa.insert(studies).values(**values, received_at=at, changed_at=at))
        if (study, serie) not in known:
            known.add((study, serie))
            connection.execute(
                sa.insert(series).values({column: said.get(key) for column, key in SERIES.items()})
            )
            modality = f"\\{said.get('modality')}\\"
            connection.execute(
                sa.update(studies)
                .where(studies.c.study_instance_uid == study)
                .where(sa.not_(studies.c.modalities.contains(modality, autoescape=True)))
                .values(modalities=studies.c.modalities + modality)
            )


STUDY = {
    "study_instance_uid": "study_instance_uid",
    "patient_id": "patient_id",
    "issuer": "issuer",
    "patient_name": "patient_name",
    "birth_date": "birth_date",
    "sex": "sex",
    "study_date": "",
    "study_time": "",
    "accession": "accession",
    "description": "study_description",
    "received_at": "",
    "changed_at": "",
}
SERIES = {
    "study_instance_uid": "study_instance_uid",
    "series_instance_uid": "series_instance_uid",
    "modality": "modality",
    "description": "series_description",
    "body_part": "body_part",
    "laterality": "laterality",
    "protocol": "protocol",
    "manufacturer": "manufacturer",
}
