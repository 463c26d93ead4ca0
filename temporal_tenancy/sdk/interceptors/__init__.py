"""The interceptors: one module for each side of the SDK, and the table of its hooks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from temporalio import client, worker

from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.sdk.endings import RECORD_FAILED_RUN
from temporal_tenancy.sdk.features import Feature, serves
from temporal_tenancy.sdk.interceptors._activity_inbound import TenancyActivityInbound
from temporal_tenancy.sdk.interceptors._client_outbound import TenancyClientOutbound
from temporal_tenancy.sdk.interceptors._logging_inbound import (
    LoggingActivityInbound,
    LoggingWorkflowInbound,
)
from temporal_tenancy.sdk.interceptors._nexus_inbound import TenancyNexusInbound
from temporal_tenancy.sdk.interceptors._workflow_inbound import TenancyWorkflowInbound


class TenancyInterceptor(client.Interceptor, worker.Interceptor):
    """The interceptor of both sides; one instance serves a client and all its workers."""

    def __init__(
        self,
        directory: TenantDirectory | None,
        features: Sequence[Feature] = (),
        exempt: Collection[str] = (),
    ) -> None:
        self.directory = directory
        self.features = features
        self.records_failures = serves(features, RECORD_FAILED_RUN)
        self.exempt = exempt
        self.client: client.Client | None = None  # of the workers; set when the first is made

    def intercept_client(self, next: client.OutboundInterceptor) -> client.OutboundInterceptor:
        return TenancyClientOutbound(next, self.directory, self.features)

    def intercept_activity(
        self, next: worker.ActivityInboundInterceptor
    ) -> worker.ActivityInboundInterceptor:
        return TenancyActivityInbound(
            LoggingActivityInbound(next), self.directory, self.features, self.exempt, self.client
        )

    def workflow_interceptor_class(
        self, input: worker.WorkflowInterceptorClassInput
    ) -> type[worker.WorkflowInboundInterceptor]:
        class ExemptingTenancyWorkflowInbound(_LoggedTenancyWorkflowInbound):
            exempt = self.exempt
            records_failures = self.records_failures

        return ExemptingTenancyWorkflowInbound

    def intercept_nexus_operation(
        self, next: worker.NexusOperationInboundInterceptor
    ) -> worker.NexusOperationInboundInterceptor:
        return TenancyNexusInbound(next)


class _LoggedTenancyWorkflowInbound(TenancyWorkflowInbound):
    """The logging and the tenancy interceptor, as one class that takes the next interceptor."""

    def __init__(self, next: worker.WorkflowInboundInterceptor) -> None:
        super().__init__(LoggingWorkflowInbound(next))
