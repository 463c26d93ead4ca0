"""What a tenant's program reads of why a job failed."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Final

from sqlalchemy import exc

from processes.web.errors import AWAY, Problem
from processes.web.sentences import sentence
from saas.services.secrets import SecretMissing
from saas.services.sync_failures import NO_ANSWER, sync_failure

OURS: Final = "The job failed on our side. Request it again later."
_FOR_TENANTS: Final = {  # the types whose message names a file or a host
    SecretMissing.__name__: sync_failure(SecretMissing.__name__, None),
    "OutsideUnavailable": NO_ANSWER,
}


def failure(kind: str, message: str) -> Problem:
    """Returns a job's failure, with the message that the job has given it.

    A message that is for operators is replaced: of a server of ours that does not answer, of a
    timeout, of an error in the code.
    """
    if kind in _FOR_TENANTS:
        message = _FOR_TENANTS[kind]
    elif kind in _OURS or kind.startswith("Timeout"):
        message = OURS
    return Problem(type=kind, message=sentence(message))


def _names(kind: type[BaseException]) -> Iterator[str]:
    yield kind.__name__
    for below in kind.__subclasses__():
        yield from _names(below)


_OURS: Final = frozenset(
    [
        *(name for kind in (*AWAY, exc.SQLAlchemyError) for name in _names(kind)),
        *(name for name, kind in vars(builtins).items() if isinstance(kind, type)),
    ]
)
