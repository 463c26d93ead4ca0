"""Keeps the sequences of a database where they are, whatever a transaction takes from them."""

from __future__ import annotations

from typing import Any

import psycopg

from temporal_tenancy.core.errors import ConfigurationError

# ALTER SEQUENCE … RESTART gives a sequence a new file, which goes when the transaction is rolled
# back; nextval and setval alone are never undone. Event triggers do not see it.
_HOLD = """
    do $$
    declare
        held regclass;
        last bigint;
        called boolean;
    begin
        set local session_replication_role = replica;
        for held in
            select pg_class.oid from pg_class
            join pg_namespace on pg_namespace.oid = relnamespace
            where relkind = 'S' and relpersistence <> 't' and nspname !~ '^pg_'
            order by pg_class.oid
        loop
            execute format('select last_value, is_called from %s', held) into last, called;
            execute format('alter sequence %s restart with %s', held, last);
            perform setval(held, last, called);
        end loop;
        set local session_replication_role = origin;
    end $$
"""


def hold_sequences(superuser: psycopg.Connection[Any]) -> None:
    """Undoes with the open transaction what it takes from any sequence, or sets.

    Until it ends, other connections wait for their next values.

    Raises:
        ConfigurationError: another connection has used a sequence, and its transaction is open.
    """
    try:
        superuser.execute(_HOLD)
    except psycopg.errors.LockNotAvailable:
        raise ConfigurationError(
            "another connection is using a sequence of the leak check's database. Run the check "
            "on a database of its own, after the tests that use it."
        ) from None
