"""The type of the columns that hold tenant ids, and the one spelling that each id has in it.

PostgreSQL reads `07` and `7` as one bigint, and two spellings of a UUID as one UUID. Workflow ids,
fairness keys and the library's own tables compare ids as text, so a second spelling would be a
second tenant there, with the rows of the first. Only the canonical spelling may be used.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args
from uuid import UUID

from temporal_tenancy.core.errors import ConfigurationError

TenantIdType = Literal["text", "uuid", "bigint"]
"""The type of a column that holds tenant ids, as PostgreSQL names it."""

TenantValue = str | UUID | int
"""A tenant id as Python's value of a column: text, UUID or bigint."""

BIGINT_MAX: Final = 2**63 - 1

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BIGINT: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CANONICAL: Final = {
    "uuid": "is not a UUID as PostgreSQL writes it: in lower case, with hyphens and no braces.",
    "bigint": f"is not a bigint as PostgreSQL writes it: digits without leading zeros, up to "
    f"{BIGINT_MAX}.",
}

_EXAMPLES: Final[dict[TenantIdType, str]] = {
    "text": "a",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "bigint": "0",
}

# Process-wide, and the sandbox passes this module through. Text needs no entry.
_declared: Final[set[TenantIdType]] = set()


def declare_tenant_ids(type: TenantIdType) -> None:
    """Declares the type of this process's tenant ids; `tenant_owned()` does so too.

    From then on an id that is not the canonical spelling of a value of that type is refused with
    `TenantInvalid`, wherever code would act for it. Call it at import time in a process that has
    such columns but no class made by `tenant_owned()`. Safe to repeat; `text` allows every id.

    Raises:
        ConfigurationError: the type is not one of the three, or both `uuid` and `bigint` are
            declared: no id is both.
    """
    if type not in get_args(TenantIdType):
        raise ConfigurationError(
            f"tenant ids are text, uuid or bigint, not {type!r}. Use one of these types."
        )
    if type == "text" or type in _declared:
        return
    if _declared:
        (other,) = _declared
        raise ConfigurationError(
            f"this process's tenant ids are {other}, so they cannot be {type} too: a tenant has "
            "one id. Use one type for the tenants' columns, or text beside it."
        )
    _declared.add(type)


def declared_type() -> TenantIdType:
    """Returns the type that the process has declared; `text` if none."""
    return next(iter(_declared), "text")


def example_id() -> str:
    """Returns an id of the declared type, for checks of what every tenant's input must fit."""
    return _EXAMPLES[declared_type()]


def misspelling(tenant: str, type: TenantIdType) -> str | None:
    """Returns what is wrong with an id's spelling as a value of `type`; None if nothing is."""
    return None if is_canonical(tenant, type) else _CANONICAL[type]


def is_canonical(tenant: str, type: TenantIdType) -> bool:
    """Returns whether `tenant` is the text that PostgreSQL writes for a value of `type`."""
    if type == "uuid":
        return _UUID.fullmatch(tenant) is not None
    if type == "bigint":
        return _BIGINT.fullmatch(tenant) is not None and int(tenant) <= BIGINT_MAX
    return True


def canonical_spelling(tenant: str) -> str | None:
    """Returns the canonical spelling of an id in any spelling of the declared type, or None."""
    type = declared_type()
    if type == "bigint":
        spelling = str(int(tenant)) if tenant.isdecimal() else ""
        return spelling if is_canonical(spelling, type) else None
    return spelling_of(tenant, type)


def value_of(tenant: str, type: TenantIdType) -> TenantValue:
    """Returns a tenant id, in its canonical spelling, as the value of a column of `type`."""
    if type == "uuid":
        return UUID(tenant)
    return int(tenant) if type == "bigint" else tenant


def spelling_of(value: object, type: TenantIdType) -> str | None:
    """Returns the tenant id that a value of a column of `type` names; None if it is no such value.

    A column of type `uuid` also takes a UUID in any spelling that Python's `UUID` reads.
    """
    if type == "text":
        return value if isinstance(value, str) else None
    if type == "bigint":
        is_number = isinstance(value, int) and not isinstance(value, bool)
        found = str(value) if is_number or isinstance(value, str) else ""
        return found if is_canonical(found, type) else None
    if isinstance(value, str):
        try:
            value = UUID(value)
        except ValueError:
            return None
    return str(value) if isinstance(value, UUID) else None
