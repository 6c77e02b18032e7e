"""Declaring a participant: what is accepted, and how a wrong declaration is told."""

import pytest
from msgspec import Raw, Struct

from unwind.core.barrier import Answer
from unwind.core.steps import Command, Refused
from unwind.errors import DefinitionError, InputError
from unwind.ports import Message
from unwind.runtime.participant import REASON_LIMIT, HandlerCall, Participant, answer, failed, open_message
from unwind.stores.memory_barrier import MemoryParticipantStore


class Reserve(Command, frozen=True, tag="inventory.reserve"):
    quantity: int


class Release(Command, frozen=True, tag="inventory.release"):
    pass


class Charge(Command, frozen=True, tag="payment.charge"):
    pass


class Untagged(Command, frozen=True):
    pass


class Foreign(Struct, frozen=True, tag="inventory.foreign"):
    pass


def handler(tx: object, command: Command, call: HandlerCall) -> None:
    return None


def message(**changes: object) -> Message:
    fields: dict[str, object] = {
        "id": "saga/step/do",
        "name": "inventory.reserve",
        "payload": Raw(b'{"type":"inventory.reserve","quantity":1}'),
        "saga_id": "saga",
        "step": "step",
        "direction": "do",
    }
    return Message(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def inventory() -> Participant[object]:
    inventory: Participant[object] = Participant("inventory")
    inventory.handles(Reserve)(handler)
    inventory.undoes(Release)(handler)
    return inventory


def test_a_declared_function_stays_what_it_is() -> None:
    inventory: Participant[object] = Participant("inventory")
    assert inventory.handles(Reserve)(handler) is handler


@pytest.mark.parametrize("name", ["", "in.ventory", "in\nventory"])
def test_a_service_needs_a_name_that_can_begin_a_tag(name: str) -> None:
    with pytest.raises(DefinitionError, match="printable name"):
        Participant(name)


@pytest.mark.parametrize(
    ("command", "mend"),
    [
        pytest.param(Reserve, "has a handler already", id="two handlers"),
        pytest.param(Charge, 'tag="inventory', id="the tag of another service"),
        pytest.param(Untagged, 'tag="inventory', id="no tag"),
        pytest.param(Foreign, "derive it from unwind.Command", id="no command"),
    ],
)
def test_a_wrong_declaration_names_the_command_and_the_mend(
    inventory: Participant[object], command: type[Command], mend: str
) -> None:
    for declare in (inventory.handles, inventory.undoes):
        with pytest.raises(DefinitionError, match=f"inventory.*{command.__name__}.*{mend}"):
            declare(command)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"name": "inventory.recount"}, "no handler for 'inventory.recount'", id="unknown command"),
        pytest.param({"payload": Raw(b'{"quantity":"two"}')}, "does not fit", id="wrong type"),
        pytest.param({"payload": Raw(b'{"quantity":1,"colour":"red"}')}, "does not fit", id="unknown field"),
        pytest.param({"payload": Raw(b"{}")}, "does not fit", id="missing field"),
        pytest.param({"payload": Raw(b'{"quantity":')}, "does not fit", id="truncated"),
        pytest.param({"payload": Raw(b"\xff\x00")}, "does not fit", id="not text"),
        pytest.param({"payload": Raw(b'{"quantity":1,"x":' + b"[" * 100_000)}, "does not fit", id="deep"),
        pytest.param({"id": ""}, "not the effect id", id="no effect id"),
        pytest.param({"id": "other/step/do"}, "not the effect id", id="the effect id of another saga"),
        pytest.param({"saga_id": "", "id": "/step/do"}, "not the effect id", id="no saga"),
        pytest.param({"direction": "undo", "id": "saga/step/undo"}, "handled as 'do'", id="a do sent as undo"),
        pytest.param({"name": "inventory.release"}, "handled as 'undo'", id="an undo sent as do"),
    ],
)
def test_poison_is_told_from_commands(inventory: Participant[object], changes: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        open_message(inventory, message(**changes))


async def test_a_handler_is_told_about_its_call() -> None:
    calls: list[tuple[object, HandlerCall]] = []
    inventory: Participant[object] = Participant("inventory")

    @inventory.handles(Reserve)
    def reserve(tx: object, command: Reserve, call: HandlerCall) -> None:
        calls.append((command, call))

    job = open_message(inventory, message(attempt=3, correlation_id="cart"))
    await answer(MemoryParticipantStore({}, lambda: 0), [job])
    assert calls == [(Reserve(1), HandlerCall("saga/step/do", "saga", "step", "do", 3, "cart"))]


async def test_a_handler_that_returns_nothing_answers_ok_and_one_that_returns_nonsense_has_failed() -> None:
    inventory: Participant[object] = Participant("inventory")
    inventory.handles(Reserve)(handler)
    inventory.undoes(Release)(lambda tx, command, call: 42)  # type: ignore[type-var]
    undo = message(id="saga/step/undo", name="inventory.release", direction="undo", payload=Raw(b"{}"))
    jobs = [open_message(inventory, given) for given in (message(), undo)]
    ok, failed = await answer(MemoryParticipantStore({}, lambda: 0), jobs)
    assert ok == Answer("ok")
    assert failed is not None
    assert (failed.outcome, failed.reason) == (
        "failed",
        "TypeError: a handler returns a msgspec.Struct, a Refusal or None, not int",
    )


def test_the_reason_of_a_failure_is_short_and_can_travel() -> None:
    reason = failed(ValueError("\udc80" + "x" * 10_000)).reason
    assert reason.startswith("ValueError: ?xxx")
    assert len(reason) == REASON_LIMIT


def test_a_reply_echoes_what_the_saga_knows_it_by(inventory: Participant[object]) -> None:
    job = open_message(inventory, message(attempt=2, correlation_id="cart", traceparent="00-trace"))
    assert job.reply(Answer("refused", "refused", Raw(b'{"reason":"none"}'), "none")) == Message(
        id="saga/step/do",
        name="refused",
        payload=Raw(b'{"reason":"none"}'),
        saga_id="saga",
        step="step",
        direction="do",
        attempt=2,
        outcome="refused",
        reason="none",
        correlation_id="cart",
        causation_id="saga/step/do",
        traceparent="00-trace",
    )


async def test_a_refusal_travels_whole() -> None:
    inventory: Participant[object] = Participant("inventory")
    inventory.handles(Reserve)(lambda tx, command, call: Refused("none left"))
    [refused] = await answer(MemoryParticipantStore({}, lambda: 0), [open_message(inventory, message())])
    assert refused == Answer("refused", "refused", Raw(b'{"type":"refused","reason":"none left"}'), "none left")
