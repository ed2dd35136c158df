"""Clients that work while a cluster is hurt and keep a record: of calls, for the linearizability checker; of watches, for the watch checks; of money moved."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any

from harness import linearizability, watch_checks
from harness.etcd_calls import CallError, Calls
from harness.linearizability import Operation
from kubette.etcd_api import rpc_pb2 as pb

OPERATION_TIMEOUT_S = 2.0
PAUSE_S = 0.005
FAILURE_PAUSE_S = 0.03
WAIT_S = 30.0
KEYS = 4  # that all clients share at one time
OPERATIONS_PER_KEY = 60  # then the next keys: what is unknown about one does not burden the checker for ever
NEVER_SENT = ("failed to connect to all addresses", "etcdserver: too many requests")


class Clients:
    """So many, spread over these members, each at one; they read, write, delete, compare and swap until the block is left."""

    def __init__(self, urls: Sequence[str], count: int, seed: int = 1) -> None:
        self.history: list[Operation] = []
        self.acked: dict[str, int] = dict.fromkeys(urls, 0)  # writes
        self.failed: dict[str, int] = dict.fromkeys(urls, 0)
        self._urls = urls
        self._count = count
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._operations = 0

    async def __aenter__(self) -> "Clients":
        self._tasks = [asyncio.create_task(self._work(client)) for client in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def wait_acked(self, count: int, *urls: str) -> None:
        """Until so many more writes are acknowledged (by these members)."""
        asked = urls or tuple(self._urls)
        before = self._sum(asked)
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: self._sum(asked) >= before + count)

    async def wait_failed(self, count: int, *urls: str) -> None:
        before = sum(self.failed[url] for url in urls)
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: sum(self.failed[url] for url in urls) >= before + count)

    def _sum(self, urls: Sequence[str]) -> int:
        return sum(self.acked[url] for url in urls)

    def check(self) -> None:
        """There is one order of everything that explains every answer."""
        assert self.history
        explained = linearizability.check(self.history)
        assert explained is None, explained

    async def _work(self, client: int) -> None:
        rng = random.Random(self._seed * 1000 + client)
        url = self._urls[client % len(self._urls)]
        seen: dict[bytes, bytes | None] = {}
        async with Calls(url) as calls:
            number = 0
            while True:
                number += 1
                key = b"r%d-%d" % (self._operations // (OPERATIONS_PER_KEY * KEYS), rng.randrange(KEYS))
                self._operations += 1
                kind = rng.choices(("get", "put", "cas", "delete"), (5, 4, 2, 1))[0]
                argument: Any = None if kind in ("get", "delete") else b"%d-%d" % (client, number)
                if kind == "cas":
                    argument = (seen.get(key), argument)
                await self._operate(calls, url, client, key, kind, argument, seen)
                await asyncio.sleep(PAUSE_S)

    async def _operate(self, calls: Calls, url: str, client: int, key: bytes, kind: str, argument: Any, seen: dict[bytes, bytes | None]) -> None:
        clock = asyncio.get_running_loop().time
        called = clock()
        try:
            result = await _ask(calls, key, kind, argument)
        except CallError as error:
            is_known = any(text in (error.details() or "") for text in NEVER_SENT)
            if kind != "get" and not is_known:
                self.history.append(Operation(client, key, kind, argument, None, called, None))
            self.failed[url] += 1
            await self._tell()
            await asyncio.sleep(FAILURE_PAUSE_S)
            return
        except asyncio.CancelledError:
            if kind != "get":
                self.history.append(Operation(client, key, kind, argument, None, called, None))
            raise
        self.history.append(Operation(client, key, kind, argument, result, called, clock()))
        if kind == "get":
            seen[key] = result
        elif kind == "put":
            seen[key] = argument
        if kind != "get":
            self.acked[url] += 1
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _ask(calls: Calls, key: bytes, kind: str, argument: Any) -> Any:
    if kind == "get":
        found = (await calls.get(key, timeout_s=OPERATION_TIMEOUT_S)).kvs
        return found[0].value if found else None
    if kind == "put":
        await calls.put(key, argument, timeout_s=OPERATION_TIMEOUT_S)
        return None
    if kind == "delete":
        return (await calls.delete(key, timeout_s=OPERATION_TIMEOUT_S)).deleted
    expected, new = argument
    if expected is None:
        compare = pb.Compare(key=key, target=pb.Compare.VERSION, result=pb.Compare.EQUAL, version=0)
    else:
        compare = pb.Compare(key=key, target=pb.Compare.VALUE, result=pb.Compare.EQUAL, value=expected)
    put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=new))
    return (await calls.txn([compare], [put], timeout_s=OPERATION_TIMEOUT_S)).succeeded


# Money


class Bank:
    """Accounts, a key each, and clients that move money between two of them in one transaction, until the block is left."""

    ACCOUNTS, EACH = 50, 100

    def __init__(self, urls: Sequence[str], count: int, seed: int = 1) -> None:
        self.moved = 0
        self._urls = urls
        self._count = count
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._reads: list[tuple[float, float, int, dict[bytes, bytes]]] = []  # called, answered, revision, all accounts
        self._writes: list[tuple[float, float, int, dict[bytes, bytes]]] = []  # the same of acknowledged transfers: what they put

    async def __aenter__(self) -> "Bank":
        async with Calls(self._urls[0]) as calls:
            await calls.txn([], [_put(b"account%02d" % number, b"%d" % self.EACH) for number in range(self.ACCOUNTS)])
        self._tasks = [asyncio.create_task(self._work(client)) for client in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def wait_moved(self, count: int) -> None:
        before = self.moved
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: self.moved >= before + count)

    async def _work(self, client: int) -> None:
        rng = random.Random(self._seed * 1000 + client)
        clock = asyncio.get_running_loop().time
        async with Calls(self._urls[client % len(self._urls)]) as calls:
            while True:
                try:
                    called = clock()
                    answer = await calls.range(b"account", b"accounu", timeout_s=OPERATION_TIMEOUT_S)
                    known = {pair.key: pair for pair in answer.kvs}
                    self._reads.append((called, clock(), answer.header.revision, {key: pair.value for key, pair in known.items()}))
                    source, target = rng.sample(sorted(known), 2)
                    amount = min(rng.randint(1, 20), int(known[source].value))
                    changed = {source: b"%d" % (int(known[source].value) - amount), target: b"%d" % (int(known[target].value) + amount)}
                    unchanged = [
                        pb.Compare(key=key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=known[key].mod_revision) for key in changed
                    ]
                    called = clock()
                    done = await calls.txn(unchanged, [_put(*each) for each in changed.items()], timeout_s=OPERATION_TIMEOUT_S)
                except CallError:
                    await asyncio.sleep(FAILURE_PAUSE_S)
                    continue
                if done.succeeded:
                    self._writes.append((called, clock(), done.header.revision, changed))
                    self.moved += 1
                async with self._changed:
                    self._changed.notify_all()
                await asyncio.sleep(PAUSE_S)

    def check(self, history: "watch_checks.History") -> None:
        """Against what happened at each revision: no money came or went, every answer is the state at its revision, and revisions follow time."""
        states: dict[int, dict[bytes, bytes]] = {}
        now: dict[bytes, bytes] = {}
        for revision in sorted(history):
            now = {**now, **{event.key: event.value for event in history[revision] if event.key.startswith(b"account") and event.value is not None}}
            states[revision] = now
        for _, _, revision, seen in self._reads:
            assert sum(map(int, seen.values())) == self.ACCOUNTS * self.EACH, f"at revision {revision}: {seen}"
            assert seen == states[revision], f"at revision {revision}"
        for _, _, revision, put in self._writes:
            assert {event.key: event.value for event in history[revision]} == put, f"at revision {revision}"
        # Strict: what was answered before another one was asked has no later revision.
        ended = sorted((answered, revision) for _, answered, revision, _ in (*self._reads, *self._writes))
        place, newest = 0, 0
        for called, _, revision, _ in sorted((*self._reads, *self._writes), key=lambda each: each[0]):
            while place < len(ended) and ended[place][0] < called:
                newest = max(newest, ended[place][1])
                place += 1
            assert revision >= newest, f"revision {revision} after {newest}"


def _put(key: bytes, value: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


# Watching


class Watcher:
    """Follows a range until the block is left; when its member goes it continues at another one, where it was."""

    def __init__(self, urls: Sequence[str], key: bytes, range_end: bytes, start: int = 1, seed: int = 1, fragment: bool = False) -> None:
        self.record = watch_checks.Record(key, range_end, with_previous=True)
        self.refused_below: int | None = None  # the compact revision that a cancellation told
        self._urls = urls
        self._start = start
        self._rng = random.Random(seed)
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._fragment = fragment

    async def __aenter__(self) -> "Watcher":
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def seen(self) -> int:
        """The newest revision, by an event or a bookmark."""
        responses = [response for segment in self.record.segments for response in segment.responses]
        return max(
            [0, *(event.revision for response in responses for event in response.events), *(each.revision for each in responses if not each.events)]
        )

    async def wait_for(self, reached: Callable[["Watcher"], object]) -> None:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: reached(self))

    async def wait_seen(self, revision: int) -> None:
        """Until everything up to there has been shown, or it is refused."""
        await self.wait_for(lambda watcher: watcher.seen >= revision or watcher.refused_below is not None)

    async def _follow(self) -> None:
        start = self._start
        while self.refused_below is None:
            segment = watch_checks.Segment(start)
            self.record.segments.append(segment)
            async with Calls(self._rng.choice(self._urls)) as calls:
                try:
                    await self._segment(calls, segment)
                except CallError:
                    await asyncio.sleep(FAILURE_PAUSE_S)
            events = segment.events()
            if events:
                start = events[-1].revision + 1

    async def _segment(self, calls: Calls, segment: watch_checks.Segment) -> None:
        stream = calls.watch()
        request = pb.WatchCreateRequest(
            key=self.record.key,
            range_end=self.record.range_end,
            start_revision=segment.start,
            prev_kv=True,
            progress_notify=True,
            fragment=self._fragment,
        )
        try:
            await stream.write(pb.WatchRequest(create_request=request).SerializeToString())
            while True:
                answer = await stream.read()
                if not isinstance(answer, bytes):
                    return  # the server has ended the stream
                response = pb.WatchResponse.FromString(answer)
                if response.canceled:
                    assert response.compact_revision, response.cancel_reason
                    self.refused_below = response.compact_revision
                elif not response.created:
                    segment.responses.append(watch_checks.Response(tuple(_event(each) for each in response.events), response.header.revision))
                async with self._changed:
                    self._changed.notify_all()
                if response.canceled:
                    return
        finally:
            stream.cancel()


def _event(event: Any) -> watch_checks.Event:
    pair = event.kv
    previous = event.prev_kv.value if event.HasField("prev_kv") else None
    return watch_checks.Event(pair.mod_revision, pair.key, None if event.type else pair.value, pair.create_revision, previous)


async def history_by_reads(url: str, last: int) -> dict[int, list[watch_checks.Event]]:
    """What happened, by reading every revision up to `last`: independent of watches."""
    async with Calls(url) as calls:

        async def state(revision: int) -> tuple[int, dict[bytes, tuple[bytes, int]]]:
            answer = await calls.range(b"\0", b"\0", revision=revision)
            return revision, {pair.key: (pair.value, pair.mod_revision) for pair in answer.kvs}

        states = []
        for first in range(2, last + 1, 50):
            states += await asyncio.gather(*(state(revision) for revision in range(first, min(first + 50, last + 1))))
    return watch_checks.history_of(states)
