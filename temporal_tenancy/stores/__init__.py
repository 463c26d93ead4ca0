"""Stores: where tenants' rows are, made before they sign up, and found at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.stores._directory import ControlPlaneStores
    from temporal_tenancy.stores._schema_needs import migrated_stores
    from temporal_tenancy.stores._secret_files import SecretFile, secret_folder
    from temporal_tenancy.stores.drift import declare_schema
    from temporal_tenancy.stores.errors import (
        ConnectionSecretMissing,
        NoStoreFree,
        StoreDraining,
        StoreExists,
        StoreFull,
        StoreInUse,
        StoreNotReady,
        StorePreparationFailed,
        StoreRefused,
        StoreUnknown,
        StoreUnreachable,
        WaveRefused,
        WaveUnknown,
    )
    from temporal_tenancy.stores.placement import (
        FreeStore,
        NewTenant,
        Placement,
        PlacementPolicy,
    )
    from temporal_tenancy.stores.preparation import Preparation
    from temporal_tenancy.stores.registry import Stores
    from temporal_tenancy.stores.secrets import ConnectionSecrets, FileConnectionSecrets
    from temporal_tenancy.stores.sign_up import SignUp
    from temporal_tenancy.stores.upgrading import StoreLeft, UpgradedStores, upgrade_stores
    from temporal_tenancy.stores.waves import StoreMigration, Waves, store_migrations

__all__ = [
    "ConnectionSecretMissing",
    "ConnectionSecrets",
    "ControlPlaneStores",
    "FileConnectionSecrets",
    "FreeStore",
    "NewTenant",
    "NoStoreFree",
    "Placement",
    "PlacementPolicy",
    "Preparation",
    "SecretFile",
    "SignUp",
    "StoreDraining",
    "StoreExists",
    "StoreFull",
    "StoreInUse",
    "StoreLeft",
    "StoreMigration",
    "StoreNotReady",
    "StorePreparationFailed",
    "StoreRefused",
    "StoreUnknown",
    "StoreUnreachable",
    "Stores",
    "UpgradedStores",
    "WaveRefused",
    "WaveUnknown",
    "Waves",
    "declare_schema",
    "migrated_stores",
    "secret_folder",
    "store_migrations",
    "upgrade_stores",
]

_WHERE: Final = {
    "ConnectionSecretMissing": "errors",
    "ConnectionSecrets": "secrets",
    "ControlPlaneStores": "_directory",
    "FileConnectionSecrets": "secrets",
    "FreeStore": "placement",
    "NewTenant": "placement",
    "NoStoreFree": "errors",
    "Placement": "placement",
    "PlacementPolicy": "placement",
    "Preparation": "preparation",
    "SecretFile": "_secret_files",
    "SignUp": "sign_up",
    "StoreDraining": "errors",
    "StoreExists": "errors",
    "StoreFull": "errors",
    "StoreInUse": "errors",
    "StoreLeft": "upgrading",
    "StoreMigration": "waves",
    "StoreNotReady": "errors",
    "StorePreparationFailed": "errors",
    "StoreRefused": "errors",
    "StoreUnknown": "errors",
    "StoreUnreachable": "errors",
    "Stores": "registry",
    "UpgradedStores": "upgrading",
    "WaveRefused": "errors",
    "WaveUnknown": "errors",
    "Waves": "waves",
    "declare_schema": "drift",
    "migrated_stores": "_schema_needs",
    "secret_folder": "_secret_files",
    "store_migrations": "waves",
    "upgrade_stores": "upgrading",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
