"""Alembic's entry: runs the versions in the transaction that `storage.migrations.applying` hands in."""

from alembic import context

from storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is transactional too, once the driver leaves transactions alone.
    transactional_ddl=True,
)
context.run_migrations()
