"""An application whose settings are environment variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from temporalio.client import Client

from temporal_tenancy.cli._not_reachable import Advice, SettingMissing
from temporal_tenancy.cli._not_reachable import reaching as reaching_servers
from temporal_tenancy.cli._temporal_config import temporal_config
from temporal_tenancy.cli._temporal_connection import connect_temporal
from temporal_tenancy.cli.program import Login, current_program, quoted
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.stores import StoreDirectory
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.sdk.plugin import TenancyPluginBase
from temporal_tenancy.stores import ControlPlaneStores
from temporal_tenancy.stores.secrets import ConnectionSecrets, FileConnectionSecrets

MakePlugin = Callable[[Database], TenancyPluginBase]


def login(variable: str | None, whose: str) -> Login:
    """Returns the login whose URL `variable` holds; an empty variable is not set.

    Raises `ConfigurationError`, which names the variable, if it does not hold a PostgreSQL URL.
    """
    if variable is None:
        return Login(f"the URL of {whose}")
    url = os.environ.get(variable) or None
    if url is not None:
        try:
            database_url(url)
        except ConfigurationError as error:
            raise ConfigurationError(f"{variable}: {error}") from None
    return Login(variable, url)


def connection_secrets(variable: str | None) -> FileConnectionSecrets | None:
    """Returns the folder that `variable` names; None where it is not set."""
    url = os.environ.get(variable) or None if variable is not None else None
    if variable is None or url is None:
        return None
    return FileConnectionSecrets.from_url(url, variable)


class Connections:
    """The connections of an application whose settings are environment variables."""

    def __init__(
        self,
        make_plugin: MakePlugin,
        tenant: Login,
        platform: Login,
        installation: Installation,
        secrets: ConnectionSecrets | None = None,
    ) -> None:
        """Nothing connects yet."""
        self._make_plugin = make_plugin
        self._installation = installation
        self._secrets = secrets
        self._has_own_directory = False  # as far as a plugin has said
        self._tenant, self._platform = tenant, platform

    def plugin(self) -> TenancyPluginBase:
        """Returns a plugin, for what it says about the application."""
        made = self._make_plugin(self._engines("temporal-tenancy"))
        self._has_own_directory = made.directory is not None and not isinstance(
            made.directory.directory, ControlPlaneDirectory
        )
        return made

    def directory(self, database: Database) -> TenantDirectory:
        """Returns the plugin's directory, without its cache; without one, the library's own."""
        cached = self._make_plugin(database).directory
        return ControlPlaneDirectory(database) if cached is None else cached.directory

    def database(self) -> Database:
        """Returns engines of the runtime roles; raises `NotReachable` if a URL is missing."""
        if self._platform.url is None:
            raise SettingMissing(f"{self._platform.setting} is not set.")
        return self._engines(current_program().application_name)

    async def connect(self, database: Database | None) -> Client:
        """Connects to Temporal; raises `NotReachable` if the server does not answer."""
        plugin = self._make_plugin(database or self._engines(current_program().application_name))
        with reaching_servers(_address, _advice(), connecting=True):
            return await connect_temporal([plugin])

    def _engines(self, name: str) -> Database:
        # The control plane knows where each tenant's rows are, if it has the tenants. Without a
        # secret store a tenant with a database of its own is refused.
        knows_stores = self._secrets is not None or not self._has_own_directory
        return Database(
            tenant_url=self._tenant.url,
            platform_url=self._platform.url,
            application_name=name,
            installation=self._installation,
            stores=self._stores if knows_stores else None,
        )

    def _stores(self, database: Database) -> StoreDirectory:
        return ControlPlaneStores(database, self._secrets)


@contextmanager
def reaching() -> Iterator[None]:
    """Raises `NotReachable` for errors in the block that mean that a server is unavailable."""
    with reaching_servers(_address, _advice()):
        yield


def _address() -> tuple[str, str]:
    config = temporal_config()
    return config["target_host"], config["namespace"]


def _advice() -> Advice:
    return Advice(
        login=f"{quoted('migrate')} makes the roles, with the passwords of these URLs.",
        temporal="Set TEMPORAL_ADDRESS to one that does.",
        namespace="Create it, or set TEMPORAL_NAMESPACE.",
    )
