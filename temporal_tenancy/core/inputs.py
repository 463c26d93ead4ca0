"""Input models of workflows, with the tenant as a required field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from temporal_tenancy.core.errors import (
    ConfigurationError,
    InvalidPayload,
    TenancyError,
    TenantMissing,
)
from temporal_tenancy.core.field_problems import problem_of_field
from temporal_tenancy.core.identifiers import TenantId


class TenantInput(BaseModel):
    """The input of a tenant's workflow, or of an activity that names the tenant it works for.

    Subclass it. Workers ignore unknown fields, because an old worker can receive the input of a
    newer caller; the doors through which users start jobs reject them (`read_input`).
    """

    # Infinity and NaN are no JSON: they would arrive as null.
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    tenant_id: TenantId


class PlatformInput(BaseModel):
    """The input of a platform workflow."""

    # Infinity and NaN are no JSON: they would arrive as null.
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class JobInput(PlatformInput):
    """The input of a platform workflow that manages a tenant job, such as a fan-out.

    The workflow id names that job: `platform/{job}/{key}`.
    """

    job: str


class TenantJobInput(TenantInput):
    """The input of a workflow that runs another tenant job's work, such as a batch of messages.

    The workflow id names that job, `{tenant}/{job}/{key}`, and that job's checks apply.
    """

    job: str


class Internal:
    """Marks an input's field that only the workflow's own runs set: `Annotated[int, Internal]`.

    Such a field carries a total or a position into a run that continues as new. No API shows it,
    and `request_job()` rejects it.
    """


Model = TypeVar("Model", bound=BaseModel)


def internal_fields(model: type[BaseModel]) -> frozenset[str]:
    """Returns the names of the fields that are marked `Internal`."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if any(each is Internal or isinstance(each, Internal) for each in field.metadata)
    )


def read_input(model: type[Model], value: Any, *, what: str) -> Model:
    """Validates an input and rejects unknown fields, for the doors through which jobs start.

    The errors do not repeat the input's values, except for a tenant id that is invalid.

    Args:
        model: the model to validate against.
        value: a mapping, or JSON as text or bytes.
        what: the subject of the error's sentence, such as "the input of billing.cycle".

    Raises:
        TenantMissing: the input names no tenant.
        TenantInvalid: its tenant id is malformed or reserved.
        InvalidPayload: it does not fit the model.
    """
    try:
        if isinstance(value, str | bytes):
            return model.model_validate_json(value, extra="forbid")
        return model.model_validate(value, extra="forbid")
    except ValidationError as error:
        raise refusal(error, what, model) from None
    except TenantMissing:
        raise TenantMissing(f'{what} names no tenant. Add "tenant_id".') from None


def refusal(
    error: ValidationError, what: str, model: type[BaseModel] | None = None
) -> TenancyError:
    """Converts pydantic's error to ours: fields and what is wrong with each, without the values.

    Args:
        error: as the model raised it.
        what: the subject of the sentence, such as "the input of billing.cycle".
        model: the model, whose field that is nearest to an unknown one is named.
    """
    found = error.errors(include_url=False, include_input=False)
    if any(e["type"] == "missing" and e["loc"] == ("tenant_id",) for e in found):
        return TenantMissing(f'{what} names no tenant. Add "tenant_id".')
    known = () if model is None else set(model.model_fields) - internal_fields(model)
    places = "; ".join(problem_of_field(each, known) for each in found[:5])
    more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
    fits = "do not fit" if _PLURAL.match(what) else "does not fit"
    return InvalidPayload(f"{what} {fits}: {places}{more}.")


_PLURAL: Final = re.compile(r"the (?:parameters|fields|settings|records) of ")


def require_plain_tenant_id(model: type[BaseModel], what: str) -> None:
    """Raises `ConfigurationError` if a subclass of `TenantInput` relaxes the field `tenant_id`."""
    inherited, field = TenantInput.model_fields["tenant_id"], model.model_fields["tenant_id"]
    relaxed = (
        not field.is_required()
        or field.annotation is not inherited.annotation
        or field.metadata != inherited.metadata
        or (field.alias, field.validation_alias, field.serialization_alias) != (None,) * 3
        or not model.model_config.get("frozen")
        or model.model_config.get("alias_generator") is not None
    )
    if relaxed:
        raise ConfigurationError(
            f'{what} changes "tenant_id". Leave it as in TenantInput: a required, frozen tenant id '
            "without an alias."
        )


def tenants_named(value: Any) -> set[Any]:
    """Returns each `tenant_id` in `value`: a model, a mapping, or a list or tuple of these.

    Use it only to detect that a value names another tenant, never to choose the tenant.
    """
    if isinstance(value, BaseModel):
        return {named} if (named := getattr(value, "tenant_id", None)) is not None else set()
    if isinstance(value, Mapping):
        return {named} if isinstance(named := value.get("tenant_id"), str) else set()
    if isinstance(value, list | tuple):
        return set().union(*(tenants_named(item) for item in value))
    return set()
