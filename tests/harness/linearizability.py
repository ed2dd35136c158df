"""Pure: is there one order of the operations that explains every answer? (Herlihy and Wing; searched as Wing, Gong and Lowe do.)

A history is what clients recorded: when each call began, when it returned, what it answered. An operation that was not answered
(a timeout, a dead server) may have happened, once, at any time after its call, or never. One whose error says that it did *not*
happen (a definite one) does not belong into the history.

Each `key` is checked alone, which is sound: a history is linearizable if that of every object is. What several keys must agree on
(a bank of accounts) is one key with a model of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """One call of one client. Times are of one clock; `ret` is None when nobody knows whether it happened.

    Kinds of the register: `get` (answers the value, None for none), `put` (of `argument`), `delete` (answers how many keys went;
    None: not told), `cas` (of an (expected, new) pair, None for no value; answers whether it did).
    """

    client: object
    key: object
    kind: str
    argument: Any
    result: Any
    call: float
    ret: float | None


REFUSED = object()  # what a model says to an answer that cannot be
Model = Callable[[Any, Operation], Any]  # (state before, operation) → state after, or REFUSED; states are hashable
READS = frozenset({"get", "read"})  # kinds that change nothing, in any model
MAX_STATES = 50_000  # kept at once; a history beyond that needs fewer clients on one key


class UndecidedError(Exception):
    """Too many possibilities to tell."""


def register(state: Any, operation: Operation) -> Any:
    """One key of etcd; the state is its value. The answer of an operation without a return is anything."""
    kind, known = operation.kind, operation.ret is not None
    if kind == "get":
        return state if not known or operation.result == state else REFUSED
    if kind == "put":
        return operation.argument
    if kind == "delete":
        count = int(state is not None)
        return None if not known or operation.result in (None, count) else REFUSED
    if kind == "cas":
        expected, new = operation.argument
        if known and operation.result != (state == expected):
            return REFUSED
        return new if state == expected else state
    raise ValueError(f"unknown kind of operation {kind!r}")


def check(history: Sequence[Operation], model: Model = register, initial: Any = None) -> str | None:
    """None when the history is linearizable, else what no order explains. Raises UndecidedError."""
    by_key: dict[object, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for key, operations in by_key.items():
        refused = _check_one(operations, model, initial)
        if refused is not None:
            return f"key {key!r}: {refused}"
    return None


# A possibility: the state, and which of the operations under way have happened already (a set of bits). A return is explained by
# letting it, and before it any of the others under way, happen now, at the latest; one that has no return is kept for when it is needed.
_Possibility = tuple[Any, int]


def _check_one(operations: Sequence[Operation], model: Model, initial: Any) -> str | None:
    ordered = sorted(operations, key=lambda each: each.call)
    # At one instant calls come before returns: what touches is concurrent.
    events = [(each.call, 0, place) for place, each in enumerate(ordered)]
    events += [(each.ret, 1, place) for place, each in enumerate(ordered) if each.ret is not None]
    under_way: dict[int, Operation] = {}
    unknown = 0  # bits of operations that never return
    possible: set[_Possibility] = {(initial, 0)}
    for _, is_return, place in sorted(events):
        if not is_return:
            under_way[place] = ordered[place]
            if ordered[place].ret is None:
                unknown |= 1 << place
            continue
        before = possible
        possible = _smallest(_explained(before, place, under_way, unknown, model), unknown)
        if not possible:
            return _told(ordered[place], before, under_way.values())
        del under_way[place]
    return None


def _explained(before: Iterable[_Possibility], place: int, under_way: dict[int, Operation], unknown: int, model: Model) -> set[_Possibility]:
    """Every possibility in which the operation at `place` has happened; its bit is cleared, for it is over."""
    bit = 1 << place
    reads = [(1 << other, each) for other, each in under_way.items() if each.kind in READS and each.ret is not None]
    writes = [(1 << other, each) for other, each in under_way.items() if each.kind not in READS]
    found: set[_Possibility] = set()
    seen: dict[_Possibility, list[int]] = {}
    # By the number of operations that happened: what uses up fewer unknown ones comes first, and what is otherwise the same is left out.
    level = {_with_reads(state, done, reads, model) for state, done in before}
    while level:
        following: set[_Possibility] = set()
        for state, done in level:
            used = seen.setdefault((state, done & ~unknown), [])
            if any(less & done == less for less in used):
                continue
            used.append(done & unknown)
            if done & bit:
                found.add((state, done & ~bit))
                continue
            for other, operation in writes:
                if not done & other and (after := model(state, operation)) is not REFUSED and (after != state or operation.ret is not None):
                    following.add(_with_reads(after, done | other, reads, model))
        level = following
        if len(seen) + len(level) > MAX_STATES:
            raise UndecidedError(f"more than {MAX_STATES} possibilities at {_shown(under_way[place])}")
    return found


def _with_reads(state: Any, done: int, reads: Sequence[tuple[int, Operation]], model: Model) -> _Possibility:
    """A read that could happen now does: nothing depends on it, so that putting it off gains nothing."""
    for other, operation in reads:
        if not done & other and model(state, operation) is not REFUSED:
            done |= other
    return state, done


def _smallest(possible: set[_Possibility], unknown: int) -> set[_Possibility]:
    """Without those that have used up more of the unknown operations than another one that is otherwise the same."""
    groups: dict[_Possibility, list[int]] = {}
    for state, done in possible:
        groups.setdefault((state, done & ~unknown), []).append(done & unknown)
    kept: set[_Possibility] = set()
    for (state, done), used in groups.items():
        minimal: list[int] = []
        for each in sorted(used, key=int.bit_count):
            if not any(less & each == less for less in minimal):
                minimal.append(each)
        kept.update((state, done | each) for each in minimal)
    return kept


def _told(operation: Operation, before: Iterable[_Possibility], under_way: Iterable[Operation]) -> str:
    states = sorted({repr(state) for state, _ in before})
    others = [f"  {_shown(each)}" for each in under_way if each is not operation]
    return "\n".join(
        [f"no order explains {_shown(operation)}", f"possible before it: {', '.join(states[:8])}{' …' if states[8:] else ''}", "under way:", *others]
    )


def _shown(operation: Operation) -> str:
    ret = "?" if operation.ret is None else f"{operation.ret:.6f}"
    argument = "" if operation.argument is None else f" {operation.argument!r}"
    return f"client {operation.client}: {operation.kind}{argument} → {operation.result!r} [{operation.call:.6f}, {ret}]"
