"""Sagas that are the doing of other sagas' steps: who begins whom, and how the end of one reaches the other.

Both directions go through the worker's own inbox, and what is lost with it comes again: the parent's wake-up looks
after the child, and a child that has ended tells its parent each time it is looked after.
"""

from collections.abc import Callable, Iterable

from unwind.core.effects import RunSaga, TellParent
from unwind.core.messages import NULL, Input, Reply, Start, Unwind
from unwind.core.saga import Saga
from unwind.errors import UnwindError
from unwind.runtime.inbox import Entry
from unwind.runtime.keys import id_of_key
from unwind.runtime.unit import Decided


def child_id(saga_id: str, step: str) -> str:
    """The id of the saga that is the doing of that step: derived, so that it is begun once."""
    return id_of_key("step", f"{saga_id}/{step}")


def to_child(effect: RunSaga, made: Decided) -> tuple[str, Input]:
    """What a parent's step asks of its child, and the child's id."""
    parent, identity = made.after, child_id(effect.saga_id, effect.step)
    plan = made.saga.plan(effect.step, parent.items)
    if plan is None:
        raise KeyError(f"saga {effect.saga_id}: its definition has no step {effect.step}")
    child: Saga[object] = plan.step.saga
    start = Start(
        identity,
        effect.context,
        correlation_id=parent.correlation_id,
        traceparent=parent.traceparent,
        definition_hash=child.hash,
        parent=f"{effect.saga_id}/{effect.step}",
        attempt=effect.attempt,
    )
    return identity, start if effect.direction == "do" else Unwind(start)


def give_up(entries: Iterable[Entry], error: UnwindError, put: Callable[[str, Input], None]) -> None:
    """Tell whoever waits that nothing comes of these inputs now: a caller, or the parent of a child that is not stored.

    To the parent it is an attempt that failed.
    """
    for entry in entries:
        message = entry.message
        if entry.waiter is not None:
            entry.waiter.failed(error)
        elif isinstance(message, Start) and message.parent:
            saga_id, _, step = message.parent.rpartition("/")
            put(saga_id, Reply(step, "do", "failed", message.attempt, NULL, str(error)))


def to_parent(effect: TellParent) -> tuple[Input, ...]:
    """What the end of a child means to its parent's step, which is being done or undone: the other one is a no-op."""
    if effect.completed:
        return (Reply(effect.step, "do", "ok", 1, effect.context),)
    return (
        Reply(effect.step, "do", "refused", 1, NULL, effect.reason),
        Reply(effect.step, "undo", "ok", 1),
    )
