"""What was said between a saga and its participants: each command and what came back, as the log has it. Pure."""

from collections.abc import Iterable

from msgspec import Raw, Struct

from unwind.core.events import (
    Event,
    RetryOrdered,
    SignalReceived,
    StepDone,
    StepRefused,
    StepStarted,
    UndoDone,
    UndoStarted,
)
from unwind.core.messages import NULL, CommandCall, Direction
from unwind.runtime.instants import instant


class Said(Struct, frozen=True):
    """A command, a reply or a signal."""

    number: int
    """Of the event that has it, from 1: what the saga's version was with it."""
    step: str
    direction: Direction
    what: str
    at: str
    body: Raw


def said(log: Iterable[Event]) -> tuple[Said, ...]:
    """All of it, in order."""
    found: list[Said] = []

    def add(number: int, event: Event, direction: Direction, what: str, body: Raw) -> None:
        if bytes(body) != bytes(NULL):
            found.append(Said(number, getattr(event, "step", ""), direction, what, instant(event.at), body))

    def sent(number: int, event: Event, direction: Direction, call: CommandCall | None, how: str = "") -> None:
        if call is not None:
            add(number, event, direction, f"{call.name} to {call.service}{how}", call.payload)

    for number, event in enumerate(log, 1):
        match event:
            case StepStarted(child=child, command=command) | UndoStarted(child=child, command=command) if child:
                add(number, event, "do", f"context of saga {child}", NULL if command is None else command.payload)
            case StepStarted():
                sent(number, event, "do", event.command)
            case UndoStarted():
                sent(number, event, "undo", event.command)
            case RetryOrdered():
                sent(number, event, event.direction, event.command, ", in place of the one before")
            case StepDone():
                add(number, event, "do", "answer", event.reply)
            case StepRefused():
                add(number, event, "do", "refusal", event.reply)
            case UndoDone():
                add(number, event, "undo", "answer", event.reply)
            case SignalReceived():
                add(number, event, "do", "signal", event.payload)
            case _:
                continue
    return tuple(found)
