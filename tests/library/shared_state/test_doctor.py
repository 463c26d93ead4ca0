"""What `doctor` says of the server that processes share."""

from __future__ import annotations

from redis import Redis

from dev.devstack.ports import free_port
from dev.devstack.redis import RedisServer
from temporal_tenancy.cli import Application, Login, Program
from temporal_tenancy.cli._shared_state_checks import shared_state_checks
from temporal_tenancy.cli._verdicts import Check
from temporal_tenancy.cli.program import use_program

NO_LOGIN = Login("SOME_URL")


async def checked(url: str | None) -> list[Check]:
    """Returns the checks of an application whose Redis is at `url`."""

    def never(*_: object) -> None:
        raise AssertionError

    def load() -> Application:
        return Application(
            connect=never,  # type: ignore[arg-type]
            database=never,  # type: ignore[arg-type]
            tenant=NO_LOGIN,
            platform=NO_LOGIN,
            relay=NO_LOGIN,
            owner=NO_LOGIN,
            redis=Login("REDIS_URL", url),
        )

    with use_program(Program(load=load)):
        return list(await shared_state_checks())


async def test_where_none_is_named_there_is_no_check() -> None:
    assert await checked(None) == []


async def test_a_server_that_answers_is_well(redis_url: str) -> None:
    [check] = await checked(redis_url)
    assert check.verdict == "ok"


async def test_what_is_wrong_is_said_with_the_setting(redis_server: RedisServer) -> None:
    for url, said in (
        (f"redis://:hunter2@127.0.0.1:{redis_server.port}", "rejects the user or the password"),
        (f"redis://:hunter2@127.0.0.1:{free_port()}", "cannot be reached"),
        ("http://:hunter2@localhost", "has the form redis://"),
    ):
        [check] = await checked(url)
        assert check.verdict == "failed"
        assert check.message.startswith("REDIS_URL: ")
        assert said in check.message
        assert "hunter2" not in check.message


async def test_a_server_that_answers_and_takes_no_writes_is_not_well(
    own_redis: RedisServer,
) -> None:
    with Redis.from_url(own_redis.url) as client:
        client.acl_setuser("reader", enabled=True, nopass=True, commands=["+@read", "+@connection"])
        client.replicaof("127.0.0.1", str(free_port()))
    reader = f"redis://reader:x@127.0.0.1:{own_redis.port}"
    for url, said in ((own_redis.url, "a replica, which takes no writes"), (reader, "may not do")):
        [check] = await checked(url)
        assert (check.verdict, said in check.message) == ("failed", True), check.message
