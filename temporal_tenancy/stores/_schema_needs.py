"""Lets the jobs of a tenant wait until its own store has the migrations that they need."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.errors import ConfigurationError, SchemaBehind, TenancyError
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres.revisions import lineage_of
from temporal_tenancy.sdk.features import Feature


def migrated_stores(application: Sequence[MigrationEnvironment]) -> Feature:
    """Returns the feature that lets jobs wait for the migration of their tenant's store.

    A job needs the newest migration of each set, or the one that it declares. The control plane
    knows which a store has; of the shared store a worker sees so when it starts.

    Args:
        application: the environments of the application's tenant-owned tables.
    """
    needs = _Needs(tuple(each for each in application if each not in LIBRARY))
    return Feature(
        "migrated stores",
        migrations=tuple(application),
        waits_for=needs.reason_to_wait,
        checks_job=needs.check,
    )


class _Needs:
    """The migrations that this release's jobs need."""

    def __init__(self, application: Sequence[MigrationEnvironment]) -> None:
        self._application = application

    def check(self, job: Job) -> None:
        """Raises `ConfigurationError` if the job declares a migration that there is not."""
        if job.schema is not None:
            self._declared(job, job.schema)

    def reason_to_wait(self, tenant: Tenant, job: Job) -> TenancyError | None:
        """Returns the error for what the tenant's own store lacks; None if that is nothing."""
        versions = tenant.schema_versions
        if versions is None:
            return None
        for environment, needed in self._of(job):
            if environment in LIBRARY and environment.name not in versions:
                continue  # a schema store has the library's tables beside it
            at = versions.get(environment.name)
            if not lineage_of(environment).has(at, needed):
                return SchemaBehind(
                    f"the store of {tenant.id} is at {at or 'the beginning'} of the "
                    f"{environment.name}, and {job.name} needs {needed}."
                )
        return None

    def _of(self, job: Job) -> list[tuple[MigrationEnvironment, str]]:
        needed = {each: lineage_of(each).newest for each in (*LIBRARY, *self._application)}
        if job.schema is not None:
            environment, revision = self._declared(job, job.schema)
            needed[environment] = revision
        return list(needed.items())

    def _declared(self, job: Job, schema: str) -> tuple[MigrationEnvironment, str]:
        name, _, revision = schema.rpartition(":")
        found = [
            each
            for each in self._application
            if name in ("", each.name) and revision in lineage_of(each).before
        ]
        if len(found) == 1:
            return found[0], revision
        sets = ", ".join(f'"{each.name}"' for each in self._application)
        if found:
            raise ConfigurationError(
                f"{job.name} needs the migration {revision}, which is in more than one of {sets}. "
                f'Name the set too: schema="{found[0].name}:{revision}".'
            )
        raise ConfigurationError(
            f"{job.name} needs the migration {schema}, and there is none of that name in {sets}. "
            "Give the revision of one."
        )
