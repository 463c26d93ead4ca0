"""The HTTP door's errors, each with its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class WebRefusal(Exception):
    """The request is refused. The default message is the class's docstring."""

    status: ClassVar[int]

    def __init__(self, message: str | None = None, headers: Mapping[str, str] | None = None):
        self.message = message or type(self).__doc__ or ""
        self.headers = dict(headers or {})
        super().__init__(self.message)


class Unauthenticated(WebRefusal):
    """This request needs a valid key. Send it as "Authorization: Bearer <key>"."""

    status = 401

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class WrongHost(WebRefusal):
    """This host name and the key belong to different tenants."""

    status = 403


class ImportUnknown(WebRefusal):
    """This import does not exist."""

    status = 404


class ExportUnknown(WebRefusal):
    """This export does not exist, or has expired. Request a new one."""

    status = 404


class ReportUnknown(WebRefusal):
    """This report does not exist. Request a new one."""

    status = 404


class IntegrationUnknown(WebRefusal):
    """This integration does not exist. Set it up first."""

    status = 404


class DocumentUnknown(WebRefusal):
    """This document does not exist, or has expired."""

    status = 404


class ContactUnknown(WebRefusal):
    """This contact does not exist."""

    status = 404


class ItemUnknown(WebRefusal):
    """This contact or document does not exist, and is not in the search index."""

    status = 404


class ErrorFileUnknown(WebRefusal):
    """This import has no error file: it has not ended, or no row was rejected."""

    status = 404


class JobUnknown(WebRefusal):
    """This job cannot be requested here."""

    status = 404


class RunUnknown(WebRefusal):
    """This job has no run with this key."""

    status = 404


class PageUnknown(WebRefusal):
    """This page does not exist. "/" and "/docs" do."""

    status = 404


class FileUnknown(WebRefusal):
    """The file of this link no longer exists."""

    status = 404


class BodyTimeout(WebRefusal):
    """The request's body took too long. Send it again."""

    status = 408


class ImportEnded(WebRefusal):
    """This import has ended."""

    status = 409


class BodyTooLarge(WebRefusal):
    """The request's body is too large."""

    status = 413


class MediaTypeRefused(WebRefusal):
    """The request's content type is not accepted here."""

    status = 415


class InvalidRequest(WebRefusal):
    """The request is not valid."""

    status = 422


class RateExceeded(WebRefusal):
    """There are too many requests. Try again later."""

    status = 429

    def __init__(self, retry_after: int, message: str | None = None) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class Overloaded(WebRefusal):
    """The server is busy. Try again in a moment."""

    status = 503

    def __init__(self, retry_after: int) -> None:
        """`retry_after` is in seconds."""
        # The rest of the request is not read.
        super().__init__(headers={"Retry-After": str(retry_after), "Connection": "close"})


class WebhookSecretUnfit(WebRefusal):
    """Webhooks cannot be verified here at the moment. Send this one again later."""

    status = 503

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "300"})
