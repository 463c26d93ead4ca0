"""Payload conversion: pydantic models, and errors that say what is wrong without repeating it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import (
    DataConverter,
    DefaultPayloadConverter,
    FailureConverter,
    PayloadConverter,
)
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import ConfigurationError, TenancyError
from temporal_tenancy.core.inputs import TenantInput, refusal


class PayloadDoesNotFit(ValueError):
    """A payload does not fit the type it is decoded to; `failure` says so in our words.

    It is no failure of Temporal's itself: where an activity's result or an old history does not
    fit, the workflow task fails and waits for a release that fits, and the workflow lives on.
    """

    def __init__(self, failure: TenancyError) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class _Refusing:
    """Marks the payload converters made here, so that none is made twice."""


def _payload_converter(inner_class: type[PayloadConverter]) -> type[PayloadConverter]:
    class RefusingPayloadConverter(_Refusing, inner_class):  # type: ignore[misc, valid-type]
        """Decodes as the class under it does, and says in our words what does not fit."""

        def from_payloads(
            self, payloads: Sequence[Payload], type_hints: list[type] | None = None
        ) -> list[Any]:
            try:
                decoded: list[Any] = super().from_payloads(payloads, type_hints)
            except ValidationError as error:
                raise PayloadDoesNotFit(refusal(error, "the input")) from None
            except TenancyError as error:
                raise PayloadDoesNotFit(error) from None
            return decoded

    return RefusingPayloadConverter


def _failure_converter(inner_class: type[FailureConverter]) -> type[FailureConverter]:
    class RefusingFailureConverter(inner_class):  # type: ignore[misc, valid-type]
        """Puts our failure in the place of the SDK's "Failed decoding arguments".

        The SDK's wrapper is retryable: an activity whose input does not fit would be tried again
        for ever. And leaves out of a failure the details that cannot be decoded: whoever waits for
        several children, of several tenants, would wait for ever.
        """

        def to_failure(
            self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
        ) -> None:
            cause = exception.__cause__
            if isinstance(cause, PayloadDoesNotFit):
                exception = cause.failure
            elif isinstance(exception, PayloadDoesNotFit):
                exception = exception.failure
            elif isinstance(exception, ValidationError):
                # Raised by user code. Its own text repeats the values that did not fit.
                found = refusal(exception, "a value")
                exception = ApplicationError(found.message, type="ValidationError")
            super().to_failure(exception, payload_converter, failure)

        def from_failure(
            self, failure: Failure, payload_converter: PayloadConverter
        ) -> BaseException:
            found: BaseException
            try:
                found = super().from_failure(failure, payload_converter)
            except Exception:  # whatever a converter raises at details of others' making
                found = super().from_failure(_without_details(failure), payload_converter)
            return found

    return RefusingFailureConverter


def compose(existing: DataConverter | None) -> DataConverter:
    """Puts the converter on top of the user's own, whose codec and storage stay as they are.

    The SDK's default becomes the pydantic one. Raises `ConfigurationError` when the user's own
    payload converter cannot carry a pydantic model.
    """
    base = existing or DataConverter.default
    if issubclass(base.payload_converter_class, _Refusing):
        return base
    inner = base.payload_converter_class
    if inner is DefaultPayloadConverter:
        inner = PydanticPayloadConverter
    _require_models(inner)
    return dataclasses.replace(
        base,
        payload_converter_class=_payload_converter(inner),
        failure_converter_class=_failure_converter(base.failure_converter_class),
    )


_DETAILS: Final = {
    "application_failure_info": "details",
    "canceled_failure_info": "details",
    "timeout_failure_info": "last_heartbeat_details",
    "reset_workflow_failure_info": "last_heartbeat_details",
}


def _without_details(failure: Failure) -> Failure:
    bare = Failure()
    bare.CopyFrom(failure)
    kind = bare.WhichOneof("failure_info")
    if kind in _DETAILS:
        getattr(bare, kind).ClearField(_DETAILS[kind])
    return bare


class _Probe(TenantInput):
    tags: frozenset[str]


def _require_models(converter_class: type[PayloadConverter]) -> None:
    probe = _Probe(tenant_id="probe", tags=frozenset({"a"}))
    converter = converter_class()
    try:
        [back] = converter.from_payloads(converter.to_payloads([probe]), [_Probe])
    except Exception as error:  # whatever a foreign converter raises, the answer is the same
        raise ConfigurationError(_CANNOT.format(converter_class.__qualname__)) from error
    if not isinstance(back, BaseModel) or back != probe:
        raise ConfigurationError(_CANNOT.format(converter_class.__qualname__))


_CANNOT = (
    "the payload converter {} does not carry pydantic models. Derive it from "
    "temporalio.contrib.pydantic.PydanticPayloadConverter."
)
