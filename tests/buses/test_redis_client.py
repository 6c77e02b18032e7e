"""How Redis is reached: addresses as users write them, old servers, bounds on every call."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from unwind.errors import SettingsError, UnavailableError
from unwind.redis_client import Address, RedisClient, Script, check_release, parse_address


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("localhost:6379", Address("localhost"), "localhost:6379"),
        ("localhost", Address("localhost"), "localhost:6379"),
        ("192.0.2.1:7000/3", Address("192.0.2.1", 7000, 3), "192.0.2.1:7000/3"),
        ("[::1]:7000", Address("::1", 7000), "[::1]:7000"),
        ("redis://host/", Address("host"), "host:6379"),
        ("redis://ada@host:7000/2", Address("host", 7000, 2, "ada"), "host:7000/2"),
        ("rediss://host", Address("host", encrypted=True), "host:6379"),
    ],
)
def test_an_address_as_users_write_it(text: str, address: Address, shown: str) -> None:
    assert parse_address(text) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    "text",
    ["", ":6379", "host:port", "host:99999", "host/x", "host/-1", "http://host", "host?db=1", "[::1", "host/1/2"],
)
def test_what_is_no_address_is_told_with_what_is_one(text: str) -> None:
    with pytest.raises(SettingsError, match=r"REDIS_ADDR: this is not understood; use host:port"):
        parse_address(text)


@pytest.mark.parametrize("text", ["redis://:secret@host", "redis://ada:secret@host:1/2", "ada:secret@host"])
def test_a_password_in_the_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_PASSWORD") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("release", "good"), [("6.0.16", False), ("5.0.7", False), ("6.2.0", True), ("10.0.1", True)])
def test_a_server_that_is_too_old_is_refused(release: str, good: bool) -> None:
    about = f"# Server\r\nredis_version:{release}\r\nredis_mode:standalone\r\n".encode()
    if good:
        check_release(about)
        return
    with pytest.raises(SettingsError, match=rf"this is Redis {release}; 6.2 or newer is needed"):
        check_release(about)


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(redis_address, connections=2)
    yield client
    await client.close()


@pytest.mark.integration
async def test_more_calls_than_connections_share_them(redis: RedisClient) -> None:
    answers = await asyncio.gather(*(redis.call("ECHO", number) for number in range(200)))
    assert answers == [b"%d" % number for number in range(200)]
    assert len(redis._redis.connection_pool._available_connections) == 2


@pytest.mark.integration
async def test_a_script_is_sent_once_and_again_when_it_was_forgotten(redis: RedisClient) -> None:
    script = Script.of("return {KEYS[1], ARGV[1]}")
    for _ in range(3):
        assert await redis.run(script, ["key"], ["argument"]) == [b"key", b"argument"]
        await redis.call("SCRIPT", "FLUSH")
    with pytest.raises(UnavailableError, match="wrong thing"):
        await redis.run(Script.of("return redis.error_reply('wrong thing')"), [], [])


@pytest.mark.integration
async def test_a_call_that_is_cancelled_spoils_no_other(redis: RedisClient) -> None:
    for _ in range(20):
        call = asyncio.create_task(redis.call("BLPOP", "nothing", 10))
        await redis.call("PING")
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await redis.call("ECHO", "mine") == b"mine"


@pytest.mark.integration
async def test_a_call_is_bounded_and_the_connection_usable_afterwards(redis_address: str) -> None:
    hasty = RedisClient(redis_address, connections=1, patience=0.1)
    began = monotonic()
    with pytest.raises(UnavailableError, match=r"has not answered within 0.1 s"):
        await hasty.call("BLPOP", "nothing", 10)
    assert monotonic() - began < 2
    assert await hasty.call("ECHO", "mine") == b"mine"
    await hasty.close()
    with pytest.raises(UnavailableError, match="closed"):
        await hasty.call("PING")
