"""Alembic's entry: the migrations run on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

from app.store.rows import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    render_as_batch=True,
    # The store's own transaction holds all steps together.
    transactional_ddl=False,
)
context.run_migrations()
