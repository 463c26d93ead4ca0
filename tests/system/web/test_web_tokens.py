"""JSON Web Tokens: only the provider's, for us, with its key's algorithm, and not expired."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from processes.web.tokens import TokenRejected, Tokens
from saas.settings import load_settings
from temporal_tenancy.core.errors import ConfigurationError

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return text.decode()


def claims(**changed: Any) -> dict[str, Any]:
    said = {
        "tenant": "acme",
        "sub": "ann",
        "aud": "door",
        "iss": "https://login.example",
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}


def tokens(monkeypatch: pytest.MonkeyPatch, key: str, **changed: str) -> Tokens:
    variables = {
        "WEB_JWT_PUBLIC_KEY": key,
        "WEB_JWT_AUDIENCE": "door",
        "WEB_JWT_ISSUER": "https://login.example",
        **changed,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = Tokens.of(load_settings())
    assert made is not None
    return made


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (ED25519, "EdDSA")])
def test_the_claim_names_the_tenant(
    monkeypatch: pytest.MonkeyPatch, key: Any, algorithm: str
) -> None:
    read = tokens(monkeypatch, pem(key)).read(jwt.encode(claims(), key, algorithm))
    assert (read.tenant_id, read.subject) == ("acme", "ann")


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None},
        {"exp": datetime(2020, 1, 1, tzinfo=UTC)},
        {"aud": None},
        {"aud": "another"},
        {"iss": None},
        {"iss": "https://evil.example"},
        {"nbf": datetime(2099, 1, 1, tzinfo=UTC)},
        {"tenant": None},
        {"tenant": "platform"},
        {"tenant": "../acme"},
        {"tenant": ["acme"]},
        {"tenant": ""},
    ],
)
def test_what_does_not_say_all_of_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    reader = tokens(monkeypatch, pem(RSA))
    with pytest.raises(TokenRejected):
        reader.read(jwt.encode(claims(**changed), RSA, "RS256"))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: jwt.encode(claims(), OTHER_RSA, "RS256"), id="another key"),
        pytest.param(lambda: jwt.encode(claims(), None, "none"), id="unsigned"),  # type: ignore[arg-type]
        pytest.param(lambda: jwt.encode(claims(), RSA, "PS256"), id="another algorithm"),
        pytest.param(lambda: jwt.encode(claims(), ED25519, "EdDSA"), id="another kind of key"),
        pytest.param(lambda: hmac_token(pem(RSA)), id="the public key as a shared secret"),
        pytest.param(lambda: "", id="empty"),
        pytest.param(lambda: "a.b.c", id="no JSON"),
        pytest.param(lambda: "é.é.é", id="no ASCII"),
        pytest.param(lambda: jwt.encode(claims(filler="x" * 9000), RSA, "RS256"), id="too long"),
    ],
)
def test_what_the_provider_did_not_sign_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: Callable[[], str]
) -> None:
    reader = tokens(monkeypatch, pem(RSA))
    with pytest.raises(TokenRejected):
        reader.read(token())


def hmac_token(secret: str) -> str:
    """A token that is signed with a publicly known text."""

    def encoded(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value, default=str).encode()).rstrip(b"=")

    said = claims(exp=int((datetime.now(UTC) + timedelta(minutes=5)).timestamp()))
    body = encoded({"alg": "HS256", "typ": "JWT"}) + b"." + encoded(said)
    signature = hmac.digest(secret.encode(), body, hashlib.sha256)
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_a_set_of_keys_is_told_apart_by_their_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def entry(key: Any, key_id: str) -> dict[str, Any]:
        algorithm = jwt.get_algorithm_by_name("RS256" if key is RSA else "EdDSA")
        found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
        return {**found, "kid": key_id}

    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [entry(RSA, "one"), entry(ED25519, "two")]}))
    reader = tokens(monkeypatch, str(file))
    for key, key_id, algorithm in ((RSA, "one", "RS256"), (ED25519, "two", "EdDSA")):
        token = jwt.encode(claims(), key, algorithm, headers={"kid": key_id})
        assert reader.read(token).tenant_id == "acme"
    for headers in ({}, {"kid": "three"}, {"kid": "two"}):
        with pytest.raises(TokenRejected):
            reader.read(jwt.encode(claims(), RSA, "RS256", headers=headers))


@pytest.mark.parametrize(
    ("key", "without"),
    [
        ("no key", None),
        ("-----BEGIN PUBLIC KEY-----\nx", None),
        (pem(ec.generate_private_key(ec.SECP256R1())), None),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), None),  # noqa: S505
        (pem(RSA), "WEB_JWT_AUDIENCE"),
        (pem(RSA), "WEB_JWT_ISSUER"),
    ],
)
def test_an_unfit_key_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, key: str, without: str | None
) -> None:
    with pytest.raises(ConfigurationError):
        tokens(monkeypatch, key, **({} if without is None else {without: ""}))
