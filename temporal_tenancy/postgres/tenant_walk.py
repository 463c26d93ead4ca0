"""A statement that finds which tenants have rows, without reading the rows of any."""

from __future__ import annotations

from temporal_tenancy.postgres.library_text import LibraryText, library_text


def tenants_with(table: str, condition: str) -> LibraryText:
    """Returns the statement for the tenants after `:after`, in order, `:limit` at most.

    It reads one entry of an index for each tenant, which needs one on `tenant_id` of these rows.

    Args:
        table: one of the library's, as `tenancy.<name>`.
        condition: SQL that the rows meet.
    """
    return library_text(f"""
        with recursive found as (
            (
                select tenant_id from {table}
                where {condition} and tenant_id > :after
                order by tenant_id limit 1
            )
            union all
            select (
                select tenant_id from {table}
                where {condition} and tenant_id > found.tenant_id
                order by tenant_id limit 1
            )
            from found
            where found.tenant_id is not null
        )
        select tenant_id from found where tenant_id is not null limit :limit
    """)  # noqa: S608  # both are the library's own text
