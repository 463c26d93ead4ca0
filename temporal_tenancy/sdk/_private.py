"""The SDK's private names that the library uses, and the public ones that could replace them.

A new release of the SDK may change any of them without notice, so no other module uses them: a
test searches the tree. (`core` cannot import this module, so it has two such names in
`temporal_tenancy.core._private`.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.message import Message
from temporalio import activity, workflow

# The guard reads the messages between the SDK's core and workflow code: no interceptor sees the
# start before `__init__`, nor a command as it is sent. A public replacement would be an interceptor
# around `WorkflowInstance.activate`, or these messages under `temporalio.api`.
from temporalio.bridge.proto.workflow_activation import InitializeWorkflow, WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.service import RPCError, RPCStatusCode, ServiceClient

if TYPE_CHECKING:
    # The public property `ServiceClient.worker_service_client` returns it.
    from temporalio.service import _BridgeServiceClient
    from temporalio.worker import Worker

__all__ = [
    "ERROR_IDENTIFIER",
    "ActivityDefinition",
    "CheckingServiceClient",
    "InitializeWorkflow",
    "WorkflowActivation",
    "WorkflowActivationCompletion",
    "WorkflowCommand",
    "WorkflowDefinition",
    "activity_definition",
    "activity_name",
    "is_bound_by_sdk",
    "mark_shut_down",
    "signal_method",
    "update_method",
    "workflow_definition",
]

Response = TypeVar("Response", bound=Message)

_TIME_IS_UP: Final = "Timeout expired"  # the message of the core's own timeout

# The argument of the public method `WorkflowRunner.prepare_workflow`. A public replacement would
# be a public type.
WorkflowDefinition = workflow._Definition

# The name, function and argument types of an activity: the plugin checks them before a worker takes
# work. A public replacement would be a way to ask a function for them.
ActivityDefinition = activity._Definition

# The attribute that the SDK sets on the log record of a failed task, which our lines leave out. A
# public replacement would be a list of the attributes that the SDK sets.
ERROR_IDENTIFIER: Final = "__temporal_error_identifier"


def workflow_definition(cls: type) -> WorkflowDefinition:
    """Returns what `@workflow.defn` recorded on a class: its name and its handlers.

    A public replacement would be a way to ask a class for them.

    Raises:
        ValueError: the class has no `@workflow.defn`.
    """
    return workflow._Definition.must_from_class(cls)


def activity_definition(function: Callable[..., Any]) -> ActivityDefinition:
    """Returns what `@activity.defn` recorded on a function.

    Raises:
        TypeError: the function has no `@activity.defn`.
    """
    return activity._Definition.must_from_callable(function)


def activity_name(function: object) -> str | None:
    """Returns the name of an activity; None if `function` is none, or one that takes any name."""
    found = activity._Definition.from_callable(function) if callable(function) else None
    return found.name if found is not None else None


def signal_method(cls: type, name: str) -> Callable[..., Any] | None:
    """Returns a workflow class's method for a signal; None if it has none of that name.

    The public `workflow.get_signal_handler` returns for an async method a closure that accepts any
    arguments. It could replace this if the closure had the method's signature.
    """
    own = workflow_definition(cls).signals.get(name)
    return own.fn if own else None


def update_method(cls: type, name: str) -> Callable[..., Any] | None:
    """Returns a workflow class's method for an update, as `signal_method` does for a signal."""
    own = workflow_definition(cls).updates.get(name)
    return own.fn if own else None


def is_bound_by_sdk(handler: Callable[..., Any]) -> bool:
    """Whether a handler is the SDK's closure around a workflow's method.

    It would not be needed if the closure had the method's signature.
    """
    return getattr(handler, "__module__", None) == workflow._SignalDefinition.__module__


def mark_shut_down(worker: Worker) -> None:
    """Marks a worker that never started as shut down, as the SDK's own validation does.

    Otherwise `async with worker` would wait for its end for ever. A public replacement would be a
    `run_worker` hook whose error ends the worker.
    """
    worker._shutdown_complete_event.set()


class CheckingServiceClient(ServiceClient):
    """A connection that wraps another one, and checks each request before it is sent.

    A public replacement would be an interceptor of RPCs, as gRPC has.
    """

    def __init__(self, inner: ServiceClient) -> None:
        super().__init__(inner.config)
        self._inner = inner

    @abstractmethod
    def admit(self, service: str, rpc: str, request: Any) -> Any:  # messages
        """Returns the message to send for `request`; an error keeps it from being sent."""

    def time_limit(self, rpc: str, request: Any) -> timedelta | None:  # a message
        """Returns how long to wait for an answer; None: as long as the SDK does, 30 s or 70 s."""
        return None

    @property
    def worker_service_client(self) -> _BridgeServiceClient:
        # A worker takes the core's connection out of it, and nothing else. It may do so in a
        # tenant's scope, so this is not refused there; calls through it are checked instead.
        bridge = copy(self._inner.worker_service_client)
        for name, service in vars(self).items():
            if name.endswith("_service"):
                setattr(bridge, name, service)
        return bridge

    async def _rpc_call(
        self,
        rpc: str,
        req: Any,  # a message
        resp_type: type[Response],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,  # noqa: ASYNC109  # the SDK's own signature
    ) -> Response:
        try:
            return await self._inner._rpc_call(
                rpc,
                self.admit(service, rpc, req),
                resp_type,
                service=service,
                retry=retry,
                metadata=metadata,
                timeout=timeout or self.time_limit(rpc, req),
            )
        except RPCError as error:
            # The core calls a request cancelled whose time was up before the server answered.
            if error.status is not RPCStatusCode.CANCELLED or error.message != _TIME_IS_UP:
                raise
            raise RPCError(
                error.message, RPCStatusCode.DEADLINE_EXCEEDED, error.raw_grpc_status
            ) from None
