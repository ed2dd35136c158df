"""The judge of histories, judged: orders that exist, orders that cannot, answers that never came."""

import itertools
import random

import pytest

from harness.linearizability import REFUSED, Operation, UndecidedError, check, register


def operation(kind: str, argument: object, result: object, call: float, ret: float | None, key: str = "k", client: int = 0) -> Operation:
    return Operation(client, key, kind, argument, result, call, ret)


def test_reads_follow_writes_in_the_order_of_time() -> None:
    history = [
        operation("put", "a", None, 0, 1),
        operation("get", None, "a", 2, 3),
        operation("delete", None, 1, 4, 5),
        operation("get", None, None, 6, 7),
    ]
    assert check(history) is None


def test_a_stale_read_is_named() -> None:
    history = [operation("put", "a", None, 0, 1), operation("put", "b", None, 2, 3), operation("get", None, "a", 4, 5, client=7)]
    told = check(history)
    assert told is not None
    assert "client 7: get → 'a' [4.000000, 5.000000]" in told
    assert "possible before it: 'b'" in told


def test_a_read_beside_a_write_may_see_either() -> None:
    for seen in ("a", "b"):
        assert check([operation("put", "a", None, 0, 1), operation("put", "b", None, 2, 5), operation("get", None, seen, 3, 4)]) is None


def test_what_one_read_saw_no_later_read_may_miss() -> None:
    write = operation("put", "b", None, 2, 9)
    reads = [operation("get", None, "b", 3, 4), operation("get", None, "a", 5, 6)]
    assert check([operation("put", "a", None, 0, 1), write, *reads]) is not None
    assert check([operation("put", "a", None, 0, 1), write, reads[0]._replace(result="a"), reads[1]._replace(result="b")]) is None


def test_calls_that_touch_are_concurrent() -> None:
    assert check([operation("put", "a", None, 0, 1), operation("get", None, None, 1, 2)]) is None


def test_a_write_without_an_answer_happens_once_late_or_never() -> None:
    unknown = operation("put", "a", None, 0, None)
    assert check([unknown, operation("get", None, None, 1, 2)]) is None
    assert check([unknown, operation("get", None, None, 1, 2), operation("get", None, "a", 3, 4)]) is None
    overwritten = [operation("get", None, "a", 1, 2), operation("put", "b", None, 3, 4), operation("get", None, "b", 5, 6)]
    assert check([unknown, *overwritten]) is None
    assert check([unknown, *overwritten, operation("get", None, "a", 7, 8)]) is not None  # it would have happened twice


def test_nothing_happens_before_it_was_asked_for() -> None:
    assert check([operation("get", None, "a", 0, 1), operation("put", "a", None, 2, None)]) is not None


def test_compare_and_swap_tells_what_it_found() -> None:
    made = operation("cas", (None, "a"), True, 0, 1)
    assert (
        check([made, operation("cas", (None, "b"), False, 2, 3), operation("cas", ("a", "b"), True, 4, 5), operation("get", None, "b", 6, 7)]) is None
    )
    assert check([made, operation("cas", (None, "b"), True, 2, 3)]) is not None
    assert check([made, operation("cas", ("a", "b"), False, 2, 3)]) is not None


def test_deletes_count() -> None:
    assert check([operation("delete", None, 1, 0, 1)]) is not None
    assert check([operation("put", "a", None, 0, None), operation("delete", None, 1, 1, 2)]) is None
    assert check([operation("put", "a", None, 0, 1), operation("delete", None, 0, 2, 3)]) is not None
    assert check([operation("put", "a", None, 0, 1), operation("delete", None, None, 2, 3)]) is None


def test_keys_are_apart() -> None:
    history = [operation("put", "a", None, 0, 1, key="x"), operation("get", None, None, 2, 3, key="y")]
    assert check(history) is None
    told = check([*history, operation("get", None, None, 4, 5, key="x")])
    assert told is not None
    assert told.startswith("key 'x'")


def test_a_model_of_ones_own_sees_across_keys() -> None:
    def bank(state: tuple[int, int], each: Operation) -> object:
        if each.kind == "read":
            return state if each.ret is None or each.result == state else REFUSED
        return state[0] - each.argument, state[1] + each.argument

    moved = operation("move", 10, None, 0, 1)
    assert check([moved, operation("read", None, (90, 110), 2, 3)], bank, (100, 100)) is None
    assert check([moved, operation("read", None, (90, 100), 2, 3)], bank, (100, 100)) is not None


def test_a_hundred_unanswered_writes_do_not_explode() -> None:
    history = []
    for at in range(100):
        history.append(operation("put", at, None, at, None))
        history.append(operation("get", None, at - at % 3, at + 0.5, at + 0.6))
    assert check(history) is None
    assert check([*history, operation("get", None, 3, 400, 401)]) is not None


def test_too_many_writers_at_once_are_not_called_right() -> None:
    history = [operation("put", at, None, 0, 10) for at in range(40)]
    with pytest.raises(UndecidedError):
        check([*history, operation("get", None, 41, 0, 10)])


def test_agrees_with_trying_every_order() -> None:
    """Small histories, right and wrong ones, against the definition itself."""
    rng = random.Random(1)
    verdicts = set()
    for _ in range(400):
        history = []
        for client in range(5):
            call = rng.uniform(0, 4)
            ret = None if rng.random() < 0.3 else call + rng.uniform(0.1, 2)
            kind = rng.choice(("get", "put", "cas", "delete"))
            value = rng.choice((None, "a", "b"))
            argument = {"put": rng.choice("ab"), "cas": (value, rng.choice("ab"))}.get(kind)
            result = {"get": value, "cas": rng.random() < 0.5, "delete": rng.randrange(2)}.get(kind)
            history.append(operation(kind, argument, result, call, ret, client=client))
        verdict = check(history) is None
        verdicts.add(verdict)
        assert verdict == _any_order_explains(history), history
    assert verdicts == {True, False}


def _any_order_explains(history: list[Operation]) -> bool:
    certain = [each for each in history if each.ret is not None]
    uncertain = [each for each in history if each.ret is None]
    return any(
        _explains(order)
        for count in range(len(uncertain) + 1)
        for some in itertools.combinations(uncertain, count)
        for order in itertools.permutations([*certain, *some])
    )


def _explains(order: tuple[Operation, ...]) -> bool:
    for place, each in enumerate(order):
        if any(after.ret is not None and after.ret < each.call for after in order[place + 1 :]):
            return False
    state: object = None
    for each in order:
        state = register(state, each)
        if state is REFUSED:
            return False
    return True
