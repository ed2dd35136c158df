"""Pure: what a watch showed, against what happened: INV-W1 to INV-W7 of the reliability document.

A record is what one client saw of one range of keys: segments, one for each time it (re)connected, with the revision that it asked to begin at. What happened is
known from elsewhere: from reads of every revision, or from the answers that a lone writer got.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """A key was written, or is gone (`value` is None). `previous` is what it was before: None if it was not there, or if nobody told."""

    revision: int
    key: bytes
    value: bytes | None
    create_revision: int = 0  # of a key that was written
    previous: bytes | None = None


class Response(NamedTuple):
    """One message of the server; without events it is a bookmark."""

    events: tuple[Event, ...]
    revision: int  # of its header


@dataclass(slots=True)
class Segment:
    """One connection's part of a watch."""

    start: int  # the revision it asked to begin at
    responses: list[Response] = field(default_factory=list)

    def events(self) -> list[Event]:
        return [event for response in self.responses for event in response.events]


@dataclass(slots=True)
class Record:
    """What a client saw. `with_previous` when it asked for previous values."""

    key: bytes
    range_end: bytes
    segments: list[Segment] = field(default_factory=list)
    with_previous: bool = False
    compacted: int = 0  # previous values up to here may be missing

    def events(self) -> list[Event]:
        return [event for segment in self.segments for event in segment.events()]


History = Mapping[int, Sequence[Event]]  # by revision


def history_of(states: Iterable[tuple[int, Mapping[bytes, tuple[bytes, int]]]]) -> dict[int, list[Event]]:
    """What happened between states (revision, key → (value, mod_revision)) at consecutive revisions."""
    history: dict[int, list[Event]] = {}
    before: Mapping[bytes, tuple[bytes, int]] = {}
    created: dict[bytes, int] = {}
    for revision, state in states:
        events = []
        for key in sorted({*before, *state}):
            previous = before[key][0] if key in before else None
            if key not in state:
                events.append(Event(revision, key, None, 0, previous))
                del created[key]
            elif state[key][1] == revision:
                created.setdefault(key, revision)
                events.append(Event(revision, key, state[key][0], created[key], previous))
        history[revision] = events
        before = state
    return history


def check(history: History, record: Record) -> list[str]:
    """What is wrong, each with the invariant that it breaks."""
    wrong: list[str] = []
    events = record.events()
    for one, following in itertools.pairwise(events):
        if following.revision < one.revision:
            wrong.append(f"W1: revision {following.revision} after {one.revision}")
    seen: set[tuple[int, bytes]] = set()
    for event in events:
        if (event.revision, event.key) in seen:
            wrong.append(f"W2: {event.key!r} at revision {event.revision} twice")
        seen.add((event.revision, event.key))
    wrong += _reliable(history, record, events)
    for segment in record.segments:
        wrong += _atomic(segment) + _bookmarks(segment)
    wrong += _resumed(history, record)
    for event in events:
        wrong += _told_right(history, record, event)
    return wrong


def _watched(history: History, record: Record, first: int, last: int) -> list[Event]:
    return [
        event
        for revision in range(first, last + 1)
        for event in history.get(revision, ())
        if (record.key <= event.key < record.range_end if record.range_end else event.key == record.key)
    ]


def _identity(event: Event) -> tuple[int, bytes, bytes | None]:
    return event.revision, event.key, event.value


def _reliable(history: History, record: Record, events: Sequence[Event]) -> list[str]:
    if not events:
        return []
    happened = _watched(history, record, record.segments[0].start, events[-1].revision)
    missing = {_identity(each) for each in happened} - {_identity(each) for each in events}
    invented = {_identity(each) for each in events} - {_identity(each) for each in happened}
    return [f"W3: not shown: {each}" for each in sorted(missing, key=repr)] + [f"W3: did not happen: {each}" for each in sorted(invented, key=repr)]


def _atomic(segment: Segment) -> list[str]:
    with_events = [response for response in segment.responses if response.events]
    return [
        f"W4: revision {following.events[0].revision} in two responses"
        for one, following in itertools.pairwise(with_events)
        if one.events[-1].revision == following.events[0].revision
    ]


def _bookmarks(segment: Segment) -> list[str]:
    wrong, newest, promised = [], 0, 0
    for response in segment.responses:
        for event in response.events:
            if event.revision <= promised:
                wrong.append(f"W6: revision {event.revision} after a bookmark at {promised}")
            newest = max(newest, event.revision)
        if not response.events:
            if response.revision < newest:
                wrong.append(f"W6: a bookmark at {response.revision} after an event at {newest}")
            promised = max(promised, response.revision)
    return wrong


def _resumed(history: History, record: Record) -> list[str]:
    wrong = []
    last = 0
    for segment in record.segments:
        events = segment.events()
        if events:
            first = min(event.revision for event in events)
            expected = _watched(history, record, max(segment.start, 1), first)
            if first < segment.start or (expected and expected[0].revision != first):
                wrong.append(f"W5: asked for {segment.start}, got {first}, after {last}")
            last = events[-1].revision
    return wrong


def _told_right(history: History, record: Record, event: Event) -> list[str]:
    happened = next((each for each in history.get(event.revision, ()) if each.key == event.key), None)
    if happened is None:
        return []  # W3 has said so
    wrong = []
    if event.value is not None and (event.create_revision == event.revision) != (happened.create_revision == happened.revision):
        wrong.append(f"W7: {event.key!r} at revision {event.revision} was created at {happened.create_revision}, said: {event.create_revision}")
    is_lost = event.previous is None and event.revision - 1 <= record.compacted
    if record.with_previous and event.previous != happened.previous and not is_lost:
        wrong.append(f"W7: {event.key!r} at revision {event.revision} was {happened.previous!r} before, said: {event.previous!r}")
    return wrong
