"""Studies that are arriving, the analyses that routing made, and files that came later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes two tables; the files of the analyses that are there belong to their first revision."""
    op.create_table(
        "arrivals",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    op.create_index(op.f("ix_arrivals_due_at"), "arrivals", ["due_at"], unique=False)
    op.create_table(
        "routed_analyses",
        sa.Column("analysis_id", sa.String(length=32), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.String(length=80), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(["analysis_id"], ["analyses.id"]),
        sa.PrimaryKeyConstraint("analysis_id"),
        sa.UniqueConstraint("study_instance_uid", "rule", "side", name="uq_routed_once"),
    )
    op.add_column(
        "analysis_files",
        sa.Column("since_revision", sa.Integer(), nullable=False, server_default="1"),
    )
