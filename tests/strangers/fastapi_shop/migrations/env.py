import os

from alembic import context
from sqlalchemy import create_engine
from temporal_tenancy.postgres import configure_branch

from shop.models import Base

configure_branch(
    context.config,
    tenant_url=os.environ.get("TENANT_DATABASE_URL"),
    platform_url=os.environ.get("PLATFORM_DATABASE_URL"),
    relay_url=os.environ.get("RELAY_DATABASE_URL"),
)
with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
