"""Tenant ids and the keys that are built from them, so that no key forgets its tenant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator

from temporal_tenancy.core.errors import TenantInvalid, TenantMismatch, TenantMissing

PLATFORM: Final = "platform"  # reserved: the first segment of ids that are no tenant's
TENANT_ID_MAX_BYTES: Final = 63  # a PostgreSQL identifier; Temporal's fairness key holds 64
WORKFLOW_ID_MAX_CHARACTERS: Final = 255  # what every Temporal persistence store holds

_TENANT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_JOB_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # halves of pairs too


def tenant_id(value: object) -> str:
    """Returns `value` when it is a tenant id.

    Raises `TenantMissing` when it is None or empty, `TenantInvalid` when it is anything else. A
    tenant id is 1 to 63 characters of `a-z0-9_-` that begin with a letter or digit, and is not
    the reserved word `platform`.
    """
    if value is None or value == "":
        raise TenantMissing('no tenant is named. Add "tenant_id".')
    if not isinstance(value, str):
        raise TenantInvalid(f"a tenant id is a string, not {type(value).__name__}.")
    if value == PLATFORM:
        raise TenantInvalid('"platform" is reserved for work that is no tenant\'s.')
    if not _TENANT_ID.fullmatch(value):
        shown = value if len(value) <= 80 else f"{value[:80]}…"
        raise TenantInvalid(
            f"{shown!r} is not a tenant id: 1 to {TENANT_ID_MAX_BYTES} of a-z 0-9 _ -, "
            "beginning with a letter or digit."
        )
    return value


TenantId = Annotated[str, BeforeValidator(tenant_id)]
"""A pydantic field type: a string that is a tenant id."""


def job_name(value: str) -> str:
    """Returns `value` when it reads `area.verb`; raises `ValueError` otherwise."""
    if not _JOB_NAME.fullmatch(value):
        raise ValueError(f'{value!r} is not a job name: it reads "area.verb", in lower case.')
    return value


@dataclass(frozen=True)
class WorkflowId:
    """The id of a workflow: `{owner}/{job}/{key}`, where the owner is a tenant or `platform`.

    Only the first two slashes separate, so a key may hold any printable text.
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
            raise TenantMismatch("the key of a workflow id is printable text, and not empty.")
        if len(str(self)) > WORKFLOW_ID_MAX_CHARACTERS:
            raise TenantMismatch(
                f"workflow id {str(self)[:60]!r}… is longer than {WORKFLOW_ID_MAX_CHARACTERS} "
                "characters. Use a shorter key."
            )

    def __str__(self) -> str:
        return f"{self.owner}/{self.job}/{self.key}"

    @property
    def tenant(self) -> str | None:
        """The tenant that owns the workflow; None when the platform does."""
        return None if self.owner == PLATFORM else self.owner

    @classmethod
    def parse(cls, value: str) -> WorkflowId:
        """Reads `{owner}/{job}/{key}`; raises `TenantMismatch` when `value` is nothing like it."""
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
    """Builds a cache, lock, rate-limit or idempotency key: `{tenant}/{kind}/{name}`.

    `kind` says what the key is for and holds no slash, so two tenants' keys never meet and
    neither do two kinds'.
    """
    if not kind or "/" in kind:
        raise ValueError(f"{kind!r} cannot be the kind of a key.")
    return f"{tenant_id(tenant)}/{kind}/{name}"
