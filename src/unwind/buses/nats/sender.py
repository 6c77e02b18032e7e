"""Publications on their way: sent without waiting, and kept until JetStream says that it has them.

The first publication to a stream waits for that word, and so does each one after a doubt (a refusal, a silence, too
many on their way): then the caller is told. Between doubts nobody waits.
"""

import asyncio
from collections.abc import Mapping, Sequence
from secrets import token_hex

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg

from unwind.buses.nats.link import PATIENCE, Link
from unwind.buses.nats.streams import NO_STREAM, Place, Streams
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import Clock

log = structlog.get_logger("unwind.nats")

_MOST = 1_024
_MOST_BYTES = 16 * 1024 * 1024
"""Of publications on their way that nobody waits for."""
_MICROSECONDS = 1_000_000
_HEAD, _LINE = 12, 4
"""Bytes of headers in all, and of each, beside names and values."""


class Parcel(Struct, frozen=True, gc=False):
    """One message of NATS."""

    place: Place
    data: bytes
    headers: Mapping[str, str] | None = None


def size_of(parcel: Parcel) -> int:
    """Bytes that count against what the server takes at once."""
    if parcel.headers is None:
        return len(parcel.data)
    lines = sum(len(name) + len(value.encode()) + _LINE for name, value in parcel.headers.items())
    return len(parcel.data) + _HEAD + lines


class _MissingError(UnavailableError):
    """There is no stream for it."""


class _Flight:
    """A parcel that JetStream has not taken yet."""

    __slots__ = ("parcel", "since", "taken")

    def __init__(self, parcel: Parcel, since: int, taken: asyncio.Future[None] | None) -> None:
        """`taken` is what somebody waits for, if anybody does."""
        self.parcel = parcel
        self.since = since
        self.taken = taken

    def fail(self, error: UnavailableError) -> bool:
        """Tell whoever waits for it, if anybody does."""
        if self.taken is None:
            return False
        if not self.taken.done():
            self.taken.set_exception(error)
        return True


class _Problem(Struct):
    err_code: int = 0
    description: str = ""


class _Word(Struct):
    error: _Problem | None = None


_word = msgspec.json.Decoder(_Word)


class Sender:
    """Hands publications to JetStream."""

    def __init__(self, link: Link, streams: Streams, clock: Clock) -> None:
        """Nothing can be sent before `open`."""
        self._link = link
        self._streams = streams
        self._clock = clock
        self._answers = f"_INBOX.{token_hex(11)}."
        self._count = 0
        self._flights: dict[str, _Flight] = {}
        self._bytes = 0
        self._trusted: set[str] = set()
        """Streams that took what they were last given."""
        self._astray: list[Parcel] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen to what JetStream says. Raises UnavailableError."""
        await self._link.listen(self._answers + "*", self._answered)
        self._link.on_connect(self._connected)

    async def send(self, parcels: Sequence[Parcel], *, surely: bool = False) -> None:
        """Parcels for one place, in order. `surely`: return when they are stored.

        Raises UnavailableError: some may not be stored. Without `surely` that is noticed one publication late.
        """
        if surely or self._doubtful(parcels[0].place):
            await self._surely(parcels)
            return
        for parcel in parcels:
            await self._fly(parcel, None)

    def close(self) -> None:
        """Forget what is on its way."""
        for task in self._tasks:
            task.cancel()
        for flight in self._flights.values():
            flight.fail(UnavailableError("the bus is closed; the program is stopping"))
        self._flights.clear()

    # ----------------------------------------------------------------------------------------------------- on their way

    def _doubtful(self, place: Place) -> bool:
        if place.stream not in self._trusted or len(self._flights) >= _MOST or self._bytes >= _MOST_BYTES:
            return True
        if not self._flights:
            return False
        oldest = next(iter(self._flights.values()))
        return self._clock.monotonic() - oldest.since > PATIENCE * _MICROSECONDS

    async def _surely(self, parcels: Sequence[Parcel]) -> None:
        try:
            await self._store(parcels)
        except SettingsError as error:
            # It fitted at the start; whoever changed it meanwhile is told in the log, and the caller tries again.
            raise UnavailableError(str(error)) from error

    async def _store(self, parcels: Sequence[Parcel]) -> None:
        place, before = parcels[0].place, self._count
        try:
            try:
                await self._wait(parcels)
            except _MissingError:
                await self._streams.furnish(place)
                await self._wait(parcels)
        except TimeoutError as error:
            self._trusted.discard(place.stream)
            self._give_up(place.stream, before)
            await self._streams.suspect(place)
            raise UnavailableError(f"stream {place.stream} takes no publication within {PATIENCE:g} s") from error
        self._give_up(place.stream, before)
        self._trusted.add(place.stream)
        self._streams.sound(place)

    def _give_up(self, stream: str, before: int) -> None:
        """JetStream answers in order: what went out before, and is still without an answer, will not get one."""
        late = [token for token, flight in self._flights.items() if flight.parcel.place.stream == stream]
        late = [token for token in late if int(token) <= before and self._flights[token].taken is None]
        for token in late:
            self._landed(token)
        if late:
            log.warning("publications_lost", stream=stream, count=len(late))

    async def _wait(self, parcels: Sequence[Parcel]) -> None:
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[None]] = []
        tokens: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE):
                for parcel in parcels:
                    waiting.append(loop.create_future())
                    tokens.append(await self._fly(parcel, waiting[-1]))
                await asyncio.gather(*waiting)
        finally:
            for token in tokens:
                self._landed(token)
            for future in waiting:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # one refusal is told, the others are seen to have been

    async def _fly(self, parcel: Parcel, taken: asyncio.Future[None] | None) -> str:
        self._count += 1
        token = str(self._count)
        self._flights[token] = _Flight(parcel, self._clock.monotonic(), taken)
        self._bytes += len(parcel.data)
        try:
            await self._link.send(parcel.place.subject, parcel.data, self._answers + token, parcel.headers)
        except (UnavailableError, asyncio.CancelledError):
            self._landed(token)
            raise
        return token

    def _landed(self, token: str) -> _Flight | None:
        flight = self._flights.pop(token, None)
        if flight is not None:
            self._bytes -= len(flight.parcel.data)
        return flight

    # ---------------------------------------------------------------------------------------------------------- answers

    def _answered(self, message: Msg) -> None:
        flight = self._landed(message.subject.removeprefix(self._answers))
        if flight is None:
            return
        error = _error(flight.parcel.place, message)
        if error is not None:
            if not flight.fail(error):
                self._refused(flight.parcel, error)
        elif flight.taken is not None and not flight.taken.done():
            flight.taken.set_result(None)

    def _refused(self, parcel: Parcel, error: UnavailableError) -> None:
        """Nobody waits for it. A full stream is told to the next; what found no stream is sent when there is one."""
        stream = parcel.place.stream
        if stream in self._trusted:
            log.warning("publication_refused", stream=stream, error=str(error))
            self._trusted.discard(stream)
        if isinstance(error, _MissingError):
            self._again([parcel])

    def _connected(self) -> None:
        """A new connection, maybe to a server that knows nothing: whatever nobody waits for goes out again."""
        self._trusted.clear()
        parcels = []
        for token, flight in list(self._flights.items()):
            if not flight.fail(UnavailableError("the connection to NATS was lost meanwhile")):
                self._landed(token)
                parcels.append(flight.parcel)
        if parcels:
            self._again(parcels)

    def _again(self, parcels: Sequence[Parcel]) -> None:
        first = not self._astray
        self._astray += parcels
        if first:
            task = asyncio.create_task(self._send_again())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_again(self) -> None:
        """Once: what is lost then is sent again by its saga."""
        await asyncio.sleep(0)  # what is refused together goes together
        parcels, self._astray = self._astray, []
        by_place: dict[Place, list[Parcel]] = {}
        for parcel in parcels:
            by_place.setdefault(parcel.place, []).append(parcel)
        for place, theirs in by_place.items():
            try:
                await self._surely(theirs)
            except UnavailableError as error:
                log.warning("publications_lost", stream=place.stream, count=len(theirs), error=str(error))


def _error(place: Place, message: Msg) -> UnavailableError | None:
    """What JetStream has against it."""
    if message.headers and message.headers.get("Status") == "503":
        return _MissingError(f"there is no stream {place.stream}")
    try:
        error = _word.decode(message.data).error
    except msgspec.DecodeError as reason:
        return UnavailableError(f"stream {place.stream} answers what is not understood: {reason}")
    if error is None:
        return None
    if error.err_code == NO_STREAM:
        return _MissingError(f"there is no stream {place.stream}")
    return UnavailableError(f"stream {place.stream} takes nothing now: {error.description}; publish again later")
