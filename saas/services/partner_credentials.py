"""Credentials of integrations, each bound to the host that it was given for.

The secret `integrations.{name}` is the credential, and `integrations.{name}.host` the scheme, host
and port that it may be sent to. Neither file changes with the database's transaction, so that the
URL in the database and the credential may disagree after a failure. Such a credential is not used.
A credential that an earlier release stored, or an operator put there, has no host file, and belongs
to the integration's URL.
"""

from __future__ import annotations

from saas.services.secrets import SecretMissing, current_secrets
from temporal_tenancy import current_tenant


def credential_for(name: str, url: str) -> str:
    """Returns the credential of the integration `name` for a request to `url`.

    Raises `SecretMissing` if the current tenant has none, or if it was given for another host.
    """
    credential = current_secrets().get(secret_name(name))
    if not _is_bound_to(name, url):
        raise SecretMissing(
            f'the credential "{secret_name(name)}" of {current_tenant()} was given for another '
            f"host than that of {name}. Set up {name} again, with its credential."
        )
    return credential


def has_credential_for(name: str, url: str) -> bool:
    """Returns whether `credential_for` would return a credential."""
    try:
        found = current_secrets().find(secret_name(name)) is not None
        return found and _is_bound_to(name, url)
    except SecretMissing:  # unreadable
        return False


def put_credential(name: str, url: str, credential: str) -> None:
    """Stores a credential that was given for `url`; raises the errors of `SecretStore.put`.

    If it fails halfway, there is no credential.
    """
    from saas.services.outgoing_http import origin_of  # loads an HTTP client

    secrets = current_secrets()
    origin = origin_of(url)
    try:
        bound = secrets.find(_host_name(name)) == origin
    except SecretMissing:
        bound = False
    if not bound:
        secrets.remove(secret_name(name))  # before its host is replaced
        secrets.put(_host_name(name), origin)
    secrets.put(secret_name(name), credential)


def remove_credential(name: str) -> None:
    """Deletes the credential if there is one; raises the errors of `SecretStore.remove`."""
    current_secrets().remove(secret_name(name))
    current_secrets().remove(_host_name(name))


def secret_name(name: str) -> str:
    """Returns the name of an integration's credential in the secret store."""
    return f"integrations.{name}"


def _host_name(name: str) -> str:
    return f"{secret_name(name)}.host"


def _is_bound_to(name: str, url: str) -> bool:
    bound = current_secrets().find(_host_name(name))
    if bound is None:
        return True
    from saas.services.outgoing_http import origin_of

    return bound == origin_of(url)
