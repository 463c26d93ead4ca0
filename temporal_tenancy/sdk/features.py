"""What a plugin can be given beside tenancy itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.sdk._private import activity_definition

Activity = Callable[..., Any]


@dataclass(frozen=True)
class Feature:
    """A part of the library, or of an application, that `TenancyPlugin` serves.

    Workers that have workflows serve `workflows` and `activities` too. Two names are special: a
    run that fails for good calls the activity `record_failed_run`, and one that holds a slot calls
    `free_slot`, where a feature brings them (`temporal_tenancy.sdk.endings`).
    """

    name: str
    workflows: tuple[type, ...] = ()
    activities: tuple[Activity, ...] = ()
    replayed: tuple[type, ...] = ()  # workflows that are not served, and that histories may be of
    around_activities: Callable[[], AbstractContextManager[object]] | None = None
    migrations: tuple[MigrationEnvironment, ...] = ()  # that its tables need, in order


def serves(features: Iterable[Feature], name: str) -> bool:
    """Whether one of `features` brings the activity `name`."""
    return any(
        activity_definition(function).name == name
        for feature in features
        for function in feature.activities
    )
