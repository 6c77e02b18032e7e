"""What goes wrong with a NATS server: it dies, forgets, hangs, is full, is another than was thought."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import nats as client
import pytest
from nats.aio.client import Client
from tests.buses.test_nats import api
from tests.eventually import eventually
from tests.servers import nats
from tests.servers.nats import Nats

from unwind.buses.nats import NatsBus
from unwind.buses.nats.streams import consumer_of, place_of
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import COMMANDS, EVENTS, Subscription
from unwind.runtime.clock import SystemClock
from unwind.testing.bus_suite import ids, message, publish_each

pytestmark = pytest.mark.integration

SECOND = 1_000_000
TOPIC = f"{COMMANDS}service"
PLACE = place_of(TOPIC)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nats]:
    with nats.running(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def bus(server: Nats) -> AsyncIterator[NatsBus]:
    """With time enough: whatever comes again does so for another reason."""
    bus = await NatsBus.open(server.url, SystemClock(), ack_wait=60 * SECOND)
    yield bus
    await bus.close()


@pytest.fixture
async def raw(server: Nats) -> AsyncIterator[Client]:
    raw = await client.connect(server.url, allow_reconnect=False)
    yield raw
    await raw.close()


async def published(bus: NatsBus, name: str, topic: str = TOPIC) -> bool | None:
    """True once the bus takes it."""
    try:
        await bus.publish(topic, [message(name)])
    except UnavailableError:
        return None
    return True


async def read_until(subscription: Subscription, last: str) -> list[str]:
    """What comes up to this, and is acknowledged. A killed server may not know what it had handed out."""
    seen: list[str] = []
    while last not in seen:
        async with asyncio.timeout(15):
            deliveries = await subscription.fetch(10)
        await subscription.ack(deliveries)
        seen += ids(deliveries)
    return seen


async def within(seconds: float, fetching: "asyncio.Task[Any]") -> list[str]:
    async with asyncio.timeout(seconds):
        return ids(await fetching)


# -------------------------------------------------------------------------------------------------- it dies, it forgets


async def test_a_killed_server_that_comes_back_has_what_it_was_given(bus: NatsBus, server: Nats) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    await publish_each(bus, TOPIC, ["held", "stored"])
    held = await subscription.fetch(1)
    await bus.publish(f"{COMMANDS}other", [message("stored elsewhere")])
    server.kill()
    server.start()
    await eventually(lambda: published(bus, "after"), within=10)
    await subscription.ack(held)
    seen = await read_until(subscription, "after")
    assert [key for key in seen if key != "held"] == ["stored", "after"]
    assert ids(await (await bus.subscribe(f"{COMMANDS}other", "other")).fetch(1)) == ["stored elsewhere"]


async def test_a_server_that_comes_back_without_its_files_is_furnished_again(bus: NatsBus, server: Nats) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    await publish_each(bus, TOPIC, ["held", "lost"])
    held = await subscription.fetch(1)
    again = asyncio.create_task(subscription.fetch(2))
    assert ids(await again) == ["lost"]
    waiting = asyncio.create_task(subscription.fetch(2))
    server.kill()
    server.forget_everything()
    server.start()
    await eventually(lambda: published(bus, "after"), within=10)
    assert await within(10, waiting) == ["after"]
    # The new server's first message has the number of the old one's: this may not count for it.
    await subscription.ack(held)
    assert await pending(server) == 1


async def pending(server: Nats) -> int:
    raw = await client.connect(server.url)
    try:
        found = await api(raw, f"CONSUMER.INFO.{PLACE.stream}.{consumer_of(PLACE, 'group')}")
        return int(found["num_ack_pending"])
    finally:
        await raw.close()


async def test_publishing_without_a_server_fails_at_once_and_piles_up_nothing(bus: NatsBus, server: Nats) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    await bus.publish(TOPIC, [message("held")])
    held = await subscription.fetch(1)
    server.kill()
    await eventually(lambda: refused(bus), within=5)
    began = monotonic()
    for _ in range(100):
        with pytest.raises(UnavailableError, match="cannot be reached now"):
            await bus.publish(TOPIC, [message("lost")])
    for call in (subscription.ack(held), subscription.nack(held), bus.subscribe(TOPIC, "group"), bus.ping()):
        with pytest.raises(UnavailableError):
            await call
    assert monotonic() - began < 0.5
    server.start()
    await eventually(lambda: published(bus, "after"), within=10)
    assert "lost" not in await read_until(subscription, "after")
    await bus.ping()


async def refused(bus: NatsBus) -> bool | None:
    return None if await published(bus, "probe") else True


async def test_what_was_on_its_way_when_the_server_died_goes_out_again(bus: NatsBus, server: Nats) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    await bus.publish(TOPIC, [message("first")])
    await subscription.ack(await subscription.fetch(1))
    os.kill(server.pid, signal.SIGSTOP)
    await publish_each(bus, TOPIC, range(5))  # nobody waits for the server's word
    server.kill()
    server.start()
    seen = await read_until(subscription, "4")
    assert [key for key in seen if key != "first"] == ["0", "1", "2", "3", "4"]


async def test_a_member_that_leaves_while_there_is_no_server_leaves_quickly(bus: NatsBus, server: Nats) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    fetching = asyncio.create_task(subscription.fetch(1))
    await asyncio.sleep(0)
    server.kill()
    began = monotonic()
    await subscription.close()
    with pytest.raises(UnavailableError):
        await fetching
    assert monotonic() - began < 3


async def test_its_files_deleted_while_it_runs_it_is_usable_again_within_seconds(bus: NatsBus, server: Nats) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    await publish_each(bus, TOPIC, range(300))
    await read_until(subscription, "299")
    shutil.rmtree(server.store)
    filling = b'"%s"' % (b"x" * 900_000)

    async def fails() -> bool | None:
        """It goes on until the file is full that has no name any more."""
        try:
            await bus.publish(TOPIC, [message("filling", filling)])
        except UnavailableError:
            return True
        return None

    await eventually(fails, within=30)
    await eventually(lambda: published(bus, "after"), within=15)
    await read_until(subscription, "after")
    assert not bus._sender._flights  # what was not stored is given up, and slows down nobody


# ---------------------------------------------------------------------------------------------------- something is gone


async def test_a_consumer_that_is_deleted_is_made_again(bus: NatsBus, raw: Client) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    waiting = asyncio.create_task(subscription.fetch(1))
    for number in range(3):
        assert (await api(raw, f"CONSUMER.DELETE.{PLACE.stream}.{consumer_of(PLACE, 'group')}"))["success"]
        await bus.publish(TOPIC, [message(number)])
        async with asyncio.timeout(10):
            deliveries = await waiting
        assert ids(deliveries) == [str(number)]
        await subscription.ack(deliveries)
        waiting = asyncio.create_task(subscription.fetch(1))
        await eventually(lambda: has_consumer(raw), within=10)
    waiting.cancel()


async def has_consumer(raw: Client) -> bool | None:
    found = await api(raw, f"CONSUMER.INFO.{PLACE.stream}.{consumer_of(PLACE, 'group')}")
    return None if "error" in found or not found["num_waiting"] else True


async def test_a_request_that_stays_without_a_word_is_made_again(bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    send, swallowed = bus._link.send, 0

    async def swallow_first_request(subject: str, *rest: Any) -> None:
        nonlocal swallowed
        if "MSG.NEXT" in subject and not swallowed:
            swallowed += 1
        else:
            await send(subject, *rest)

    monkeypatch.setattr(bus._link, "send", swallow_first_request)
    await bus.publish(TOPIC, [message("waiting")])
    assert await within(10, asyncio.create_task(subscription.fetch(1))) == ["waiting"]
    assert swallowed == 1


async def test_a_stream_that_is_deleted_is_made_again_by_whoever_publishes(bus: NatsBus, raw: Client) -> None:
    for number in range(3):
        await bus.publish(TOPIC, [message(number)])
        await eventually(lambda: deleted(raw), within=10)
    await bus.publish(TOPIC, [message("found no stream")])
    subscription = await bus.subscribe(TOPIC, "group")
    assert await within(10, asyncio.create_task(subscription.fetch(1))) == ["found no stream"]


async def deleted(raw: Client) -> bool | None:
    return True if "error" not in await api(raw, f"STREAM.DELETE.{PLACE.stream}") else None


async def test_a_stream_that_is_deleted_is_made_again_by_whoever_waits(bus: NatsBus, raw: Client) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    waiting = asyncio.create_task(subscription.fetch(1))
    await asyncio.sleep(0)
    assert (await api(raw, f"STREAM.DELETE.{PLACE.stream}"))["success"]
    await eventually(lambda: has_consumer(raw), within=10)
    await bus.publish(TOPIC, [message("after")])
    assert await within(10, waiting) == ["after"]


# ------------------------------------------------------------------------------------------------- it hangs, it is full


async def test_a_server_that_hangs_makes_publishing_fail_and_is_used_again_when_it_goes_on(
    bus: NatsBus, server: Nats
) -> None:
    subscription = await bus.subscribe(TOPIC, "group")
    await bus.publish(TOPIC, [message("first")])
    await subscription.ack(await subscription.fetch(1))
    os.kill(server.pid, signal.SIGSTOP)
    began = monotonic()
    await eventually(lambda: refused(bus), within=5)
    with pytest.raises(UnavailableError):
        await bus.publish(EVENTS + "order", [message("event")])
    assert monotonic() - began < 7
    os.kill(server.pid, signal.SIGCONT)
    await eventually(lambda: published(bus, "after"), within=15)
    await read_until(subscription, "after")


async def test_a_full_stream_refuses_and_takes_again_what_has_room_and_keeps_its_limits(
    server: Nats, raw: Client
) -> None:
    mine = {"retention": "workqueue", "discard": "new", "max_bytes": 10_000}
    subjects = ["unwind.commands", "unwind.commands.>"]
    await api(raw, f"STREAM.CREATE.{PLACE.stream}", {"name": PLACE.stream, "subjects": subjects, **mine})
    bus = await NatsBus.open(server.url, SystemClock())
    filling = [message("filling", b'"%s"' % (b"x" * 1_000))]

    async def is_full() -> bool | None:
        try:
            await bus.publish(TOPIC, filling)
        except UnavailableError:
            return True
        return None

    await eventually(is_full, within=10)
    with pytest.raises(UnavailableError, match="maximum bytes exceeded"):
        await bus.publish(TOPIC, filling)
    await bus.publish(EVENTS + "order", [message("others are not concerned")])
    subscription = await bus.subscribe(TOPIC, "group")
    await subscription.ack(await subscription.fetch(8))
    await eventually(lambda: published(bus, "after"), within=5)
    await bus.close()


async def test_a_service_that_takes_nothing_fills_its_own_part_of_the_commands(bus: NatsBus) -> None:
    for _ in range(8_192):
        await bus.publish(TOPIC, [message("for nobody")])
    await eventually(lambda: refused(bus), within=5)
    with pytest.raises(UnavailableError, match="maximum messages per subject exceeded"):
        await bus.publish(TOPIC, [message("one too many")])
    other = await bus.subscribe(COMMANDS + "other", "group")
    await bus.publish(COMMANDS + "other", [message("others are not concerned")])
    await read_until(other, "others are not concerned")


# ------------------------------------------------------------------------------------------- it is not what was thought


async def test_a_server_that_is_not_there_is_unavailable(server: Nats) -> None:
    server.stop()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port} cannot be reached"):
        await NatsBus.open(server.url, SystemClock())


async def test_somebody_who_does_not_speak_nats_is_unavailable() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    with pytest.raises(UnavailableError, match="INFO"):
        await NatsBus.open(f"nats://127.0.0.1:{port}", SystemClock())
    other.close()
    await other.wait_closed()


@pytest.mark.parametrize(
    "url", ["", "http://host", "nats://", "nats://host:port", "nats://a:4222,,", "nats://[::1", "host:4222"]
)
async def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="NATS_URL: this is not understood"):
        await NatsBus.open(url, SystemClock())


@pytest.mark.parametrize(
    ("words", "right", "wrong"),
    [
        (("--user", "me", "--pass", "s3cr%t@/"), "me:s3cr%25t%40%2F", "me:other-s3cret"),
        (("--auth", "t0ken"), "t0ken", "other-t0ken"),
    ],
)
async def test_wrong_credentials_are_told_and_not_shown(
    tmp_path: Path, words: tuple[str, ...], right: str, wrong: str
) -> None:
    with nats.running(tmp_path, extra=words) as server:
        address = f"127.0.0.1:{server.port}"
        for given in (f"{wrong}@", ""):
            with pytest.raises(SettingsError) as caught:
                await NatsBus.open(f"nats://{given}{address}", SystemClock())
            assert str(caught.value) == f"NATS_URL: NATS at {address} refuses user, password or token; mend them"
        bus = await NatsBus.open(f"nats://{right}@{address}", SystemClock())
        await bus.publish(TOPIC, [message("in")])
        await bus.close()


async def test_nats_without_jetstream_is_told(tmp_path: Path) -> None:
    told = "has no JetStream for this user; start nats-server with -js"
    with nats.running(tmp_path, jetstream=False) as server, pytest.raises(SettingsError, match=told):
        await NatsBus.open(server.url, SystemClock())


async def test_a_stream_of_another_shape_is_told_and_left_alone(server: Nats, raw: Client) -> None:
    subjects = ["unwind.commands", "unwind.commands.>"]
    mine = {"name": PLACE.stream, "subjects": subjects, "retention": "limits", "max_msgs": 7}
    await api(raw, f"STREAM.CREATE.{PLACE.stream}", mine)
    with pytest.raises(SettingsError, match=r"stream unwind-commands: .* retention policy .*; delete or rename it"):
        await NatsBus.open(server.url, SystemClock())
    assert (await api(raw, f"STREAM.INFO.{PLACE.stream}"))["config"]["max_msgs"] == 7


async def test_somebody_elses_stream_on_the_same_subjects_is_told(server: Nats, raw: Client) -> None:
    await api(raw, "STREAM.CREATE.theirs", {"name": "theirs", "subjects": ["unwind.>"]})
    with pytest.raises(SettingsError, match="subjects overlap"):
        await NatsBus.open(server.url, SystemClock())


async def test_a_stream_that_can_be_made_to_fit_is_made_to_fit(server: Nats, raw: Client) -> None:
    mine = {"name": PLACE.stream, "subjects": ["unwind.commands.a"], "retention": "workqueue", "max_msgs": 7}
    await api(raw, f"STREAM.CREATE.{PLACE.stream}", mine)
    bus = await NatsBus.open(server.url, SystemClock())
    await bus.publish(TOPIC, [message("fits")])
    config = (await api(raw, f"STREAM.INFO.{PLACE.stream}"))["config"]
    assert (config["subjects"], config["discard"], config["max_msgs"]) == (
        ["unwind.commands", "unwind.commands.>"],
        "new",
        7,
    )
    await bus.close()
