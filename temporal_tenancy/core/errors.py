"""The failures that the library raises, one type each.

Each is an `ApplicationError`, so that the same class travels from a worker through Temporal to
whoever waits, and its name is Temporal's failure type. All are non-retryable: a second attempt
with the same input would be refused in the same way.
"""

from __future__ import annotations

from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.printable import printable


class TenancyError(ApplicationError):
    """Tenancy was violated."""

    def __init__(self, message: str | None = None) -> None:
        """`message` is one sentence (or two) that says what is wrong and what to do about it."""
        super().__init__(
            printable(message or type(self).__doc__ or ""),
            type=type(self).__name__,
            non_retryable=True,
        )

    @property
    def sentence(self) -> str:
        """What a person is shown: `TenantMissing: the input of billing.cycle names no tenant.`"""
        return f"{type(self).__name__}: {self.message}"


class TenantMissing(TenancyError):
    """No tenant is named where one is required."""


class TenantInvalid(TenancyError):
    """The tenant id is malformed or reserved."""


class TenantMismatch(TenancyError):
    """Two carriers of the tenant disagree, or a workflow id is not {tenant}/{job}/{key}."""


class TenantUnknown(TenancyError):
    """The tenant is not in the directory."""


class TenantSuspended(TenancyError):
    """The tenant is suspended."""


class TenantOffboarding(TenancyError):
    """The tenant is being offboarded, or is gone."""


class FeatureNotEnabled(TenancyError):
    """The tenant's plan does not have the feature that the job needs."""


class ScopeMissing(TenancyError):
    """Code ran without the scope it needs."""


class StatementRefused(TenancyError):
    """SQL was to be sent that could take its tenant or its limits from a session."""


class UnknownJob(TenancyError):
    """No job of this name is known here."""


class InvalidPayload(TenancyError):
    """The input does not fit the job."""


class HopRefused(TenancyError):
    """This hop cannot carry a tenant, so it is not taken."""


class ConfigurationError(ValueError):
    """A worker, client or job is put together in a way that could lose a tenant."""
