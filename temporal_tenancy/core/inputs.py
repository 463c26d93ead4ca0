"""What workflows take: models in which the tenant is a required field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from temporal_tenancy.core.errors import (
    ConfigurationError,
    InvalidPayload,
    TenancyError,
    TenantMissing,
)
from temporal_tenancy.core.identifiers import TenantId


class TenantInput(BaseModel):
    """The input of a tenant's workflow, and of activities that name the tenant they enter.

    Unknown fields are passed over here, since an old worker may meet a newer caller; the doors
    through which people start jobs refuse them (`read_input`).
    """

    model_config = ConfigDict(frozen=True)

    tenant_id: TenantId


class PlatformInput(BaseModel):
    """The input of a platform workflow."""

    model_config = ConfigDict(frozen=True)


class JobInput(PlatformInput):
    """The input of a platform workflow that works on a job of the tenants', like a fan-out.

    Such a workflow's id carries that job: `platform/{job}/{key}`.
    """

    job: str


class TenantJobInput(TenantInput):
    """The input of a workflow that does one of a tenant's jobs in another way than the job's own.

    Such a workflow's id carries that job: `{tenant}/{job}/{key}`, and so do its checks.
    """

    job: str


Model = TypeVar("Model", bound=BaseModel)


def read_input(model: type[Model], value: Any, *, what: str) -> Model:
    """Validates `value` (a mapping, JSON text or bytes) strictly enough for a door.

    Unknown fields are refused. `what` names the input in the sentence. Raises `TenantMissing`,
    `TenantInvalid` or `InvalidPayload`; none of them repeats a value of the input.
    """
    try:
        if isinstance(value, str | bytes):
            return model.model_validate_json(value, extra="forbid")
        return model.model_validate(value, extra="forbid")
    except ValidationError as error:
        raise refusal(error, what) from None
    except TenantMissing:
        raise TenantMissing(f'{what} names no tenant. Add "tenant_id".') from None


def refusal(error: ValidationError, what: str) -> TenancyError:
    """Turns pydantic's error into ours: where and what is wrong, without the input's values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(e["type"] == "missing" and e["loc"] == ("tenant_id",) for e in found):
        return TenantMissing(f'{what} names no tenant. Add "tenant_id".')
    places = "; ".join(
        f"{'.'.join(_named(part) for part in e['loc'])}: {e['msg']}" if e["loc"] else e["msg"]
        for e in found[:5]
    )
    more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
    return InvalidPayload(f"{what} does not fit {error.title}: {places}{more}.")


def _named(part: int | str) -> str:
    """A field's name, which is whoever's sent it: cut where it is very long."""
    name = str(part)
    return name if len(name) <= 80 else f"{name[:80]}…"


def require_plain_tenant_id(model: type[BaseModel], what: str) -> None:
    """Raises `ConfigurationError` where a subclass has softened `TenantInput`'s own field."""
    inherited, field = TenantInput.model_fields["tenant_id"], model.model_fields["tenant_id"]
    softened = (
        not field.is_required()
        or field.annotation is not inherited.annotation
        or field.metadata != inherited.metadata
        or (field.alias, field.validation_alias, field.serialization_alias) != (None,) * 3
        or not model.model_config.get("frozen")
        or model.model_config.get("alias_generator") is not None
    )
    if softened:
        raise ConfigurationError(
            f'{what} changes "tenant_id". Leave it as TenantInput has it: required, by that name, '
            "a tenant id, and frozen."
        )


def tenants_named(value: Any) -> set[Any]:
    """Whatever a value calls its `tenant_id`: a model, a mapping, or items of a list of these.

    It is only for telling that something names another tenant, never for choosing one.
    """
    if isinstance(value, BaseModel):
        return {named} if (named := getattr(value, "tenant_id", None)) is not None else set()
    if isinstance(value, Mapping):
        return {named} if isinstance(named := value.get("tenant_id"), str) else set()
    if isinstance(value, list | tuple):
        return set().union(*(tenants_named(item) for item in value))
    return set()
