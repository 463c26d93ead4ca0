"""A tenant directory over the application's own tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import ProgrammingError

from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus, outside_own_scope
from temporal_tenancy.core.display import quoted
from temporal_tenancy.core.errors import ConfigurationError, TenancyError
from temporal_tenancy.core.field_problems import problem_of_field
from temporal_tenancy.core.identifiers import may_exist
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.core.tenant_id_types import TenantIdType, is_canonical
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem

COLUMNS: Final = frozenset(
    {
        *("id", "name", "status", "status_since", "plan", "features", "time_zone"),
        *("settings", "trial_ends_at"),
    }
)
_TYPES: Final[Mapping[TenantIdType, frozenset[str]]] = {
    "text": frozenset({"text", "character varying", "character", "citext", "name"}),
    "uuid": frozenset({"uuid"}),
    "bigint": frozenset({"bigint", "integer", "smallint"}),
}
STANDARD: Final = "standard"  # the plan of a tenant whose row names none

_NO_RIGHT: Final = "42501"  # SQLSTATE
_TYPE_DOES_NOT_FIT: Final = frozenset({"42804", "42883"})
_COLON: Final = re.compile(r"(?<![:\w\\]):(?=\w)")  # where SQLAlchemy would see a parameter


class DirectoryUnreadable(DatabaseProblem):
    """The role may not read the tables of the tenant directory."""


class DirectoryAmbiguous(DatabaseProblem):
    """The query of the tenant directory gives two rows for one tenant."""


@spelled
class SqlTenantDirectory:
    """A `TenantDirectory` over the application's own tables, which a query reads.

    It reads as the database's platform role; in a relay, as the relay's role. Grant both `select`.
    """

    def __init__(
        self,
        database: Database,
        query: str,
        *,
        type: TenantIdType = "text",
        plans: Iterable[Plan] = (),
    ) -> None:
        """
        Args:
            database: where the query runs; needs a `platform_url`.
            query: a select with one row for each tenant. Its column `id` has the type `type`.
                Optional are `name` (otherwise the id), `status` (one of `TenantStatus`; otherwise
                active), `status_since`, `plan` (the id of one of `plans`; otherwise "standard"),
                `features` (an array of text), `time_zone` (otherwise UTC), `settings` (jsonb) and
                `trial_ends_at`; a null in one of them counts as if the column were missing. Other
                columns are refused.
            type: the type of the column `id`: text, uuid or bigint.
            plans: the plans; "standard", without features or limits, need not be listed.

        Raises (when it is first asked):
            ConfigurationError: the query lacks `id`, or has a column of another name or an `id` of
                another type; a row has a status, plan or value that does not fit.
            DirectoryUnreadable: the role may not read the tables.
            DirectoryAmbiguous: a tenant that was asked for, or is on the page, has two rows.
        """
        self._database = database
        self._query = _COLON.sub(r"\\:", query.strip().rstrip(";"))
        self._type = type
        self._plans = {plan.id: plan for plan in (Plan(id=STANDARD), *plans)}
        self._columns: frozenset[str] = frozenset()

    async def find(self, tenant_id: str) -> Tenant | None:
        """Like `TenantDirectory.find`; one query. A tenant's own scope may ask about itself."""
        with outside_own_scope(tenant_id):
            return next(iter(await self.find_many([tenant_id])), None)

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Like `TenantDirectory.find_many`; one query."""
        ids = [tenant for tenant in tenant_ids if self._may_exist(tenant)]
        if not ids:
            return []
        reason = "look up tenants"
        await self._known_columns(reason)
        rows = await self._read(reason, f"tenant.id = any({self._ids})", {"ids": ids})
        counted = Counter(row["id"] for row in rows)
        self._refuse_ambiguous(tenant for tenant, rows_of_it in counted.items() if rows_of_it > 1)
        return [self._tenant(row) for row in rows]

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """Like `TenantDirectory.page`; two queries."""
        reason = "enumerate tenants"
        columns = await self._known_columns(reason)
        status = "coalesce(tenant.status, 'active')" if "status" in columns else "'active'"
        zone = "coalesce(tenant.time_zone, 'UTC')" if "time_zone" in columns else "'UTC'"
        order = 'tenant.id collate "C"' if self._type == "text" else "tenant.id"
        values: dict[str, object] = {"limit": limit}
        if statuses is None:
            parts = [f"{status} <> 'deleted'"]
        else:
            parts = [f"{status} = any(cast(:statuses as text[]))"]
            values["statuses"] = [str(each) for each in statuses]
        if after is not None:
            parts.append(f"{order} > cast(:after as {self._type})")
            values["after"] = after
        if time_zones is not None:
            parts.append(f"{zone} = any(cast(:zones as text[]))")
            values["zones"] = list(time_zones)
        where = f"{' and '.join(parts)} order by {order} limit :limit"
        rows = await self._read(reason, where, values)
        # The second row may be of another status, or begin the next page.
        again = f"tenant.id = any({self._ids}) group by tenant.id having count(*) > 1"
        ids = [str(row["id"]) for row in rows]
        found = await self._read(reason, again, {"ids": ids}, select="tenant.id") if ids else []
        self._refuse_ambiguous(row["id"] for row in found)
        return [self._tenant(row) for row in rows]

    def _may_exist(self, tenant: str) -> bool:
        """Returns whether PostgreSQL can read an id, and would write it in the same way.

        Raises what `may_exist` raises for what is no text.
        """
        return may_exist(tenant) and is_canonical(tenant, self._type)

    @property
    def _ids(self) -> str:
        return f"cast(:ids as {self._type}[])"

    def _refuse_ambiguous(self, tenants: Iterable[object]) -> None:
        for tenant in sorted(map(str, tenants)):
            raise DirectoryAmbiguous(
                f"the tenant directory's query gives two rows for {_shown(tenant)}, and nothing "
                "says which is true. Let it return one row for each tenant."
            )

    async def _known_columns(self, reason: str) -> frozenset[str]:
        """Returns the columns of the query, which it asks for once."""
        if not self._columns:
            found: list[str] = []
            await self._read(reason, "false", {}, columns=found)
            missing = {"id"} - set(found)
            unknown = sorted(set(found) - COLUMNS)
            if missing or unknown:
                what = "has no column id" if missing else f"has a column {unknown[0]}"
                raise ConfigurationError(
                    f"the tenant directory's query {what}. It has id, and any of "
                    f'{", ".join(sorted(COLUMNS - {"id"}))}: name its columns with "as".'
                )
            self._columns = frozenset(found)
        return self._columns

    async def _read(
        self,
        reason: str,
        where: str,
        values: Mapping[str, object],
        columns: list[str] | None = None,
        select: str = "tenant.*",
    ) -> Sequence[RowMapping]:
        # The query is the application's own text, as the rest is this module's.
        statement = text(f"select {select} from ({self._query}\n) as tenant where {where}")  # noqa: S608
        try:
            async with self._database.platform_session(reason) as session:
                result = await session.execute(statement, dict(values))
                if columns is not None:
                    columns.extend(result.keys())
                return result.mappings().all()
        except ProgrammingError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state in _TYPE_DOES_NOT_FIT:
                await self._refuse_other_type(reason)
            if state != _NO_RIGHT:
                raise
            role = self._database.platform_engine.url.username
            denied = str(error.orig).split(" (")[0]
            right = "usage on the schema, and select" if "for schema" in denied else "select"
            raise DirectoryUnreadable(
                f"{role} may not read what the tenant directory's query reads: {denied}. "
                f"Grant it {right}."
            ) from None

    async def _refuse_other_type(self, reason: str) -> None:
        """Raises `ConfigurationError` if the column `id` has another type than `type` says."""
        statement = text(
            f"select format_type(pg_typeof((select id from ({self._query}\n) as tenant limit 0)),"  # noqa: S608
            " null)"
        )
        async with self._database.platform_session(reason) as session:
            found = str(await session.scalar(statement))
        if found in _TYPES[self._type]:
            return
        fitting = [name for name, types in _TYPES.items() if found in types]
        how = f'Give SqlTenantDirectory type="{fitting[0]}"' if fitting else "Cast it to text"
        raise ConfigurationError(
            f"the tenant directory's query gives its column id the type {found}, and the directory "
            f"was told {self._type}. {how}."
        ) from None

    def _tenant(self, row: RowMapping) -> Tenant:
        values: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
        tenant = str(values.get("id", ""))
        plan = values.pop("plan", STANDARD)
        if plan not in self._plans:
            raise ConfigurationError(
                f"the tenant directory's query gives {_shown(tenant)} a plan that is not among "
                f"plans= ({', '.join(sorted(self._plans))}). Add it there."
            )
        fields = {"name": tenant, "status": "active", **values}
        try:
            return Tenant(**{**fields, "id": tenant, "plan": self._plans[plan]})
        except (ValueError, TenancyError) as error:
            first = str(error).splitlines()[0] if not hasattr(error, "errors") else _field(error)
            raise ConfigurationError(
                f"the tenant directory's query gives {_shown(tenant)} a value that is no "
                f"tenant's: {first}. A status is one of {', '.join(TenantStatus)}."
            ) from None


def _field(error: Any) -> str:  # a ValidationError, whose text would quote the value
    [first, *_] = error.errors(include_url=False, include_input=False)
    return problem_of_field(first)


def _shown(tenant: str) -> str:
    return f"the tenant {quoted(tenant)}"
