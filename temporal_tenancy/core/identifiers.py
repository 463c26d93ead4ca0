"""Tenant ids, and the workflow ids, keys and folders that are built from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator

from temporal_tenancy.core.errors import KeyInvalid, TenantInvalid, TenantMismatch, TenantMissing
from temporal_tenancy.core.tenant_id_types import TenantIdType, declared_type, misspelling

PLATFORM: Final = "platform"  # reserved: the first segment of ids that belong to no tenant
TENANT_ID_MAX_BYTES: Final = 63  # fits a PostgreSQL identifier, and a fairness key (64)
WORKFLOW_ID_MAX_CHARACTERS: Final = 255  # fits every Temporal persistence store

_TENANT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_FOLDER: Final = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})(?:\.([1-9a-f][0-9a-f]{0,15}))?")
_JOB_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f\ud800-\udfff]"
)  # control characters and lone surrogates


def tenant_id(value: object) -> str:
    """Returns `value` if it is a tenant id.

    A tenant id has 1 to 63 characters of `A-Za-z0-9_-` and begins with a letter or digit. Ids are
    compared exactly: `acme` and `ACME` are two ids. The word `platform` is reserved, in any case.

    Raises:
        TenantMissing: `value` is None or empty.
        TenantInvalid: it is anything else, or not the canonical spelling of the type that
            `declare_tenant_ids` has declared.
    """
    found = well_formed(value)
    require_canonical(found)
    return found


def well_formed(value: object) -> str:
    """Like `tenant_id`, but accepts every spelling; for ids that are read and not acted for."""
    if value is None or value == "":
        raise TenantMissing('no tenant is named. Add "tenant_id".')
    if not isinstance(value, str):
        raise TenantInvalid(
            f"a tenant id must be a string, not {type(value).__name__}. Give the id's text."
        )
    if value.lower() == PLATFORM:
        raise TenantInvalid(f'"{value}" is reserved for work that belongs to no tenant.')
    if not _TENANT_ID.fullmatch(value):
        shown = value if len(value) <= 80 else f"{value[:80]}…"
        raise TenantInvalid(
            f"{shown!r} is not a tenant id: 1 to {TENANT_ID_MAX_BYTES} of A-Z a-z 0-9 _ -, "
            "and the first is a letter or digit."
        )
    return value


def may_exist(value: object) -> bool:
    """Returns whether `value`, the id of a tenant to look up, can be an id, in any spelling.

    Raises:
        TenantMissing: `value` is None.
        TenantInvalid: it is no text, such as a number or a scope.
    """
    if isinstance(value, str):
        return _TENANT_ID.fullmatch(value) is not None
    return bool(well_formed(value))  # raises


def require_canonical(tenant: str, type: TenantIdType | None = None) -> None:
    """Raises `TenantInvalid` if `tenant` is not the canonical spelling of a value of `type`.

    None stands for the declared type; where none is declared, each spelling is an id of its own.
    """
    reason = misspelling(tenant, type or declared_type())
    if reason is not None:
        raise TenantInvalid(f"{tenant!r} {reason}")


TenantId = Annotated[str, BeforeValidator(tenant_id)]
"""A pydantic field type: a string that is a tenant id."""

WellFormedTenantId = Annotated[str, BeforeValidator(well_formed)]
"""A pydantic field type: a string that has the form of a tenant id, in any spelling."""


def tenant_folder(tenant: str) -> str:
    """Returns the name under which a tenant's files are kept, in folders and object stores.

    Two ids never get the same name, also where case does not count. A lower-case id is its own
    name. For another, the name is the id in lower case, a dot, and in hexadecimal digits which
    characters are capitals (the first character is the lowest bit): `ACME-eu` is `acme-eu.f`.

    Raises:
        TenantMissing: the tenant is empty.
        TenantInvalid: it is not a tenant id.
    """
    capitals = sum(1 << i for i, letter in enumerate(tenant_id(tenant)) if letter.isupper())
    return f"{tenant.lower()}.{capitals:x}" if capitals else tenant


def tenant_of_folder(name: str) -> str:
    """Returns the tenant id whose `tenant_folder` is `name`.

    Raises:
        TenantInvalid: no tenant's folder has this name.
    """
    if not isinstance(name, str):
        raise TenantInvalid(f"the name of a tenant's folder is text, not {type(name).__name__}.")
    parts = _FOLDER.fullmatch(name)
    if parts is not None:
        lower, capitals = parts[1], int(parts[2] or "0", 16)
        found = "".join(
            letter.upper() if capitals >> i & 1 else letter for i, letter in enumerate(lower)
        )
        if tenant_folder(found) == name:
            return found
    shown = name if len(name) <= 80 else f"{name[:80]}…"
    raise TenantInvalid(f"{shown!r} is not the name of a tenant's folder.")


def job_name(value: str) -> str:
    """Returns `value` if it has the form `area.verb`.

    Raises:
        ValueError: it does not.
    """
    if not _JOB_NAME.fullmatch(value):
        raise ValueError(f'{value!r} is not a job name. Use the form "area.verb", in lower case.')
    return value


@dataclass(frozen=True)
class WorkflowId:
    """A workflow id, `{owner}/{job}/{key}`, where the owner is a tenant id or `platform`.

    Only the first two slashes are separators; the key can be any printable text. The id has at
    most 255 characters.

    Raises:
        TenantInvalid: the owner is not a tenant id.
        TenantMismatch: the job is malformed.
        KeyInvalid: the key is not printable text, or the id is too long with it.
    """

    owner: str
    job: str
    key: str

    def __post_init__(self) -> None:
        if self.owner != PLATFORM:
            tenant_id(self.owner)
        if not isinstance(self.job, str) or not self.job or "/" in self.job:
            raise TenantMismatch(f"{self.job!r} cannot be the job of a workflow id.")
        if not isinstance(self.key, str) or not self.key or _UNPRINTABLE.search(self.key):
            raise KeyInvalid(
                "a key must be printable text and not empty: without line breaks, control "
                "characters and halves of characters. Give another key."
            )
        if len(str(self)) > WORKFLOW_ID_MAX_CHARACTERS:
            raise KeyInvalid(
                f"workflow id {str(self)[:60]!r}… is longer than {WORKFLOW_ID_MAX_CHARACTERS} "
                "characters. Use a shorter key."
            )

    def __str__(self) -> str:
        return f"{self.owner}/{self.job}/{self.key}"

    @property
    def tenant(self) -> str | None:
        """The tenant that owns the workflow; None if the platform owns it."""
        return None if self.owner == PLATFORM else self.owner

    @classmethod
    def parse(cls, value: str) -> WorkflowId:
        """Parses `{owner}/{job}/{key}`.

        Raises:
            TenantMismatch: `value` does not have this form.
        """
        parts = value.split("/", 2) if isinstance(value, str) else []
        if len(parts) != 3 or not all(parts):
            raise TenantMismatch(f'workflow id "{value}" is not {{tenant}}/{{job}}/{{key}}.')
        try:
            return cls(*parts)
        except (TenantInvalid, KeyInvalid) as error:
            raise TenantMismatch(
                f'workflow id "{value}" is not {{tenant}}/{{job}}/{{key}}: {error.message}'
            ) from None


def scoped_key(tenant: str, kind: str, name: str) -> str:
    """Returns `{tenant}/{kind}/{name}`, a key for a cache, lock, rate limit or idempotency check.

    Keys of different tenants or of different kinds never collide.

    Args:
        tenant: a tenant id.
        kind: what the key is for, without a slash.
        name: any text.

    Raises:
        TenantMissing: the tenant is empty.
        TenantInvalid: it is not a tenant id.
        ValueError: `kind` is empty or has a slash.
    """
    if not isinstance(kind, str) or not kind or "/" in kind:
        raise ValueError(f"{kind!r} cannot be the kind of a key.")
    return f"{tenant_id(tenant)}/{kind}/{name}"
