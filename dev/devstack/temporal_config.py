"""The configuration files of a Temporal server on PostgreSQL. They are JSON, which is YAML too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import make_url

from dev.devstack.files import write_private
from dev.devstack.ports import LOOPBACK
from dev.devstack.postgres import DatabaseUrls

STORE: Final = "temporal"  # databases
VISIBILITY: Final = "temporal_visibility"
PLUGIN: Final = "postgres12_pgx"
SERVICES: Final = ("frontend", "history", "matching", "worker")
# Each service opens its own connections, to both databases.
CONNECTIONS: Final = {STORE: 20, VISIBILITY: 10}
CLUSTER: Final = "active"

# What the dev server sets by itself, so that both kinds behave alike: new search attributes work at
# once, which takes more requests to the database, and standalone activities are allowed.
AS_DEV_SERVER: Final = {
    "system.forceSearchAttributesCacheRefreshOnRead": "true",
    "frontend.persistenceMaxQPS": "10000",
    "history.persistenceMaxQPS": "45000",
    "history.hostLevelCacheMaxSize": "8096",
    "frontend.namespaceRPS.visibility": "100",
    "history.enableChasm": "true",
    "activity.enableStandalone": "true",
}


@dataclass(frozen=True)
class ServerPorts:
    """The ports of a server's services, by the service's name, all on 127.0.0.1."""

    grpc: Mapping[str, int]
    membership: Mapping[str, int]  # below 32768: the database keeps them in two bytes


def write_server_config(
    folder: Path,
    urls: Mapping[str, DatabaseUrls],
    ports: ServerPorts,
    *,
    shards: int,
    dynamic_config: Mapping[str, str],
    log_level: str,
) -> Path:
    """Writes the server's configuration, which only this user may read, and returns its path.

    Args:
        folder: for the files.
        urls: of the databases `STORE` and `VISIBILITY`.
        ports: of the services.
        shards: of the histories; a database keeps the number that it has begun with.
        dynamic_config: setting name to JSON value.
        log_level: debug, info, warn or error.
    """
    dynamic = folder / "dynamic.yaml"
    values = {**AS_DEV_SERVER, **dynamic_config}
    write_private(
        dynamic,
        _lines({name: [{"value": json.loads(value)}] for name, value in values.items()}),
    )
    frontend = f"{LOOPBACK}:{ports.grpc['frontend']}"
    config = {
        "log": {"stdout": True, "level": log_level},
        "persistence": {
            "defaultStore": STORE,
            "visibilityStore": VISIBILITY,
            "numHistoryShards": shards,
            "datastores": {name: {"sql": _datastore(name, urls[name])} for name in CONNECTIONS},
        },
        "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": LOOPBACK}},
        "services": {
            name: {
                "rpc": {
                    "grpcPort": ports.grpc[name],
                    "membershipPort": ports.membership[name],
                    "bindOnIP": LOOPBACK,
                }
            }
            for name in SERVICES
        },
        "clusterMetadata": {
            "enableGlobalNamespace": False,
            "failoverVersionIncrement": 10,
            "masterClusterName": CLUSTER,
            "currentClusterName": CLUSTER,
            "clusterInformation": {
                CLUSTER: {
                    "enabled": True,
                    "initialFailoverVersion": 1,
                    "rpcName": "frontend",
                    "rpcAddress": frontend,
                }
            },
        },
        "dcRedirectionPolicy": {"policy": "noop"},
        "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}},
        "namespaceDefaults": {
            "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}}
        },
        "publicClient": {"hostPort": frontend},
        "dynamicConfigClient": {"filepath": str(dynamic), "pollInterval": "10s"},
    }
    written = folder / "server.yaml"
    write_private(written, _lines(config))
    return written


def write_ui_config(folder: Path, address: str, port: int, namespace: str) -> None:
    """Writes the configuration of the Web UI for the server at `address` into a folder."""
    config = {
        "temporalGrpcAddress": address,
        "host": LOOPBACK,
        "port": port,
        "enableUi": True,
        "cors": {"cookieInsecure": True},
        "defaultNamespace": namespace,
        "disableNewsFetch": True,
        "hideLogs": True,
    }
    write_private(folder / "local.yaml", _lines(config))


def _datastore(name: str, urls: DatabaseUrls) -> dict[str, object]:
    url = make_url(urls.owner)
    return {
        "pluginName": PLUGIN,
        "databaseName": name,
        "connectAddr": f"{url.host}:{url.port}",
        "connectProtocol": "tcp",
        "user": url.username,
        "password": url.password,
        "maxConns": CONNECTIONS[name],
        "maxIdleConns": CONNECTIONS[name],
        "maxConnLifetime": "1h",
    }


def _lines(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
