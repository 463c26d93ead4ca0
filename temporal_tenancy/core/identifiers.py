"""Tenant ids, and the workflow ids and keys that are built from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator

from temporal_tenancy.core.errors import TenantInvalid, TenantMismatch, TenantMissing

PLATFORM: Final = "platform"  # reserved: the first segment of ids that belong to no tenant
TENANT_ID_MAX_BYTES: Final = 63  # fits a PostgreSQL identifier, and a fairness key (64)
WORKFLOW_ID_MAX_CHARACTERS: Final = 255  # fits every Temporal persistence store

_TENANT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_JOB_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f\ud800-\udfff]"
)  # control characters and lone surrogates


def tenant_id(value: object) -> str:
    """Returns `value` if it is a tenant id.

    A tenant id has 1 to 63 characters of `a-z0-9_-` and begins with a letter or digit. The word
    `platform` is reserved.

    Raises:
        TenantMissing: `value` is None or empty.
        TenantInvalid: it is anything else.
    """
    if value is None or value == "":
        raise TenantMissing('no tenant is named. Add "tenant_id".')
    if not isinstance(value, str):
        raise TenantInvalid(f"a tenant id must be a string, not {type(value).__name__}.")
    if value == PLATFORM:
        raise TenantInvalid('"platform" is reserved for work that belongs to no tenant.')
    if not _TENANT_ID.fullmatch(value):
        shown = value if len(value) <= 80 else f"{value[:80]}…"
        raise TenantInvalid(
            f"{shown!r} is not a tenant id: 1 to {TENANT_ID_MAX_BYTES} of a-z 0-9 _ -, "
            "and the first is a letter or digit."
        )
    return value


TenantId = Annotated[str, BeforeValidator(tenant_id)]
"""A valid tenant id, as a field of a pydantic model."""
"""A pydantic field type: a string that is a tenant id."""


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
        TenantMismatch: the job or key is malformed, or the id is too long.
    """

    owner: str
    job: str
    key: str

    def __post_init__(self) -> None:
        if self.owner != PLATFORM:
            tenant_id(self.owner)
        if not self.job or "/" in self.job:
            raise TenantMismatch(f"{self.job!r} cannot be the job of a workflow id.")
        if not self.key or _UNPRINTABLE.search(self.key):
            raise TenantMismatch("the key of a workflow id must be printable text and not empty.")
        if len(str(self)) > WORKFLOW_ID_MAX_CHARACTERS:
            raise TenantMismatch(
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
        parts = value.split("/", 2)
        if len(parts) != 3 or not all(parts):
            raise TenantMismatch(f'workflow id "{value}" is not {{tenant}}/{{job}}/{{key}}.')
        try:
            return cls(*parts)
        except TenantInvalid as error:
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
    if not kind or "/" in kind:
        raise ValueError(f"{kind!r} cannot be the kind of a key.")
    return f"{tenant_id(tenant)}/{kind}/{name}"
