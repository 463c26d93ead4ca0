"""Payload conversion by pydantic, with errors that name the fault and not the value."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from copy import copy
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    DefaultPayloadConverter,
    FailureConverter,
    PayloadConverter,
    SerializationContext,
    WithSerializationContext,
)
from temporalio.exceptions import ApplicationError, FailureError

from temporal_tenancy.core.errors import (
    ConfigurationError,
    NotAwaited,
    TenancyError,
    TooLarge,
)
from temporal_tenancy.core.inputs import TenantInput, refusal
from temporal_tenancy.core.places import (
    place_in_workflow,
    place_of_caller,
    runs_a_workflow,
    with_place,
)
from temporal_tenancy.core.redaction import words_of
from temporal_tenancy.core.tenant_id_types import example_id
from temporal_tenancy.core.words import number
from temporal_tenancy.sdk._determinism import refusal as refusal_in_workflow


class PayloadDoesNotFit(ValueError):
    """A payload does not fit the type it is decoded to; `failure` is the error to report.

    Deliberately not a Temporal failure: if an activity's result or an old history does not fit,
    the workflow task fails and is retried until a release fits, and the workflow stays open.
    """

    def __init__(self, failure: TenancyError) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


PAYLOAD_LIMIT: Final = 2 * 1024 * 1024  # bytes: the server's default


class _Refusing:
    """Marks the payload converters made here, so that none is wrapped twice."""


def require_small(payloads: Sequence[Payload], limit: int) -> None:
    """Raises `TooLarge` if the payloads of one call are together larger than `limit` bytes."""
    size = sum(payload.ByteSize() for payload in payloads)
    if size <= limit:
        return
    what = "a value"
    if activity.in_activity():
        what = f"the result or a heartbeat of the activity {activity.info().activity_type}"
    elif workflow.in_workflow():
        what = f"the result, or an input that is passed on, of {workflow.info().workflow_type}"
    raise TooLarge(
        f"{what} has {number(size, 'byte')}, and Temporal takes at most {limit:,}. Keep it in a "
        "store, such as a table or a file, and pass a reference to it."
    )


def _payload_converter(inner_class: type[PayloadConverter], limit: int) -> type[PayloadConverter]:
    bases: Any = (_Refusing, inner_class, WithSerializationContext)

    class RefusingPayloadConverter(*bases):  # type: ignore[misc]
        """Decodes like its base class, and raises `PayloadDoesNotFit` for what does not fit.

        Values that nobody could decode or store are refused before they are sent.
        """

        _context: SerializationContext | None = None

        def with_context(self, context: SerializationContext) -> Any:  # Self
            inner: Any = self
            if issubclass(inner_class, WithSerializationContext):
                inner = super().with_context(context)
            if inner is self and not isinstance(
                self._context or context, ActivitySerializationContext
            ):
                # Only that of an activity is told. For another converter the SDK would clone the
                # whole data converter.
                return self
            mine = copy(self) if inner is self else inner
            mine._context = context
            return mine

        def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
            for value in values:
                if inspect.iscoroutine(value):
                    value.close()  # or Python warns that nobody awaited it
                    raise NotAwaited(
                        with_place(
                            f"{value.__qualname__}() was passed or returned without await, so "
                            "there is a coroutine in place of its result. Write await in front of "
                            "it.",
                            place_of_caller() if workflow.in_workflow() else None,
                        )
                    )
            payloads: list[Payload] = super().to_payloads(values)
            if limit:
                require_small(payloads, limit)
            return payloads

        def from_payloads(
            self, payloads: Sequence[Payload], type_hints: list[type] | None = None
        ) -> list[Any]:
            try:
                decoded: list[Any] = super().from_payloads(payloads, type_hints)
            except ValidationError as error:
                raise PayloadDoesNotFit(refusal(error, _subject(self._context))) from None
            except TenancyError as error:
                raise PayloadDoesNotFit(error) from None
            return decoded

    return RefusingPayloadConverter


def _subject(context: SerializationContext | None) -> str:
    """Returns what payloads are that are decoded in `context`, for an error's sentence."""
    if isinstance(context, ActivitySerializationContext):
        if runs_a_workflow():
            return f"the result of the activity {context.activity_type}"
        caller = f", called by {context.workflow_type}," if context.workflow_type else ""
        return f"the input of the activity {context.activity_type}{caller}"
    return "the input"


def _failure_converter(inner_class: type[FailureConverter]) -> type[FailureConverter]:
    class RefusingFailureConverter(inner_class):  # type: ignore[misc, valid-type]
        """Reports our failure instead of the SDK's "Failed decoding arguments".

        The SDK's wrapper is retryable: an activity whose input does not fit would be retried for
        ever. Details that cannot be decoded are dropped from a failure: they would block a
        workflow that waits for the children of several tenants.
        """

        def to_failure(
            self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
        ) -> None:
            cause = exception.__cause__
            where = place_in_workflow(exception)
            refused = refusal_in_workflow(exception)
            if refused is not None:
                exception = refused
            elif isinstance(cause, PayloadDoesNotFit):
                exception = cause.failure
            elif isinstance(exception, PayloadDoesNotFit):
                exception = exception.failure
            elif isinstance(exception, ValidationError):
                # Raised by user code. Its own text repeats the values that did not fit.
                sanitized = refusal(exception, f"a value of {exception.title}")
                exception = ApplicationError(sanitized.message, type="ValidationError")
            super().to_failure(exception, payload_converter, failure)
            words = words_of(exception)
            if failure.message and failure.message == _own_words(exception):
                failure.message = words
            # Whoever raises an error for people in workflow code chooses its words.
            if isinstance(exception, TenancyError) or not isinstance(exception, FailureError):
                failure.message = with_place(failure.message, where)

        def from_failure(
            self, failure: Failure, payload_converter: PayloadConverter
        ) -> BaseException:
            error: BaseException
            try:
                error = super().from_failure(failure, payload_converter)
            except Exception:  # any code may have written the details, so any error is possible
                error = super().from_failure(_without_details(failure), payload_converter)
            return error

    return RefusingFailureConverter


def _own_words(error: BaseException) -> str | None:
    if isinstance(error, FailureError):
        return error.message
    try:
        return str(error)
    except Exception:  # any class's own __str__
        return None


def compose(existing: DataConverter | None, *, limit: int = PAYLOAD_LIMIT) -> DataConverter:
    """Returns the user's data converter with ours on top; its codec and storage stay.

    The SDK's default payload converter is replaced by the pydantic one. `limit` is the largest
    size of one call's values, in bytes; the size is left to the server where the user's converter
    has a codec or an external storage.

    Raises:
        ConfigurationError: the user's payload converter cannot carry pydantic models.
    """
    base = existing or DataConverter.default
    if issubclass(base.payload_converter_class, _Refusing):
        return base
    inner = base.payload_converter_class
    if inner is DefaultPayloadConverter:
        inner = PydanticPayloadConverter
    _require_models(inner)
    # A codec may compress values, and external storage takes large ones.
    is_shrunk = bool(base.payload_codec or getattr(base, "external_storage", None))
    return dataclasses.replace(
        base,
        payload_converter_class=_payload_converter(inner, 0 if is_shrunk else limit),
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
    probe = _Probe(tenant_id=example_id(), tags=frozenset({"a"}))
    converter = converter_class()
    try:
        [decoded] = converter.from_payloads(converter.to_payloads([probe]), [_Probe])
    except Exception as error:  # whichever a foreign converter raises
        raise ConfigurationError(_CANNOT.format(converter_class.__qualname__)) from error
    if not isinstance(decoded, BaseModel) or decoded != probe:
        raise ConfigurationError(_CANNOT.format(converter_class.__qualname__))


_CANNOT = (
    "the payload converter {} does not carry pydantic models. Derive it from "
    "temporalio.contrib.pydantic.PydanticPayloadConverter."
)
