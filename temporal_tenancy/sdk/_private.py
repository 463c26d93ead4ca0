"""What the library uses of the SDK that is not public, and what would replace each.

A new release of the SDK may change any of it without notice, so that no other module names it: a
test reads the tree. (`core`, which cannot import this, has two names of its own in
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

# The guard looks at what goes between the SDK's core and workflow code: no interceptor sees the
# start before `__init__`, nor a command as it is sent. Public would be an interceptor around
# `WorkflowInstance.activate`, or these messages under `temporalio.api`.
from temporalio.bridge.proto.workflow_activation import InitializeWorkflow, WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.service import ServiceClient
from temporalio.worker import Worker

if TYPE_CHECKING:
    # What `ServiceClient.worker_service_client`, which is public, returns.
    from temporalio.service import _BridgeServiceClient

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
    "is_bound_by_sdk",
    "mark_shut_down",
    "signal_method",
    "update_method",
    "workflow_definition",
]

Response = TypeVar("Response", bound=Message)

# The argument of `WorkflowRunner.prepare_workflow`, which is public. A public type would do.
WorkflowDefinition = workflow._Definition

# Under which name, with which function and argument types an activity is served: the plugin checks
# each before a worker takes work. Public would be a way to ask a function for it.
ActivityDefinition = activity._Definition

# The field with which the SDK marks the log record of a task that failed. It is left out of our
# lines; a public list of what the SDK puts on its records would do.
ERROR_IDENTIFIER: Final = "__temporal_error_identifier"


def workflow_definition(cls: type) -> WorkflowDefinition:
    """What `@workflow.defn` has made of a class; raises `ValueError` where it is not on it.

    For the names and handlers of a workflow. Public would be a way to ask a class for them.
    """
    return workflow._Definition.must_from_class(cls)


def activity_definition(function: Callable[..., Any]) -> ActivityDefinition:
    """What `@activity.defn` has made of a function; raises `TypeError` where it is not on it."""
    return activity._Definition.must_from_callable(function)


def signal_method(cls: type, name: str) -> Callable[..., Any] | None:
    """The method that a workflow class has for a signal; None where it has none by that name.

    `workflow.get_signal_handler` is public, and gives for an async method a closure that takes
    anything. One with the method's own signature would do.
    """
    own = workflow_definition(cls).signals.get(name)
    return own.fn if own else None


def update_method(cls: type, name: str) -> Callable[..., Any] | None:
    """As `signal_method`, for an update."""
    own = workflow_definition(cls).updates.get(name)
    return own.fn if own else None


def is_bound_by_sdk(handler: Callable[..., Any]) -> bool:
    """Whether a handler is the SDK's closure around a workflow's method.

    With handlers that have the method's own signature nobody would have to ask.
    """
    return getattr(handler, "__module__", None) == workflow._SignalDefinition.__module__


def mark_shut_down(worker: Worker) -> None:
    """Says of a worker that never started that it has ended, as the SDK's own validation does.

    `async with worker` would wait for that for ever. A public `run_worker` hook of which an error
    ends the worker would do.
    """
    worker._shutdown_complete_event.set()


class CheckingServiceClient(ServiceClient):
    """A connection in front of another one: each request is looked at before it is sent.

    Public would be an interceptor of RPCs, as gRPC has them.
    """

    def __init__(self, inner: ServiceClient) -> None:
        super().__init__(inner.config)
        self._inner = inner

    @abstractmethod
    def admit(self, service: str, rpc: str, request: Any) -> Any:  # messages
        """Returns what is sent in the place of `request`; what it raises keeps it from going."""

    @property
    def worker_service_client(self) -> _BridgeServiceClient:
        # A worker takes the core's connection out of it, and nothing else. It may be made in a
        # tenant's scope, so what else can be called through this one is checked as well.
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
        return await self._inner._rpc_call(
            rpc,
            self.admit(service, rpc, req),
            resp_type,
            service=service,
            retry=retry,
            metadata=metadata,
            timeout=timeout,
        )
