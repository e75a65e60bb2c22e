"""Analyses by the patient's name, and found by words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two columns; analyses that are there are found by all but the patient's name."""
    op.add_column("analyses", sa.Column("patient_name", sa.String(length=400), nullable=True))
    op.add_column(
        "analyses", sa.Column("sought", sa.String(length=500), nullable=False, server_default="")
    )
    op.execute(
        "UPDATE analyses SET sought = lower(substr(coalesce(patient_id, '') || ' ' || "
        "replace(muscle, '_', ' ') || ' ' || side || ' ' || coalesce(product, ''), 1, 500))"
    )
    op.create_index("ix_analyses_sought", "analyses", ["id", "state", "sought"], unique=False)
