"""The work list of one state is read in its order."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Exchanges an index: the newest of a state are found without sorting all of them."""
    op.create_index("ix_analyses_state_id", "analyses", ["state", "id"], unique=False)
    op.drop_index("ix_analyses_state", table_name="analyses")
