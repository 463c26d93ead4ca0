"""What the HTTP door does not do, one type each, and the status that it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class WebRefusal(Exception):
    """The request is refused. The class's docstring is the message unless another is given."""

    status: ClassVar[int]

    def __init__(self, message: str | None = None, headers: Mapping[str, str] | None = None):
        self.message = message or type(self).__doc__ or ""
        self.headers = dict(headers or {})
        super().__init__(self.message)


class Unauthenticated(WebRefusal):
    """This needs a valid key. Send it as "Authorization: Bearer <key>"."""

    status = 401

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class WrongHost(WebRefusal):
    """This host name belongs to another tenant than the key."""

    status = 403


class ImportUnknown(WebRefusal):
    """There is no such import."""

    status = 404


class ErrorFileUnknown(WebRefusal):
    """This import has no error file: it has not ended, or has rejected no row."""

    status = 404


class JobUnknown(WebRefusal):
    """No such job can be asked for here."""

    status = 404


class RunUnknown(WebRefusal):
    """There is no run of this job with this key."""

    status = 404


class FileUnknown(WebRefusal):
    """The file that this link opened is gone."""

    status = 404


class BodyTimeout(WebRefusal):
    """The request's body did not come. Send it again."""

    status = 408


class ImportEnded(WebRefusal):
    """This import has ended."""

    status = 409


class BodyTooLarge(WebRefusal):
    """The request's body is too large."""

    status = 413


class MediaTypeRefused(WebRefusal):
    """The request's content type is not taken here."""

    status = 415


class InvalidRequest(WebRefusal):
    """The request cannot be taken as it is."""

    status = 422


class RateExceeded(WebRefusal):
    """These are too many requests at once. Try again later."""

    status = 429

    def __init__(self, retry_after: int, message: str | None = None) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class Overloaded(WebRefusal):
    """The door has as much to do as it can. Try again in a moment."""

    status = 503

    def __init__(self, retry_after: int) -> None:
        """`retry_after` is in seconds."""
        # What is under way of the request is not waited for.
        super().__init__(headers={"Retry-After": str(retry_after), "Connection": "close"})


class WebhookSecretUnfit(WebRefusal):
    """Webhooks cannot be verified here at the moment. Send this one again later."""

    status = 503

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "300"})
