"""Heads of requests that are too large, too slow, or none at all: raw bytes against a real server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.cli.conftest import Start

from unwind.cli import heads
from unwind.cli.server import Server

LIMIT = heads.HEAD_BYTES
GOOD = b"GET /here HTTP/1.1\r\nhost: x\r\n\r\n"
OK = "HTTP/1.1 200 OK"
TOO_LARGE = "HTTP/1.1 431 Request Header Fields Too Large"
TOO_SLOW = "HTTP/1.1 408 Request Timeout"


async def length_of_body(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with how much came, and with the names of the headers."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    names = ",".join(name.decode() for name, _ in scope["headers"])
    body = f"{length} {names}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[str, bytes]:
        """Status line and body of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        [length] = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
        return head.splitlines()[0], await self._reader.readexactly(int(length))

    async def problem(self) -> tuple[str, Any]:
        line, body = await self.answer()
        return line, json.loads(body)

    async def ended(self) -> bool:
        try:
            return await self._reader.read() == b""
        except ConnectionResetError:  # it had not read all that was sent
            return True

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # the server may have hung up already
            await self._writer.wait_closed()


Connect = Callable[[], Any]


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Connections to a server whose patience is short."""
    monkeypatch.setattr(heads.BoundedHeads, "seconds", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        server = Server("127.0.0.1", listener)
        async with server.answering(lambda: None):
            server.open(length_of_body)

            @asynccontextmanager
            async def connected() -> AsyncIterator[Client]:
                client = Client(*await asyncio.open_connection(*address))
                try:
                    yield client
                finally:
                    await client.close()

            yield connected


async def test_a_head_as_large_as_allowed_is_served(connect: Connect) -> None:
    async with connect() as client:
        name_and_value = LIMIT - len("/here") - len("host") - len("x") - len("long")
        await client.send(b"GET /here HTTP/1.1\r\nhost: x\r\nlong: " + b"v" * (name_and_value - 100) + b"\r\n\r\n")
        assert await client.answer() == (OK, b"0 host,long")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /here HTTP/1.1\r\nlong: " + b"v" * (LIMIT + 1) + b"\r\n\r\n",
        b"GET /here HTTP/1.1\r\nendless: " + b"v" * (LIMIT * 3),
        b"GET /" + b"p" * (LIMIT + 1) + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /here HTTP/1.1\r\n" + b"".join(b"name-%d: v\r\n" % number for number in range(8_000)) + b"\r\n",
        b"\r\n" * LIMIT,
    ],
    ids=["a header", "an endless header", "a path", "many headers", "empty lines"],
)
async def test_a_larger_head_is_refused_and_the_connection_ended(connect: Connect, sent: bytes) -> None:
    async with connect() as client:
        await client.send(sent)
        line, problem = await client.problem()
        assert line == TOO_LARGE
        assert (problem["type"], problem["status"]) == ("/problems/head-too-large", 431)
        assert await client.ended()
    async with connect() as client:
        await client.send(GOOD)
        assert (await client.answer())[0] == OK


async def test_a_head_in_small_pieces_is_bounded_too(connect: Connect) -> None:
    async with connect() as client:
        await client.send(b"GET /here HTTP/1.1\r\n")
        for _ in range(LIMIT // 1_000 + 1):
            await client.send(b"a: " + b"v" * 995 + b"\r\n")
        assert (await client.problem())[0] == TOO_LARGE


async def test_what_follows_a_chunked_body_without_end_is_refused(connect: Connect) -> None:
    chunked = b"POST /here HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with connect() as client:
        await client.send(chunked + b"0\r\ntrailer: v\r\n\r\n")
        assert await client.answer() == (OK, b"3 host,transfer-encoding")
        # More than is read at a time: what comes in one piece with the end of the body is not counted.
        await client.send(chunked + b"0\r\ntrailer: " + b"v" * LIMIT * 8)
        assert await client.ended()


async def test_a_large_body_is_not_taken_for_a_head(connect: Connect) -> None:
    async with connect() as client:
        size = LIMIT * 4
        await client.send(b"POST /here HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + b"b" * size)
        assert await client.answer() == (OK, b"%d host,content-length" % size)
        await client.send(GOOD * 3)
        assert [await client.answer() for _ in range(3)] == [(OK, b"0 host")] * 3


@pytest.mark.parametrize("sent", [b"GET /here HT", b"GET /here HTTP/1.1\r\nhost: x\r\n", b"\r\n"])
async def test_a_head_that_does_not_come_whole_in_time_is_refused(connect: Connect, sent: bytes) -> None:
    async with connect() as client:
        await client.send(sent)
        line, problem = await client.problem()
        assert line == TOO_SLOW
        assert problem["type"] == "/problems/head-too-slow"
        assert await client.ended()


async def test_a_second_head_has_as_long_as_the_first(connect: Connect) -> None:
    async with connect() as client:
        await client.send(GOOD)
        assert (await client.answer())[0] == OK
        await client.send(GOOD[:10])
        assert (await client.problem())[0] == TOO_SLOW


async def test_a_connection_on_which_nothing_comes_is_ended_without_a_word(connect: Connect) -> None:
    async with connect() as client:
        assert await client.ended()


async def test_a_request_may_take_longer_than_its_head(connect: Connect) -> None:
    async with connect() as client, connect() as silent:
        await client.send(b"POST /here HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        assert await silent.ended()  # as long as a head may take
        await client.send(b"cd")
        assert await client.answer() == (OK, b"4 host,content-length")


async def test_what_is_no_http_is_told_as_a_problem(connect: Connect) -> None:
    async with connect() as client:
        await client.send(b"\x16\x03\x01 hello\r\n\r\n")
        line, problem = await client.problem()
        assert line == "HTTP/1.1 400 Bad Request"
        assert problem["type"] == "/problems/malformed"
        assert await client.ended()


def test_the_real_server_has_these_bounds(start: Start) -> None:
    server = start()
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nlong: " + b"v" * (LIMIT * 2))
        assert connection.recv(1000).decode().startswith(TOO_LARGE)
    assert server.http.get("/livez").status_code == 200
