"""Stores: where tenants' rows are, made before they sign up, and found at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.stores._directory import ControlPlaneStores
    from temporal_tenancy.stores._secret_files import SecretFile, secret_folder
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
    "StoreNotReady",
    "StorePreparationFailed",
    "StoreRefused",
    "StoreUnknown",
    "StoreUnreachable",
    "Stores",
    "UpgradedStores",
    "secret_folder",
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
    "StoreNotReady": "errors",
    "StorePreparationFailed": "errors",
    "StoreRefused": "errors",
    "StoreUnknown": "errors",
    "StoreUnreachable": "errors",
    "Stores": "registry",
    "UpgradedStores": "upgrading",
    "secret_folder": "_secret_files",
    "upgrade_stores": "upgrading",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
