"""The checker of watches finds each kind of lie, and none in a true record."""

from dataclasses import replace

import pytest

from harness.watch_checks import Event, Record, Response, Segment, check, history_of

HISTORY = history_of(
    [
        (2, {b"a": (b"1", 2)}),
        (3, {b"a": (b"2", 3), b"b": (b"1", 3)}),
        (4, {b"b": (b"1", 3)}),
        (5, {b"a": (b"3", 5), b"b": (b"1", 3)}),
        (6, {b"a": (b"3", 5), b"b": (b"1", 3), b"x": (b"1", 6)}),
        (7, {b"a": (b"4", 7), b"b": (b"1", 3), b"x": (b"1", 6)}),
    ]
)
PUT_A2 = Event(2, b"a", b"1", 2)
PUT_A3 = Event(3, b"a", b"2", 2, b"1")
PUT_B3 = Event(3, b"b", b"1", 3)
DELETE_A4 = Event(4, b"a", None, 0, b"2")
PUT_A5 = Event(5, b"a", b"3", 5)
PUT_A7 = Event(7, b"a", b"4", 5, b"3")


def record(*segments: tuple[int, list[Response]]) -> Record:
    return Record(b"a", b"c", [Segment(start, list(responses)) for start, responses in segments], with_previous=True)


def told(*events: Event, revision: int = 7) -> Response:
    return Response(events, revision)


TRUE = [told(PUT_A2), told(PUT_A3, PUT_B3), Response((), 3), told(DELETE_A4, PUT_A5), Response((), 6), told(PUT_A7)]


def test_history_is_what_changed_between_states() -> None:
    assert HISTORY[3] == [PUT_A3, PUT_B3]
    assert HISTORY[4] == [DELETE_A4]
    assert HISTORY[5] == [PUT_A5], "created anew"
    assert HISTORY[7] == [PUT_A7]


def test_a_true_record_is_not_blamed() -> None:
    assert check(HISTORY, record((1, TRUE))) == []
    assert check(HISTORY, record((1, TRUE[:2]), (4, TRUE[3:5]), (6, TRUE[5:]))) == [], "cut and gone on with"
    assert check(HISTORY, record((1, []), (4, TRUE[3:]))) == [
        "W3: not shown: (2, b'a', b'1')",
        "W3: not shown: (3, b'a', b'2')",
        "W3: not shown: (3, b'b', b'1')",
    ]
    assert check(HISTORY, record((3, TRUE[1:]))) == []


@pytest.mark.parametrize(
    ("invariant", "lie"),
    [
        ("W1", record((1, [told(PUT_A3, PUT_B3), told(PUT_A2)]))),
        ("W2", record((1, [told(PUT_A2), told(PUT_A3, PUT_B3), told(PUT_B3)]))),
        ("W2", record((1, TRUE[:2]), (3, TRUE[1:]))),
        ("W3", record((1, [told(PUT_A2), told(PUT_A3, PUT_B3), told(PUT_A5)]))),
        ("W3", record((1, [*TRUE, told(Event(8, b"b", b"9", 3))]))),
        ("W3", record((1, [told(PUT_A2._replace(value=b"7"))]))),
        ("W4", record((1, [told(PUT_A2), told(PUT_A3), told(PUT_B3)]))),
        ("W5", record((1, TRUE[:1]), (3, TRUE[3:]))),
        ("W5", record((4, TRUE[1:]))),
        ("W6", record((1, [told(PUT_A2), Response((), 3), told(PUT_A3, PUT_B3)]))),
        ("W6", record((1, [told(PUT_A2), told(PUT_A3, PUT_B3), Response((), 2)]))),
        ("W7", record((1, [told(PUT_A2), told(PUT_A3._replace(previous=b"0"), PUT_B3)]))),
        ("W7", record((1, [told(PUT_A2), told(PUT_A3._replace(previous=None), PUT_B3)]))),
        ("W7", record((1, [told(PUT_A2), told(PUT_A3._replace(create_revision=3), PUT_B3)]))),
    ],
)
def test_each_lie_is_found(invariant: str, lie: Record) -> None:
    assert invariant in {each.partition(":")[0] for each in check(HISTORY, lie)}


def test_previous_values_that_are_compacted_may_be_missing() -> None:
    silent = record((1, [told(PUT_A2), told(PUT_A3._replace(previous=None), PUT_B3)]))
    assert check(HISTORY, replace(silent, compacted=2)) == []
