"""JSON Web Tokens: whose a call is, as an identity provider says it with its signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from saas.settings import Settings
from temporal_tenancy.core.errors import ConfigurationError, TenancyError
from temporal_tenancy.core.identifiers import tenant_id

TENANT_CLAIM: Final = "tenant"
LEEWAY: Final = 30  # seconds between the provider's clock and ours
RSA_MIN_BITS: Final = 2048
TOKEN_MAX_CHARACTERS: Final = 8 * 1024
SUBJECT_MAX_CHARACTERS: Final = 100

PublicKey = RSAPublicKey | Ed25519PublicKey


class TokenRejected(Exception):
    """The token names nobody."""


@dataclass(frozen=True)
class Claims:
    """What a token says that was found to be the provider's, for us, and not expired."""

    tenant_id: str
    subject: str | None  # who calls, for people


class Tokens:
    """Reads the tokens of one provider."""

    def __init__(self, keys: Mapping[str | None, PublicKey], *, audience: str, issuer: str) -> None:
        """`keys` are the provider's, by their ids; a single one may have None."""
        self._keys = dict(keys)
        self._audience = audience
        self._issuer = issuer

    @classmethod
    def of(cls, settings: Settings) -> Tokens | None:
        """As the settings say; None where they name no key.

        Raises `ConfigurationError` where the key, the audience or the issuer is missing or unfit.
        """
        if settings.web_jwt_public_key is None:
            return None
        if settings.web_jwt_audience is None or settings.web_jwt_issuer is None:
            raise ConfigurationError(
                "WEB_JWT_PUBLIC_KEY is set, but a token of that key may be for somebody else. "
                "Set WEB_JWT_AUDIENCE and WEB_JWT_ISSUER."
            )
        return cls(
            _keys(settings.web_jwt_public_key),
            audience=settings.web_jwt_audience,
            issuer=settings.web_jwt_issuer,
        )

    def read(self, token: str) -> Claims:
        """What a token says; raises `TokenRejected`, which does not say why."""
        if len(token) > TOKEN_MAX_CHARACTERS:
            raise TokenRejected
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            said: dict[str, Any] = jwt.decode(
                token,
                key=key,
                # The key says which, and never the token.
                algorithms=["RS256" if isinstance(key, RSAPublicKey) else "EdDSA"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "iss", TENANT_CLAIM]},
            )
            tenant = tenant_id(said[TENANT_CLAIM])
        except (jwt.PyJWTError, TenancyError):
            raise TokenRejected from None
        subject = said.get("sub")
        if not (isinstance(subject, str) and subject.isprintable() and subject):
            subject = None
        return Claims(tenant, None if subject is None else subject[:SUBJECT_MAX_CHARACTERS])

    def _key(self, key_id: object) -> PublicKey:
        if len(self._keys) == 1:
            [(known, key)] = self._keys.items()
            if key_id is None or known is None or known == key_id:
                return key
        elif isinstance(key_id, str) and key_id in self._keys:
            return self._keys[key_id]
        raise TokenRejected


def _keys(given: str) -> dict[str | None, PublicKey]:
    unfit = ConfigurationError(
        "WEB_JWT_PUBLIC_KEY is a public key in PEM, or a file of one or of a JWKS: RSA of "
        f"{RSA_MIN_BITS} bits or more (RS256), or Ed25519 (EdDSA)."
    )
    try:
        content = given if given.lstrip().startswith("-----BEGIN") else Path(given).read_text()
        if content.lstrip().startswith("{"):
            found = jwt.PyJWKSet.from_dict(json.loads(content)).keys
            keys = {each.key_id: each.key for each in found if each.public_key_use != "enc"}
        else:
            keys = {None: load_pem_public_key(content.encode())}
    except (OSError, ValueError, jwt.PyJWTError):
        raise unfit from None
    sound = all(
        isinstance(key, Ed25519PublicKey)
        or (isinstance(key, RSAPublicKey) and key.key_size >= RSA_MIN_BITS)
        for key in keys.values()
    )
    if not keys or not sound or (None in keys and len(keys) > 1):
        raise unfit
    return keys
