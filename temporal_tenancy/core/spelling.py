"""Misspelled keywords and members of enumerations: the error says which one was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import EnumMeta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

Target = TypeVar("Target", bound=Callable[..., Any])  # a class or a function, returned as it is

_BY_NAME: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def spelled(declaration: Target) -> Target:
    """Makes a class or a function raise `ConfigurationError` for a keyword that it does not have.

    The error names the nearest keyword. Python's own is a `TypeError` that names none. Of a
    function, arguments that are missing or too many are a `ConfigurationError` as well.
    """
    if isinstance(declaration, type):
        cls = cast(Any, declaration)
        cls.__init__ = _checked(cls.__init__, declaration.__name__, bound=1)
        return declaration
    return cast(Target, _checked(declaration, declaration.__name__, bound=0))


def _checked(function: Callable[..., Any], name: str, *, bound: int) -> Callable[..., Any]:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[bound:]
    known = [parameter.name for parameter in parameters if parameter.kind in _BY_NAME]

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        problem = next((unknown(name, each, known) for each in keywords if each not in known), None)
        if problem is None and not bound:
            problem = _arguments_problem(name, signature, args, keywords)
        try:
            if problem is not None:
                # Imported here: declarations are loaded by commands that must answer at once.
                from temporal_tenancy.core.errors import ConfigurationError

                raise ConfigurationError(problem)
            return function(*args, **keywords)
        except BaseException:
            args, keywords = (), {}  # a traceback with locals would show them, passwords too
            raise

    return call


def _arguments_problem(
    name: str, signature: inspect.Signature, args: Sequence[Any], keywords: Mapping[str, Any]
) -> str | None:
    """Returns what is wrong with a function's arguments: too few or too many; None if nothing."""
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        if args and isinstance(args[0], type):
            return (
                f"@{name} stands above {args[0].__qualname__} without parentheses. Write its "
                f"arguments in them: {error}."
            )
        return f"{name}(): {error}."
    return None


class SpelledEnum(EnumMeta):
    """The type of an enumeration whose misspelled members are a `ConfigurationError`.

    The error names the nearest member, and where it was written. Python's own names neither.
    """

    if not TYPE_CHECKING:  # so that a type checker goes on noticing them

        def __getattr__(cls, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            from temporal_tenancy.core.errors import MemberUnknown
            from temporal_tenancy.core.nearest import did_you_mean
            from temporal_tenancy.core.places import place_of_caller, with_place

            meant = did_you_mean(name, cls.__members__)
            listed = f" Use one of: {', '.join(cls.__members__)}."
            sentence = f"{cls.__name__} has no member {name}.{meant or listed}"
            raise MemberUnknown(with_place(sentence, place_of_caller()))


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """Returns the sentence about a name that `what` does not have, with the nearest that it has."""
    from temporal_tenancy.core.nearest import did_you_mean

    meant = did_you_mean(name, known) or f" Use one of: {', '.join(sorted(known))}."
    return f"{what}() has no argument {name!r}.{meant}"
