"""The options that select dead letters, for every command that has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from temporal_tenancy.dead_letters.letters import Filter as Filter
else:
    Filter = object  # help does without the databases' libraries

Run = Callable[..., None]

_OPTIONS: Final[dict[str, Any]] = {  # as typer declares them
    "tenant": Annotated[str | None, typer.Option(metavar="TENANT", help="Of this tenant only.")],
    "job": Annotated[str | None, typer.Option(metavar="JOB", help="Of this job only.")],
    "fingerprint": Annotated[str | None, typer.Option(metavar="HASH", help="Of this kind only.")],
    "older_than": Annotated[str | None, typer.Option(metavar="AGE", help='Such as "3d" or "12h".')],
    "newer_than": Annotated[str | None, typer.Option(metavar="AGE", help='Such as "90m".')],
}
_STATUS: Final = Annotated[
    str | None, typer.Option(metavar="STATUS", help="open, replayed, resolved or discarded.")
]


def of_letters(*, status: bool = False) -> Callable[[Run], Run]:
    """Gives a command the options of a filter, which it takes as `where`.

    Args:
        status: whether the command can select letters by their status.
    """
    options = {**_OPTIONS, "status": _STATUS} if status else _OPTIONS

    def with_options(command: Run) -> Run:
        def run(**values: Any) -> None:
            from temporal_tenancy.cli import dead_letters

            chosen = {name: values.pop(name) for name in options}
            command(where=dead_letters.filter_of(**{"status": None, **chosen}), **values)

        parameters = dict(inspect.signature(command, eval_str=True).parameters)
        del parameters["where"]
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in parameters.values()
        ]
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
            for name, annotation in options.items()
        ]
        run.__wrapped__ = command  # type: ignore[attr-defined]
        run.__signature__ = inspect.Signature([*added, *own])  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {each.name: each.annotation for each in (*added, *own)}
        return run

    return with_options
