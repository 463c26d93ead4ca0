"""The leak check: two tenants in an application's own tables, and statements of every kind."""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core import words
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import unreachable
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.testing.leaks._behind import tables_behind
from temporal_tenancy.testing.leaks._catalogue import Catalogue, Relation, read_catalogue
from temporal_tenancy.testing.leaks._causes import cause_of
from temporal_tenancy.testing.leaks._observing import (
    Observation,
    Observer,
    Refusal,
    differences,
    superusers_engine,
)
from temporal_tenancy.testing.leaks._orm_statements import mappers_of, orm_statements, table_of
from temporal_tenancy.testing.leaks._report import Leak, told
from temporal_tenancy.testing.leaks._rows import Filler, Row, RowFactory, said
from temporal_tenancy.testing.leaks._sequences import hold_sequences
from temporal_tenancy.testing.leaks._statements import (
    THE_VIEWS_QUERY,
    Rows,
    Seeded,
    Statement,
    count_of_tenants,
    insertion,
    statements,
    without_tenant,
)

__all__ = ["Leak", "assert_no_leaks", "check_leaks"]

STATEMENT_TIMEOUT: Final = "60s"
LOCK_TIMEOUT: Final = "10s"
UNLIMITED: Final = "no policy"  # the kind of a finding about a table, as `skip` names it

# SQLSTATEs by which the server refuses a statement about another tenant's rows, or one that it
# never accepts on a table with row-level security.
_REFUSALS: Final = frozenset({"42501", "23503", "23001", "0A000"})


def check_leaks(
    *,
    superuser_url: str,
    tenant_url: str,
    models: Iterable[type] = (),
    tenant_column: str = "tenant_id",
    tenant_columns: Mapping[str, str] | None = None,
    rows: Mapping[str, RowFactory] | None = None,
    skip: Mapping[str, str] | None = None,
    tenants: tuple[str, str] | None = None,
) -> list[Leak]:
    """Sends statements of every kind as one tenant, and returns what reached another tenant.

    All of it happens in transactions of the superuser, who takes on the runtime role for each
    statement. They are rolled back, and the sequences are where they were. Run it on a migrated
    database of your CI, not on one in use: other connections wait for their sequences meanwhile.

    Args:
        superuser_url: URL of the database, with a superuser, who makes the rows and compares.
        tenant_url: URL of the same database, with the role that your runtime logs in as.
        models: mapped classes, or declarative bases, whose statements also go through the ORM.
        tenant_column: the usual name of the column that names the tenant; a name that the policies
            of several tables use is found without it.
        tenant_columns: the column of tables in which it has another name, by table.
        rows: a function for each table that the check cannot fill by itself: takes a tenant's id
            and a row's number from 1, and returns values by column, all or some.
        skip: tables, views, functions and sequences to leave out, as findings name them with or
            without their schema, each with the reason. "orders: lock" leaves out one kind of
            statement, and "currencies: no policy" allows that every tenant reads the table.
        tenants: the ids of the two tenants, which have no rows yet, where your tables take only
            ids of a certain form.

    Raises:
        ConfigurationError: a URL is of another database or has too few rights, a reason is
            missing, or no table has a tenant's column.
        DatabaseUnreachable: the database did not answer.
    """
    __tracebackhide__ = True
    superuser_url, tenant_url = hidden(superuser_url), hidden(tenant_url)
    skipped = dict(skip or {})
    for name, reason in skipped.items():
        if not reason.strip():
            raise ConfigurationError(f"the leak check skips {name!r} without a reason. Give one.")
    login = _log_in(tenant_url)
    with _transaction(superuser_url) as connection:
        check = _Check(connection, login, skipped)
        check.prepare(tenant_column, tenant_columns or {}, rows or {}, tenants)
        check.run(tenant_url, models)
    with _transaction(superuser_url) as connection:
        check.use(connection)
        check.insert_again()
        check.without_tenant("no tenant", None)
    return check.findings


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    """Opens a new connection and a transaction, which is rolled back."""
    engine = superusers_engine(url)
    try:
        try:
            connection = engine.connect()
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.Error):
                raise unreachable(engine.url, error.orig) from None
            raise
        with connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()
    finally:
        engine.dispose()


def assert_no_leaks(
    *,
    superuser_url: str,
    tenant_url: str,
    models: Iterable[type] = (),
    tenant_column: str = "tenant_id",
    tenant_columns: Mapping[str, str] | None = None,
    rows: Mapping[str, RowFactory] | None = None,
    skip: Mapping[str, str] | None = None,
    tenants: tuple[str, str] | None = None,
) -> None:
    """Raises `AssertionError` with all findings of `check_leaks`; takes the same arguments.

    What the check could not tell counts as a finding: give `rows` for the table, or `skip` it.
    """
    __tracebackhide__ = True
    superuser_url, tenant_url = hidden(superuser_url), hidden(tenant_url)
    findings = check_leaks(
        superuser_url=superuser_url,
        tenant_url=tenant_url,
        models=models,
        tenant_column=tenant_column,
        tenant_columns=tenant_columns,
        rows=rows,
        skip=skip,
        tenants=tenants,
    )
    if findings:
        raise AssertionError(told(findings))


@dataclass(frozen=True)
class _Login:
    """What a login of the runtime role begins with."""

    role: str
    settings: Mapping[str, str]
    database: tuple[Any, ...]
    tenant: str


def _log_in(url: str) -> _Login:
    with connect(url) as connection:
        row = connection.execute(
            f"""
            select session_user::text, current_user::text, current_setting('search_path'),
                current_setting('row_security'), current_setting('app.tenant_id', true),
                {_DATABASE}
            """
        ).fetchone()
    assert row is not None
    session, current, path, security, tenant, *database = row
    settings = {"search_path": path, "row_security": security}
    if current != session:
        settings["role"] = current
    return _Login(session, settings, tuple(database), tenant or "")


_NUMBERS: Final = frozenset({"bigint", "integer", "smallint", "numeric"})
_DATABASE: Final = "current_database()::text, pg_postmaster_start_time()::text"


class _Check:
    """One run of the check, in a superuser's transaction."""

    def __init__(self, connection: Connection, login: _Login, skip: Mapping[str, str]) -> None:
        self.login = login
        self.skip = skip
        self.findings: list[Leak] = []
        self.tenants = ("", "")
        self.stale: set[int] = set()  # materialized views that cannot be refreshed
        self.use(connection)

    def use(self, connection: Connection) -> None:
        """Goes on in this transaction of a superuser."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.sql_connection = connection
        self.superuser: psycopg.Connection[Any] = driver
        self._require_superuser()
        hold_sequences(self.superuser)
        self.observer = Observer(
            connection, role=self.login.role, settings=self.login.settings, tenants=self.tenants
        )

    def _require_superuser(self) -> None:
        row = self.superuser.execute(
            f"""
            select rolsuper, {_DATABASE} from pg_roles where rolname = session_user
            """
        ).fetchone()
        assert row is not None
        is_superuser, *database = row
        if tuple(database) != self.login.database:
            raise ConfigurationError(
                "the leak check's two URLs are of different databases. Give both the same server "
                "and database."
            )
        if not is_superuser:
            raise ConfigurationError(
                "the leak check needs a superuser, who sees the rows of all tenants. Run it on a "
                "server of your CI, with superuser_url=."
            )
        might = self.superuser.execute(
            """
            select case when rolsuper then 'SUPERUSER' when rolbypassrls then 'BYPASSRLS' end
            from pg_roles where rolname = %s
            """,
            [self.login.settings.get("role", self.login.role)],
        ).fetchone()
        self.mighty: str = (might and might[0]) or ""
        for name, value in (
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("track_counts", "on"),
            ("search_path", self.login.settings["search_path"]),
        ):
            self.superuser.execute("select set_config(%s, %s, true)", [name, value])

    def prepare(
        self,
        column: str,
        columns: Mapping[str, str],
        factories: Mapping[str, RowFactory],
        tenants: tuple[str, str] | None,
    ) -> None:
        """Reads the catalogue, and fills the tables."""
        catalogue = read_catalogue(self.superuser, self.login.role, column, columns)
        _require_tables({**columns, **factories}, catalogue)
        left_out = {r.oid for r in catalogue.relations.values() if self._skips(r.sql)}
        self.catalogue = Catalogue(
            {oid: r for oid, r in catalogue.relations.items() if oid not in left_out},
            [f for f in catalogue.functions if not self._skips(f.signature)],
            [s for s in catalogue.sequences if not self._skips(s)],
            catalogue.referrers,
        )
        if not any(self.catalogue.tables()):
            raise ConfigurationError(
                f"no table has a column {column!r} or a policy with app.tenant_id. Name the "
                "tenant's column with tenant_column=, and migrate the database first."
            )
        self.tenants = tenants or _two_tenants(self.catalogue)
        self.observer.tenants = self.tenants
        filler = Filler(self.superuser, self.catalogue, factories)
        for table, (root, reason) in filler.fill(self.tenants).items():
            cause = f"{root.sql} got no row of each tenant: {reason}"
            seen = f"it got no row of each tenant: {reason}"
            if root is not table:
                seen = f"it refers to {root.sql}, which got no row of each tenant"
            self._unchecked(
                table.sql, "all", f"{seen}. Give a function for {root.sql} in rows=", cause=cause
            )
        for relation in self.catalogue.relations.values():
            if relation.kind == "f" and relation.privileges:
                self._unchecked(
                    relation.sql,
                    "all",
                    "a foreign table has no row-level security, and the check cannot put rows "
                    "behind it. Revoke the role's rights, or skip it",
                    cause="a foreign table has no row-level security",
                )
        self._report_unlimited(catalogue)
        self._report_behind()
        with suppress(psycopg.Error), self.superuser.transaction():
            # Or what is deferred until now would be checked after the first statements.
            self.superuser.execute("set constraints all immediate")
        self.seeded = self._seeded()
        self._refresh_views()

    def _report_unlimited(self, catalogue: Catalogue) -> None:
        """Reports the tables of which the check cannot tell whose the rows are, nor any policy."""
        for table in catalogue.relations.values():
            above = catalogue.relations.get(table.parent or 0) if table.is_partition else None
            if table.is_unprotected and not (
                self._skips(table.sql)
                or self._skips(table.sql, UNLIMITED)
                # The table above it is reported, or left out.
                or (above and (above.is_unprotected or self._skips(above.sql)))
            ):
                may = "read" if "SELECT" in table.privileges else "change"
                self._unchecked(
                    table.sql,
                    UNLIMITED,
                    f"the tenant role may {may} it, and no policy limits it. Protect it, name its "
                    f"tenant column in tenant_columns=, or name it in skip= (as "
                    f'"{table.name}: {UNLIMITED}") if its rows are no tenant\'s',
                )

    def _report_behind(self) -> None:
        """Reports what shows a table that got no rows, since nothing tells whose its rows are."""
        for behind in tables_behind(self.superuser, self.catalogue):
            if self._skips(behind.object, UNLIMITED) or self._skips(behind.table):
                continue
            self._unchecked(
                behind.object,
                UNLIMITED,
                f"it shows the tenant role rows of {behind.table}, with the rights of another "
                "role, and nothing tells whose they are, so the check could put none there. Name "
                f"the table's tenant column in tenant_columns=, or name it in skip= (as "
                f'"{behind.name}") if its rows are no tenant\'s',
                cause=f"{behind.table} is shown with the rights of another role, and nothing tells "
                "whose its rows are",
            )

    def run(self, tenant_url: str, models: Iterable[type]) -> None:
        """Sends all statements, and judges what they did."""
        if self.login.tenant:
            self._leak(
                Statement("the login", "connect", "select current_setting('app.tenant_id')"),
                "a new connection has a tenant before any code has named one",
            )
        made = [*statements(self.catalogue, self.seeded, self.tenants), *self._through(models)]
        made = [each for each in made if not self._skips(each.object, each.kind)]
        me = self.tenants[0]
        self.observer.watch(self.catalogue.relations.values())
        beside = self.observer.run_all(made, me)
        # What the role may not send at all tells nothing, with or without the other's rows.
        asked = [n for n, seen in enumerate(beside) if not (seen.refusal and seen.refusal.is_plain)]
        alone = dict(enumerate(beside))
        with self._alone():
            sent = self.observer.run_all([made[number] for number in asked], me)
        alone |= dict(zip(asked, sent, strict=True))
        doubtful = [
            number for number in range(len(made)) if differences(
                alone[number], alone[number], beside[number]
            )
        ]  # fmt: skip
        again: dict[int, Observation] = {}
        if doubtful:
            with self._alone():
                again = dict(
                    zip(
                        doubtful,
                        self.observer.run_all([made[n] for n in doubtful], me),
                        strict=True,
                    )
                )
        self.seen = {
            (statement.object, statement.kind): seen
            for statement, seen in zip(made, beside, strict=True)
        }
        for number, statement in enumerate(made):
            self._judge(statement, alone[number], again.get(number, alone[number]), beside[number])
        self._judge_calls(made, beside)
        self._judge_views()
        self.after_login(tenant_url)
        self.without_tenant("an empty tenant", "")

    def _through(self, models: Iterable[type]) -> Iterator[Statement]:
        """Yields the statements of mapped classes."""
        for mapper in mappers_of(models):
            table = table_of(mapper, self.catalogue.relations.values())
            if table in self.seeded and table is not None:
                yield from orm_statements(mapper, table, self.seeded[table], self.sql_connection)
            elif table is None and not self._skips(str(mapper.local_table)):
                self._unchecked(
                    str(mapper.local_table),
                    "ORM",
                    f"{mapper.class_.__name__} has no table in this database. Migrate it first",
                )

    def _seeded(self) -> Seeded:
        found = {}
        for table in self.catalogue.owned():
            is_part = self.catalogue.is_part(table)
            if is_part and not table.privileges:
                continue
            own, others = (self._rows(table, tenant) for tenant in self.tenants)
            if own and others:
                found[table] = Rows(own, others, *self._beyond(table, len(own)))
            elif is_part:
                self._unchecked(
                    table.sql,
                    "all",
                    "the role may use this partition, and it got no row of each tenant. Revoke "
                    "its rights, or give a function for the parent in rows=",
                )
        return found

    def _rows(self, table: Relation, tenant: str) -> list[Row]:
        """Returns a tenant's rows, as they were made."""
        listed = ", ".join(f"rows.{column.sql}::text" for column in table.columns.values())
        only = "only " if table.kind == "r" else ""
        query = (
            f"select {listed} from {only}{table.sql} as rows "
            f"where {table.owned_by.replace('{row}', 'rows')} = %s order by tableoid, ctid"
        )
        found = self.superuser.execute(query.encode(), [tenant])
        return [dict(zip(table.columns, row, strict=True)) for row in found]

    def _beyond(self, table: Relation, own: int) -> tuple[int, int]:
        """Returns how many more of the tenant's rows the table shows, and how many of nobody's."""
        owner = table.owned_by.replace("{row}", "rows")
        row = self.superuser.execute(
            f"select count(*) filter (where {owner} = %s), count(*) filter (where {owner} is null) "
            f"from {table.sql} as rows".encode(),
            [self.tenants[0]],
        ).fetchone()
        assert row is not None
        return row[0] - own, row[1] if table.is_shared else 0

    def _refresh_views(self) -> None:
        for relation in self.catalogue.relations.values():
            if relation.kind != "m" or "SELECT" not in relation.privileges:
                continue
            try:
                with self.superuser.transaction():
                    self.superuser.execute(f"refresh materialized view {relation.sql}".encode())
            except psycopg.Error as error:
                if relation.oid not in self.stale:
                    self.stale.add(relation.oid)
                    self._unchecked(
                        relation.sql, "refresh", f"it cannot be refreshed: {said(error)}"
                    )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Runs the block without the rows of the other tenant."""
        self.superuser.execute("savepoint leak_check_alone")
        self.superuser.execute("set local session_replication_role = replica")
        for table in sorted(self.catalogue.tables(), key=lambda table: -table.depth):
            owner = table.owned_by.replace("{row}", "rows")
            self.superuser.execute(
                f"delete from {table.sql} as rows where {owner} = %s".encode(), [self.tenants[1]]
            )
        self.superuser.execute("set local session_replication_role = origin")
        self._refresh_views()
        self.observer.watch(self.catalogue.relations.values())
        try:
            yield
        finally:
            self.superuser.execute("rollback to savepoint leak_check_alone")
            self.observer.watch(self.catalogue.relations.values())

    def without_tenant(self, named: str, tenant: str | None) -> None:
        """Finds what the role sees and changes where no tenant is set."""
        self.observer.watch(self.catalogue.relations.values())
        made = [
            each for each in without_tenant(self.seeded) if not self._skips(each.object, each.kind)
        ]
        for statement, seen in zip(made, self.observer.run_all(made, tenant), strict=True):
            if seen.count if statement.kind != "select" else seen.rows not in ([], [("0",)]):
                self._leak(statement, f"it reached rows with {named} set")
            elif seen.refusal and not _is_refused(seen) and seen.refusal.state[:2] != "22":
                self._unchecked(
                    statement.object,
                    statement.kind,
                    f"with {named} set it failed: {seen.refusal.text}",
                    statement.sql,
                )

    def insert_again(self) -> None:
        """Inserts the rows of an earlier transaction, on a connection that never had a tenant."""
        self.superuser.execute("set local session_replication_role = replica")
        for table, rows in self.seeded.items():
            if not self.catalogue.is_part(table):
                for row in (*rows.own, *rows.others):
                    self.superuser.execute(insertion(table, row, by_superuser=True).encode())
        self.superuser.execute("set local session_replication_role = origin")

    def after_login(self, url: str) -> None:
        """Finds what a login of the role sees of the rows that are there already."""
        with connect(url) as connection:
            for table in self.seeded:
                statement = Statement(
                    table.sql, "select after a login", count_of_tenants(table), table
                )
                if self._skips(table.sql, statement.kind) or not table.privileges:
                    continue
                for named, tenant in (
                    ("no tenant", ""),
                    ("a tenant that has none", self._fresh(table)),
                ):
                    try:
                        with connection.transaction():
                            if tenant:
                                connection.execute(
                                    "select set_config('app.tenant_id', %s, true)", [tenant]
                                )
                            row = connection.execute(statement.sql.encode()).fetchone()
                    except psycopg.Error:
                        continue  # refused
                    if row is not None and row[0]:
                        self._leak(
                            statement, f"it saw {words.number(row[0], 'row')} with {named} set"
                        )

    def _fresh(self, table: Relation) -> str:
        """Returns the id of a tenant that has no rows."""
        named = (each for each in (table, *self.catalogue.owned()) if each.tenant)
        kind = next(each.columns[each.tenant or ""].base for each in named)
        if kind == "uuid":
            return str(uuid.uuid4())
        if kind in _NUMBERS:
            return str(uuid.uuid4().int % 2**15)
        return f"leak-check-{uuid.uuid4().hex[:12]}"

    def _judge(
        self, statement: Statement, alone: Observation, again: Observation, beside: Observation
    ) -> None:
        relations = self.catalogue.relations
        if statement.kind == THE_VIEWS_QUERY:
            return
        if statement.forbidden and beside.refusal is None:
            self._leak(statement, f"the role may {statement.forbidden}")
            return
        for oid, (less, more) in beside.foreign.items():
            self._leak(
                statement,
                f"{words.number(less, 'row')} of another tenant in {relations[oid].sql} went, "
                f"{more} came",
            )
        for oid in beside.written:
            if "SELECT" in relations[oid].privileges and not self._skips(relations[oid].sql):
                self._leak(
                    statement,
                    f"it also wrote to {relations[oid].sql}, which names no tenant and which "
                    "every tenant can read",
                )
        learned = differences(alone, again, beside)
        if learned:
            constraint = beside.refusal.constraint if beside.refusal else ""
            self._leak(statement, learned, constraint)
        refusal = beside.refusal
        if statement.own:
            self._judge_own(statement, beside)
        elif (
            refusal
            and not (beside.foreign or learned or _is_refused(beside))
            and not _needs_the_tenant(statement, refusal)
            and statement.kind != "call"
        ):
            self._unchecked(
                statement.object,
                statement.kind,
                f"it failed before it could tell: {refusal.text}",
                statement.sql,
            )

    def _judge_own(self, statement: Statement, made: Observation) -> None:
        table, refusal = statement.table, made.refusal
        assert table is not None
        if not table.is_open and table.allowed and not _needed(statement.kind) <= table.allowed:
            return  # no policy lets a tenant do this
        if refusal is not None:
            if refusal.by_policy:
                self._own(statement, "a policy refused the tenant's own row")
            elif not refusal.is_plain and not self._is_told_by_the_others(statement):
                self._unchecked(
                    statement.object,
                    statement.kind,
                    f"it failed with the tenant's own row: {refusal.text}",
                    statement.sql,
                )
            return
        rows = self.seeded[table]
        have = len(rows.own) + rows.inherited
        if statement.kind in ("select", "copy to") and statement.send is None:
            if made.count < have:
                self._own(
                    statement, f"the tenant sees {made.count} of its {words.number(have, 'row')}"
                )
            elif made.count > have + rows.shared:
                self._leak(
                    statement, f"the tenant sees {words.number(made.count, 'row')} and has {have}"
                )
        if statement.effect is not None:
            effect = made.effects.get(table.oid, 0)
            # A trigger may do something else with the rows, such as mark them as deleted.
            if effect != statement.effect and table.oid not in made.altered:
                self._own(
                    statement,
                    f"the number of the tenant's rows changed by {effect} and not by "
                    f"{statement.effect}",
                )
            elif effect == statement.effect and made.count != 1:
                self._own(statement, f"it reached {made.count} of the tenant's rows and not 1")

    def _is_told_by_the_others(self, statement: Statement) -> bool:
        """Whether the same statement about the other's rows ran, and so has told."""
        kind = statement.kind
        if kind == "own on conflict do update":
            kind = "update"  # its insert is a statement of its own
        verb, colon, command = kind.partition(":")
        seen = self.seen.get((statement.object, f"{verb} the other's{colon}{command}"))
        return seen is not None and seen.refusal is None

    def _judge_views(self) -> None:
        """Reports views that hide from a tenant what their own query shows it."""
        for view in self.catalogue.relations.values():
            query = self.seen.get((view.sql, THE_VIEWS_QUERY))
            shown = self.seen.get((view.sql, "select from a view"))
            if query is None or shown is None or query.refusal or shown.refusal:
                continue
            if query.count and not shown.count:
                self._own(
                    Statement(view.sql, "select from a view", f"select * from {view.sql}", view),
                    f"the view shows none of the {words.number(query.count, 'row')} of its query: "
                    f"it reads with the rights of its owner {view.owner}, for whom no policy lets "
                    "them through. "
                    "Create it with (security_invoker)",
                )

    def _judge_calls(self, made: list[Statement], beside: list[Observation]) -> None:
        """Reports the functions of which no call ran."""
        ran: dict[str, bool] = {}
        failed: dict[str, tuple[Statement, str]] = {}
        for statement, observation in zip(made, beside, strict=True):
            if statement.kind == "call":
                is_known = observation.refusal is None or _is_refused(observation)
                ran[statement.object] = ran.get(statement.object, False) or is_known
                if observation.refusal is not None:
                    failed[statement.object] = statement, observation.refusal.text
        for name, has_run in ran.items():
            if not has_run:
                statement, text = failed[name]
                self._unchecked(
                    name,
                    "call",
                    f"no call of it ran: {text}. Test it yourself, and skip it here",
                    statement.sql,
                )

    def _skips(self, name: str, kind: str = "") -> bool:
        bare = name.replace('"', "")
        names = {name, bare, bare.partition("(")[0].rpartition(".")[2]}
        names |= {f"{each}: {kind}" for each in [*names, bare.rpartition(".")[2]]}
        names |= {bare.rpartition(".")[2]} if "(" not in bare else set()
        return not names.isdisjoint(self.skip)

    def _leak(self, statement: Statement, seen: str, constraint: str = "") -> None:
        cause = cause_of(statement, self.catalogue, self.login.role, self.mighty, constraint)
        self.findings.append(
            Leak("leak", statement.object, statement.kind, _shown(statement.sql), seen, cause)
        )

    def _own(self, statement: Statement, seen: str) -> None:
        self.findings.append(
            Leak("own", statement.object, statement.kind, _shown(statement.sql), seen)
        )

    def _unchecked(self, name: str, kind: str, seen: str, sql: str = "", cause: str = "") -> None:
        self.findings.append(Leak("unchecked", name, kind, _shown(sql), f"{seen}.", cause))


def _needed(kind: str) -> set[str]:
    """Returns the commands whose policies a statement about a tenant's own rows needs."""
    found = {"SELECT"}
    for word, commands in {
        "insert": {"INSERT"},
        "own on conflict do update": {"INSERT", "UPDATE"},
        "update": {"UPDATE"},
        "delete": {"DELETE"},
        "merge: update": {"UPDATE"},
        "merge: delete": {"DELETE"},
    }.items():
        if kind.startswith(word):
            found |= commands
    return found - {"SELECT"} if kind == "insert" else found


def _is_refused(made: Observation) -> bool:
    refusal = made.refusal
    return refusal is not None and (
        refusal.is_plain or refusal.by_application or refusal.state in _REFUSALS
    )


def _needs_the_tenant(statement: Statement, refusal: Refusal) -> bool:
    """Whether a check constraint ties the refused values to the row's tenant."""
    table = statement.table
    check = None if table is None else table.checks.get(refusal.constraint)
    return table is not None and check is not None and table.tenant in check.columns


def _shown(sql: str) -> str:
    return " ".join(textwrap.dedent(sql).split())


def _require_tables(named: Mapping[str, object], catalogue: Catalogue) -> None:
    known = {relation.sql.replace('"', "") for relation in catalogue.relations.values()}
    known |= {relation.name for relation in catalogue.relations.values()}
    missing = sorted(named.keys() - known)
    if missing:
        raise ConfigurationError(
            f"the leak check has no table {', '.join(missing)}. Correct the name, or let the "
            "tenant's role use its schema."
        )


def _two_tenants(catalogue: Catalogue) -> tuple[str, str]:
    """Returns two ids that every tenant column takes."""
    owned = [table.columns[table.tenant] for table in catalogue.owned() if table.tenant]
    columns = {column.base for column in owned}
    if columns & _NUMBERS:
        most = 2**15 if "smallint" in columns else 2**31 if "integer" in columns else 2**62
        first = uuid.uuid4().int % (most - 2) + 1
        return str(first), str(first + 1)
    if "uuid" in columns:
        return str(uuid.uuid4()), str(uuid.uuid4())
    run = uuid.uuid4().hex
    lengths = [column.modifier - 4 for column in owned if column.modifier > 0]
    if lengths and min(lengths) < len("leak-check-a-") + 12:
        length = min(lengths)
        return f"a{run}"[:length], f"b{run}"[:length]
    return f"leak-check-a-{run[:12]}", f"leak-check-b-{run[:12]}"
