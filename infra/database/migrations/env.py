"""Run by Alembic, on the connection that `infra.database.migrate` hands over."""

from alembic import context

from infra.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
