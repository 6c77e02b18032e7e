"""A pooler in transaction mode, as harsh as one can be: each transaction on another connection, which forgets all."""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

SSL_REQUEST = 80_877_103
KNOWN = {"user", "database", "application_name", "client_encoding"}
"""Parameters of a start that it takes."""
ENDS = {b"Q", b"S"}
"""Messages that the server answers up to `Z`: a simple query, and Sync."""
DESCRIBED = {b"T", b"n", b"E"}
"""What ends the answer to Parse, Describe and Flush."""
GONE = (OSError, asyncio.IncompleteReadError)


def message(kind: bytes, body: bytes) -> bytes:
    """As it travels."""
    return kind + struct.pack("!I", len(body) + 4) + body


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Kind and body."""
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


class Server(NamedTuple):
    """A connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, ends: set[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """Messages up to the one that ends the answer."""
        while True:
            kind, body = await read_message(self.reader)
            yield kind, body
            if kind in ends:
                return


class Pooler:
    """For one database, whose server trusts everybody."""

    def __init__(self, url: str, size: int) -> None:
        """`size` is how many connections to the server it has."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._start = f"user\0{parts.username}\0database\0{parts.path.strip('/')}\0\0".encode()
        self._size = size
        self._greeting = b""
        self._free: deque[Server] = deque()
        self._some = asyncio.Semaphore(size)
        self._writers: list[asyncio.StreamWriter] = []
        self.transactions = 0
        self.refused = 0

    async def open(self) -> None:
        for _ in range(self._size):
            server = Server(*await asyncio.open_connection(self._host, self._port))
            self._writers.append(server.writer)
            server.writer.write(struct.pack("!II", len(self._start) + 8, 196_608) + self._start)
            kept = [(kind, body) async for kind, body in server.answer({b"Z"}) if kind in {b"R", b"S"}]
            self._greeting = b"".join(message(*each) for each in kept)
            self._free.append(server)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        self._writers.append(writer)
        with suppress(*GONE):
            if await self._greet(reader, writer):
                while await self._transaction(reader, writer):
                    self.transactions += 1
        writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            words = (await reader.readexactly(length - 8)).split(b"\0")
            if code != SSL_REQUEST:
                break
            writer.write(b"N")
        unknown = {word.decode() for word in words[:-2:2]} - KNOWN
        if unknown:
            self.refused += 1
            text = f"unsupported startup parameter: {unknown.pop()}".encode()
            writer.write(message(b"E", b"SFATAL\0VFATAL\0C08P01\0M" + text + b"\0\0"))
            return False
        invented = message(b"K", struct.pack("!II", 4_711, 4_711))
        writer.write(self._greeting + invented + message(b"Z", b"I"))
        return True

    async def _transaction(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        kind, body = await read_message(reader)
        if kind == b"X":
            return False
        async with self._some:
            # The one that has waited longest, so that the next transaction meets another.
            server = self._free.popleft()
            try:
                while await self._forward(server, kind, body, writer) != b"I":
                    kind, body = await read_message(reader)
                server.writer.write(message(b"Q", b"discard all\0"))
                async for _ in server.answer({b"Z"}):
                    pass
            finally:
                self._free.append(server)
        return True

    async def _forward(self, server: Server, kind: bytes, body: bytes, writer: asyncio.StreamWriter) -> bytes:
        """The server's state after this message, or nothing when it has not said."""
        server.writer.write(message(kind, body))
        if kind not in ENDS and kind != b"H":
            return b""
        state = b""
        async for answer, content in server.answer({b"Z"} if kind in ENDS else DESCRIBED):
            writer.write(message(answer, content))
            state = content if answer == b"Z" else b""
        return state


@asynccontextmanager
async def pooler(url: str, size: int = 3) -> AsyncIterator[tuple[Pooler, str]]:
    """A pooler before the database at a URL, and the URL to reach it by."""
    made = Pooler(url, size)
    await made.open()
    server = await asyncio.start_server(made.serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    yield made, parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
    server.close()
    made.close()
