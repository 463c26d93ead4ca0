"""TLS and API keys of Temporal: every process connects by them, and tells what is wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from processes.connect import connect_client, reaching
from temporal_tenancy import ConfigurationError
from temporal_tenancy.cli import TEMPORAL_VARIABLES, NotReachable, temporal_config
from tests.fixtures.odd_servers import serving, speaking_http
from tests.fixtures.starter import Starter
from tests.fixtures.tls_proxy import Authority, TlsProxy, tls_proxy
from tests.fixtures.worker_process import StartWorker

KEY = "a-key-of-the-namespace"
CANARY = "canary-7b1e"
EXPIRED = datetime(2026, 5, 4, tzinfo=UTC)
OURS, OTHER = Authority(), Authority()
PAIR = OURS.client()
BROKEN_KEY = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"


@dataclass(frozen=True)
class Case:
    said: str  # after the server's address
    variables: dict[str, str] = field(default_factory=lambda: OURS.trusted)
    name: str = "localhost"
    expired: datetime | None = None
    clients: bool = False
    api_key: str | None = None
    tls: bool = True


CASES = {
    "an authority of somebody else's": Case(
        "has a certificate of no authority that this process trusts. Set "
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH to the certificate of the one that issued it.",
        OTHER.trusted,
    ),
    "an authority that is not named": Case(
        "has a certificate of no authority that this process trusts. Set",
        {"TEMPORAL_TLS": "true"},
    ),
    "an expired certificate": Case(
        "has a certificate that expired on 2026-05-04. Renew it there.", expired=EXPIRED
    ),
    "a certificate for another name": Case(
        'has a certificate for "elsewhere.example", not for "localhost". Set TEMPORAL_ADDRESS to a '
        "name that it is for, or TEMPORAL_TLS_SERVER_NAME to the one to expect.",
        name="elsewhere.example",
    ),
    "no certificate where one is wanted": Case(
        "closed the connection. If it wants a client certificate, set "
        "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH.",
        clients=True,
    ),
    "a certificate of somebody else's": Case(
        "closed the connection. It may not accept the client certificate",
        OURS.trusted | OTHER.client(),
        clients=True,
    ),
    "no TLS where it is wanted": Case(
        "closed the connection. If it wants TLS, set TEMPORAL_TLS to true.", {}
    ),
    "TLS where there is none": Case(
        "does not speak TLS at this address. Set TEMPORAL_ADDRESS to the one where it does, or "
        "unset TEMPORAL_TLS*.",
        tls=False,
    ),
    "an API key where there is no TLS": Case(
        "does not speak TLS at this address. Set TEMPORAL_ADDRESS to the one where it does, since "
        "an API key turns TLS on.",
        {"TEMPORAL_API_KEY": CANARY},
        tls=False,
    ),
    "a wrong API key": Case(
        "rejects the API key. Set TEMPORAL_API_KEY to one that is valid.",
        OURS.trusted | {"TEMPORAL_API_KEY": CANARY},
        api_key=KEY,
    ),
    "no API key": Case(
        "wants credentials. Set TEMPORAL_API_KEY to an API key of the namespace.",
        api_key=KEY,
    ),
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], None]:
    """Sets the variables of Temporal, and no others of it."""

    def give(address: str, variables: dict[str, str]) -> None:
        for name in TEMPORAL_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"TEMPORAL_ADDRESS": address} | variables).items():
            monkeypatch.setenv(name, value)

    return give


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_what_is_wrong_is_said_in_one_sentence_that_names_the_setting(
    case: Case, temporal: TemporalDevServer, given: Callable[[str, dict[str, str]], None]
) -> None:
    context = OURS.server(case.name, expired=case.expired, clients=case.clients)
    async with tls_proxy(temporal.address, context, api_key=case.api_key) as proxy:
        address = proxy.address if case.tls else temporal.address
        given(address, case.variables)
        with pytest.raises(NotReachable) as raised:
            await connect_client()
    assert raised.value.message.startswith(f"the Temporal server {address} {case.said}")
    assert "\n" not in raised.value.message
    assert CANARY not in str(raised.value)
    assert "PRIVATE" not in str(raised.value)


async def test_a_server_that_closes_at_any_point_of_a_connection_is_said_to(
    given: Callable[[str, dict[str, str]], None],
) -> None:
    steps = itertools.count()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(next(steps) * 0.0002)
        writer.transport.abort()

    async def told(_: int) -> str:
        with pytest.raises(NotReachable) as raised:
            await connect_client()
        return raised.value.message

    async with serving(serve) as port:
        address = f"localhost:{port}"
        given(address, {})
        said = await asyncio.gather(*map(told, range(64)))
    closed = f"the Temporal server {address} closed the connection. If it wants TLS, set"
    assert not [each for each in said if not each.startswith(closed)]


async def test_a_server_that_speaks_http_of_another_version_is_said_to_speak_no_grpc(
    given: Callable[[str, dict[str, str]], None],
) -> None:
    async with speaking_http() as port:
        address = f"localhost:{port}"
        given(address, {})
        with pytest.raises(NotReachable) as raised:
            await connect_client()
    assert raised.value.message == (
        f"the Temporal server {address} does not speak gRPC at this address. Set TEMPORAL_ADDRESS "
        "to the one where it does, or TEMPORAL_TLS to true if it wants TLS."
    )


async def test_a_pair_that_is_none_is_a_bad_setting_whatever_the_server(
    temporal: TemporalDevServer, given: Callable[[str, dict[str, str]], None]
) -> None:
    other = {"TEMPORAL_TLS_CLIENT_KEY_DATA": list(OTHER.client().values())[1]}
    for key, said in (
        (other, "the client certificate and the key are not of one pair. Set TEMPORAL_TLS_CLIENT_"),
        ({"TEMPORAL_TLS_CLIENT_KEY_DATA": BROKEN_KEY}, "the client certificate or its key cannot"),
    ):
        given(temporal.address, OURS.trusted | PAIR | key)
        with pytest.raises(ConfigurationError, match=f"^{said}") as raised:
            await connect_client()
        assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"TEMPORAL_TLS_CLIENT_CERT_DATA": PAIR["TEMPORAL_TLS_CLIENT_CERT_DATA"]},
            "TEMPORAL_TLS_CLIENT_CERT_DATA is set without its key. Set "
            "TEMPORAL_TLS_CLIENT_KEY_DATA too.",
        ),
        (
            {"TEMPORAL_TLS_CLIENT_KEY_PATH": "{folder}/key.pem"},
            "TEMPORAL_TLS_CLIENT_KEY_PATH is set without its certificate. Set "
            "TEMPORAL_TLS_CLIENT_CERT_PATH too.",
        ),
        ({"TEMPORAL_API_KEY": f"{CANARY}\n"}, "TEMPORAL_API_KEY has a space, a line break or"),
        ({"TEMPORAL_TLS": "maybe"}, "TEMPORAL_TLS is true or false."),
        (
            {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nowhere/ca.pem"},
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH names /nowhere/ca.pem, which cannot be read: no such "
            "file or directory.",
        ),
        (
            {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "{folder}"},
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH names {folder}, which cannot be read: is a directory",
        ),
        *(
            (
                {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": f"{{folder}}/{name}"},
                f"TEMPORAL_TLS_SERVER_CA_CERT_PATH names {{folder}}/{name}, which holds no "
                "certificate in PEM. Set it to one.",
            )
            for name in ("key.pem", "text", "empty", "bytes")
        ),
        (
            {"TEMPORAL_TLS_SERVER_CA_CERT_DATA": CANARY},
            "TEMPORAL_TLS_SERVER_CA_CERT_DATA holds no certificate in PEM.",
        ),
        (
            PAIR | {"TEMPORAL_TLS_CLIENT_KEY_DATA": CANARY},
            "TEMPORAL_TLS_CLIENT_KEY_DATA holds no private key in PEM.",
        ),
        (
            PAIR
            | {"TEMPORAL_TLS_CLIENT_KEY_DATA": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + CANARY},
            "TEMPORAL_TLS_CLIENT_KEY_DATA holds a private key that is encrypted. Set it to one "
            "that needs no password.",
        ),
        (
            {"TEMPORAL_PROFILE": "unknown"},
            'TEMPORAL_PROFILE is "unknown", but there is no file of profiles. Set '
            "TEMPORAL_CONFIG_FILE to the one that has it.",
        ),
        (
            {"TEMPORAL_CONFIG_FILE": "/nowhere.toml"},
            "TEMPORAL_CONFIG_FILE names /nowhere.toml, which cannot be read: no such file or",
        ),
        (
            {"TEMPORAL_CONFIG_FILE": "{folder}/bytes"},
            "{folder}/bytes of TEMPORAL_CONFIG_FILE is not",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_a_connection(
    given: Callable[[str, dict[str, str]], None],
    variables: dict[str, str],
    said: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "key.pem").write_text(PAIR["TEMPORAL_TLS_CLIENT_KEY_DATA"])
    (tmp_path / "text").write_text(CANARY)
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    given(
        "localhost:1",
        {name: value.replace("{folder}", str(tmp_path)) for name, value in variables.items()},
    )
    with pytest.raises(ConfigurationError) as raised:
        temporal_config()
    assert str(raised.value).startswith(said.replace("{folder}", str(tmp_path)))
    assert CANARY not in str(raised.value)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            '[profile.production]\naddress = "a:1"',
            '{file} of TEMPORAL_CONFIG_FILE has no profile "default". Set TEMPORAL_PROFILE to one '
            'that it has: "production".',
        ),
        ("", '{file} of TEMPORAL_CONFIG_FILE has no profile "default". Set TEMPORAL_PROFILE to'),
        (
            f'[profile.default]\nadress = "{CANARY}"',
            "{file} of TEMPORAL_CONFIG_FILE is invalid at line 2, column 1: unknown field `adress`",
        ),
        (
            f'[profile.default]\napi_key = ["{CANARY}"]',
            "{file} of TEMPORAL_CONFIG_FILE is invalid at line 2, column 11: it is not TOML, or",
        ),
        (
            f'[profile.default]\napi_key = "{CANARY}',
            "{file} of TEMPORAL_CONFIG_FILE is invalid at line 2, column",
        ),
        (
            '[profile.default.tls]\nserver_ca_cert_path = "/nowhere/ca.pem"',
            'tls.server_ca_cert_path of the profile "default" in {file} names /nowhere/ca.pem, '
            "which cannot be read: no such file or directory.",
        ),
        (
            f'[profile.default]\napi_key = "{CANARY} "',
            'api_key of the profile "default" in {file} has a space,',
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_never_ignored(
    given: Callable[[str, dict[str, str]], None], toml: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text(toml)
    given("localhost:1", {"TEMPORAL_CONFIG_FILE": str(file)})
    with pytest.raises(ConfigurationError) as raised:
        temporal_config()
    assert str(raised.value).startswith(said.replace("{file}", str(file)))
    assert CANARY not in str(raised.value)


def test_an_empty_variable_is_not_set(given: Callable[[str, dict[str, str]], None]) -> None:
    given("localhost:1", dict.fromkeys(TEMPORAL_VARIABLES, ""))
    assert temporal_config() == {"target_host": "localhost:7233", "namespace": "default"}


def test_a_bundle_of_authorities_may_have_names_that_are_not_ascii(
    given: Callable[[str, dict[str, str]], None], tmp_path: Path
) -> None:
    [pem] = OURS.trusted.values()
    (tmp_path / "ca.pem").write_text(f"# Főtanúsítvány\n{pem}", encoding="utf-8")
    given("localhost:1", {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(tmp_path / "ca.pem")})
    assert temporal_config()["tls"]


@pytest.fixture
async def guarded(temporal: TemporalDevServer) -> AsyncIterator[TlsProxy]:
    """The server, behind TLS, a client certificate and an API key."""
    context = OURS.server(clients=True)
    async with tls_proxy(temporal.address, context, api_key=KEY) as proxy:
        yield proxy


async def test_a_key_that_is_withdrawn_is_said_by_the_next_request(
    guarded: TlsProxy, given: Callable[[str, dict[str, str]], None], namespace: str
) -> None:
    variables = {"TEMPORAL_API_KEY": KEY, "TEMPORAL_NAMESPACE": namespace}
    given(guarded.address, OURS.trusted | PAIR | variables)
    client: Client = await connect_client()
    await client.service_client.check_health()
    client.service_client.update_api_key(CANARY)
    guarded.cut()
    with pytest.raises(NotReachable, match=r"rejects the API key\. Set") as raised, reaching():
        await client.count_workflows()
    assert CANARY not in str(raised.value)


async def test_every_process_connects_by_the_profile_of_a_file(
    guarded: TlsProxy,
    start_worker: StartWorker,
    starter: Starter,
    database_urls: DatabaseUrls,
    namespace: str,
    tmp_path: Path,
) -> None:
    names = {"server_ca_cert": OURS.trusted, "client_cert": PAIR, "client_key": PAIR}
    for name, variables in names.items():
        (tmp_path / f"{name}.pem").write_text(variables[f"TEMPORAL_TLS_{name.upper()}_DATA"])
    (tmp_path / "temporal.toml").write_text(
        f"""
        [profile.production]
        address = "{guarded.address}"
        namespace = "{namespace}"
        api_key = "{KEY}"
        [profile.production.tls]
        """
        + "".join(f'{name}_path = "{tmp_path / name}.pem"\n' for name in names)
    )
    profile: dict[str, str | None] = {
        "TEMPORAL_ADDRESS": None,
        "TEMPORAL_NAMESPACE": None,
        "TEMPORAL_CONFIG_FILE": str(tmp_path / "temporal.toml"),
        "TEMPORAL_PROFILE": "production",
    }
    started = [
        start_worker("--queue", "critical", **profile),
        start_worker("--relay", RELAY_DATABASE_URL=database_urls.relay, **profile),
    ]
    for each in started:
        await each.until_ready()
    schedules = await starter("schedules", "list", **profile)
    assert schedules.code == 0, schedules.err
    assert len(guarded.first_headers) >= 3
    assert {each["authorization"] for each in guarded.first_headers} == {f"Bearer {KEY}"}
    refused = await starter("schedules", "list", **profile, TEMPORAL_API_KEY=CANARY)
    assert refused.code == 3
    assert "rejects the API key. Set TEMPORAL_API_KEY to one that is valid." in refused.err
    none = await starter("schedules", "list", **profile | {"TEMPORAL_PROFILE": "staging"})
    assert none.code == 2
    assert 'has no profile "staging". Set TEMPORAL_PROFILE to one that it has: "production".' in (
        none.err
    )
    for text in (refused.err, *(each.text for each in started)):
        assert CANARY not in text
        assert KEY not in text
