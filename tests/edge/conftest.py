"""A Redis that a test may treat badly."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.servers import valkey

from unwind.redis_client import RedisClient


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[RedisClient]:
    """A client of the server that is shared and was just flushed."""
    client = RedisClient(redis_address)
    yield client
    await client.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[valkey.Valkey]:
    """A server that no other test has."""
    with valkey.running(tmp_path) as server:
        yield server
