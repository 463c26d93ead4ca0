"""The errors that the library raises, one type for each kind.

All but `ConfigurationError` and `MissingExtra` are `ApplicationError`s, so that they travel from a
worker through Temporal to the caller, with the class name as Temporal's failure type. All are
non-retryable: a second attempt with the same input would fail in the same way.
"""

from __future__ import annotations

from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.display import printable


class TenancyError(ApplicationError):
    """A rule of tenancy was violated."""

    def __init__(self, message: str | None = None) -> None:
        """
        Args:
            message: one or two sentences that say what is wrong and what to do about it. The
                default is the docstring of the class.
        """
        super().__init__(
            printable(message or type(self).__doc__ or ""),
            type=type(self).__name__,
            non_retryable=True,
        )

    @property
    def sentence(self) -> str:
        """The type and the message, as in `TenantMissing: the input of x.y names no tenant.`"""
        return f"{type(self).__name__}: {self.message}"


class TenantMissing(TenancyError):
    """A tenant is required, but none is named."""


class TenantInvalid(TenancyError):
    """The tenant id is malformed or reserved."""


class TenantMismatch(TenancyError):
    """Two parts of a call name different tenants, or a workflow id is not {tenant}/{job}/{key}."""


class KeyInvalid(TenantMismatch):
    """The key of a run cannot be a part of a workflow id."""


class TenantUnknown(TenancyError):
    """The tenant is not in the directory."""


class TenantSuspended(TenancyError):
    """The tenant is suspended."""


class TenantOffboarding(TenancyError):
    """The tenant is being offboarded or has been deleted."""


class FeatureNotEnabled(TenancyError):
    """The tenant's plan does not include the feature that the job needs."""


class ScopeMissing(TenancyError):
    """Code ran without the scope that it needs."""


class NotAwaited(TenancyError):
    """A call was not awaited, so it did nothing."""


class StatementRefused(TenancyError):
    """A SQL statement was not sent because it could change a session's tenant or limits."""


class StoreMismatch(TenancyError):
    """The place where a tenant's rows should be is another tenant's, or is not set up."""


class SchemaBehind(TenancyError):
    """The tenant's store lacks migrations that the job needs."""


class StoreUnsupported(TenancyError):
    """A tenant's rows are in a store of its own, which this way to the database does not know."""


class UnknownJob(TenancyError):
    """This process knows no job of that name."""


class InvalidPayload(TenancyError):
    """The input does not fit the job."""


class HopRefused(TenancyError):
    """This kind of call cannot carry a tenant, so it is not allowed."""


class NotDeterministic(TenancyError):
    """Workflow code did something that gives another result when it is replayed."""


class TooLarge(TenancyError):
    """A value is larger than Temporal takes. Keep it in a store, and pass a reference to it."""


class ConfigurationError(ValueError):
    """A worker, client or job is configured in a way that could lose a tenant."""


class MemberUnknown(ConfigurationError, AttributeError):
    """An enumeration has no member of that name."""


class MissingExtra(ConfigurationError, ImportError):
    """A part of the library needs packages that an extra installs, and they are not installed."""

    def __init__(self, wanted: str, package: str, extra: str) -> None:
        """
        Args:
            wanted: the full name of what was imported.
            package: the package that it needs.
            extra: the extra of this distribution that installs the package.
        """
        super().__init__(
            f"{wanted} needs {package}, which is not installed. Run pip install "
            f"'temporal-tenancy[{extra}]'."
        )
