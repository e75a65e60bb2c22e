"""Jobs remember the request that they are done for, as its trace context."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column; jobs that are there have no trace."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(length=55), nullable=True))
