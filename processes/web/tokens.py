"""JSON Web Tokens: identifies a caller by an identity provider's signature."""

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
from temporal_tenancy import ConfigurationError, TenancyError, tenant_id

TENANT_CLAIM: Final = "tenant"
LEEWAY: Final = 30  # seconds between the provider's clock and ours
RSA_MIN_BITS: Final = 2048
TOKEN_MAX_CHARACTERS: Final = 8 * 1024
SUBJECT_MAX_CHARACTERS: Final = 100

PublicKey = RSAPublicKey | Ed25519PublicKey


class TokenRejected(Exception):
    """The token is not valid."""


@dataclass(frozen=True)
class Claims:
    """The claims of a verified token: signed by the provider, for this audience, not expired."""

    tenant_id: str
    subject: str | None  # the caller, for people to read


class Tokens:
    """Reads the tokens of one provider."""

    def __init__(self, keys: Mapping[str | None, PublicKey], *, audience: str, issuer: str) -> None:
        """`keys` is the provider's public keys by id; a single key may have the id None."""
        self._keys = dict(keys)
        self._audience = audience
        self._issuer = issuer

    @classmethod
    def of(cls, settings: Settings) -> Tokens | None:
        """Returns the reader that the settings describe, or None if they name no key.

        Raises `ConfigurationError` if the key is invalid or the audience or issuer is missing.
        """
        if settings.web_jwt_public_key is None:
            return None
        if settings.web_jwt_audience is None or settings.web_jwt_issuer is None:
            raise ConfigurationError(
                "WEB_JWT_PUBLIC_KEY is set, but its tokens may be meant for another application. "
                "Set WEB_JWT_AUDIENCE and WEB_JWT_ISSUER."
            )
        return cls(
            _keys(settings.web_jwt_public_key),
            audience=settings.web_jwt_audience,
            issuer=settings.web_jwt_issuer,
        )

    def read(self, token: str) -> Claims:
        """Returns a token's claims; raises `TokenRejected`, which does not say why."""
        if len(token) > TOKEN_MAX_CHARACTERS:
            raise TokenRejected
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key,
                # The key decides the algorithm, never the token.
                algorithms=["RS256" if isinstance(key, RSAPublicKey) else "EdDSA"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "iss", TENANT_CLAIM]},
            )
            tenant = tenant_id(claims[TENANT_CLAIM])
        except (jwt.PyJWTError, TenancyError):
            raise TokenRejected from None
        subject = claims.get("sub")
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


def _keys(setting: str) -> dict[str | None, PublicKey]:
    unfit = ConfigurationError(
        "WEB_JWT_PUBLIC_KEY must be a public key in PEM, or the path of a PEM or JWKS file: RSA "
        f"with at least {RSA_MIN_BITS} bits (RS256), or Ed25519 (EdDSA)."
    )
    try:
        is_pem = setting.lstrip().startswith("-----BEGIN")
        content = setting if is_pem else Path(setting).read_text()
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
