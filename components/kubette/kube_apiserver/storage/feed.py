"""The one stream of changes from etcd, and what "now" means.

One watch covers the whole key space, foreign keys included. That costs little and buys something simple: every revision of
etcd shows up on the stream, so "have I seen everything up to revision R" is a comparison of two numbers and needs no progress
notices (whose order etcd got wrong for years, #15220). A consistent read is therefore: ask etcd which revision it is at
(`probe`, shared by all requests that wait), wait until the stream has reached it, answer from memory (KEP-2340).

Several events of one revision arrive in one response; subscribers are woken once a response.

An etcd that was restored from a backup has another history. Whenever the watch is opened anew, the last events are looked up again (`landmark`) before
anything that follows is believed. If they are not there, every subscriber lists again and its watchers are told 410: what they know did not happen.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Callable
from typing import Protocol

from kubette.component_base import logs
from kubette.etcd_api import kv_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import FUTURE_REV, Code
from kubette.etcd_client import Client, CompactedError, EtcdError, Watcher
from kubette.kube_apiserver.storage import retry
from kubette.kube_apiserver.storage.landmark import Landmark

log = logs.logger(__name__)

WAIT_LIMIT_S = 3.0  # upstream's blockTimeout: how long a read waits for the stream before it gives up
MAX_WAITERS = 100_000


class Rewound(EtcdError):
    """etcd answers from another history than the one that was followed: it was restored from a backup. The watch sees it too, and then caches are filled anew."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.DATA_LOSS, f"etcd was restored from a backup: {message}", definite=True)


class TooLarge(Exception):
    """The stream did not reach the revision in time; the argument is where it is."""


class Subscriber(Protocol):
    """One resource's cache."""

    prefix: str

    def apply(self, event: kv_pb2.Event) -> None: ...

    def wake(self) -> None: ...

    def reset(self) -> None: ...


class Feed:
    """`revision` is the newest revision whose events have all been delivered to the subscribers."""

    def __init__(self, client: Client, etcd_prefix: str) -> None:
        self._client = client
        self._root = etcd_prefix.rstrip("/") + "/"
        self._subscribers: dict[bytes, Subscriber] = {}
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._probe_sent: asyncio.Future[int] | None = None
        self._probe_next: asyncio.Future[int] | None = None
        self._landmark = Landmark()
        self._cluster_id = 0
        self._watcher: Watcher | None = None
        self._resumed = asyncio.Event()
        self._when_reset: list[Callable[[], None]] = []
        self.revision = 0

    def subscribe(self, subscriber: Subscriber) -> None:
        """Deliver the events below `subscriber.prefix` from now on."""
        self._subscribers[subscriber.prefix.encode()] = subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.pop(subscriber.prefix.encode(), None)

    def when_reset(self, act: Callable[[], None]) -> None:
        """`act` is called when history has a gap: for what else is remembered of etcd."""
        self._when_reset.append(act)

    async def start(self) -> None:
        """Learn where etcd is. Raises EtcdError when it cannot be reached."""
        answer = await self._client.range(b"\0", limit=1, keys_only=True)
        self.revision = int(answer.header.revision)
        self._cluster_id = answer.header.cluster_id

    async def run(self) -> None:
        """Follow etcd for ever. History that is gone, or another one, resets every subscriber: they list again."""
        while True:
            self._watcher = watcher = self._client.watch(b"\0", b"\0", start_revision=self.revision + 1, on_created=self._created)
            try:
                async with watcher:
                    async for response in watcher:
                        self._deliver(response.events, int(response.header.revision))
            except Rewound as error:
                log.warning("Restarted the watch: history is another one", err=error, revision=self.revision)
                await self._restart()
            except CompactedError as error:
                log.warning("Restarted the watch: history was compacted", revision=self.revision, compacted=error.compact_revision)
                await self._restart()
            except EtcdError as error:
                log.error("Failed to watch etcd", err=error)
                await asyncio.sleep(1)

    async def _created(self, response: pb.WatchResponse) -> None:
        """The watch was opened, for the first time or again. Raises Rewound when the server has another history than the one followed so far."""
        self._check_cluster(response.header.cluster_id)
        for question in self._landmark.questions():
            try:
                answer = await self._client.range(question.key, revision=question.revision)
            except EtcdError as error:
                if error.message == FUTURE_REV[1]:
                    raise Rewound(f"etcd has not reached revision {question.revision}, which was seen before") from error
                raise
            self._check_cluster(answer.header.cluster_id)
            if not question.is_ours(answer.kvs):
                raise Rewound(f"etcd has another {question.key.decode(errors='replace')} at revision {question.revision} than was seen before")
        self._resumed.set()

    def _check_cluster(self, cluster_id: int) -> None:
        if cluster_id != self._cluster_id:
            raise Rewound(f"etcd is cluster {cluster_id:x}, {self._cluster_id:x} was seen before")

    async def _restart(self) -> None:
        while True:
            try:
                answer = await self._client.range(b"\0", limit=1, keys_only=True)
                break
            except EtcdError as error:
                log.error("Failed to reach etcd", err=error)
                await asyncio.sleep(1)
        self.revision = int(answer.header.revision)
        self._cluster_id = answer.header.cluster_id
        self._landmark.forget()
        for subscriber in list(self._subscribers.values()):
            subscriber.reset()
        for act in self._when_reset:
            act()
        self._release()

    def _deliver(self, events: object, header_revision: int) -> None:
        touched: list[Subscriber] = []
        revision = self.revision
        for event in events:  # type: ignore[attr-defined]
            self._landmark.remember(event)
            kv = event.kv
            revision = kv.mod_revision
            subscriber = self._find(kv.key)
            if subscriber is not None:
                subscriber.apply(event)
                if not touched or touched[-1] is not subscriber:
                    touched.append(subscriber)
        # A notice without events says that nothing else happened up to its header's revision.
        self.revision = max(self.revision, int(revision) if events else header_revision)
        for subscriber in touched:
            subscriber.wake()
        self._release()

    def _find(self, key: bytes) -> Subscriber | None:
        """The subscriber of a key: its prefix is one or two path segments below the root."""
        first = key.find(b"/", len(self._root))
        if first < 0:
            return None
        found = self._subscribers.get(key[: first + 1])
        if found is None:
            second = key.find(b"/", first + 1)
            if second > 0:
                found = self._subscribers.get(key[: second + 1])
        return found

    def _release(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.revision:
            future = heapq.heappop(self._waiters)[2]
            if not future.done():
                future.set_result(None)

    async def wait_for(self, revision: int, limit_s: float = WAIT_LIMIT_S) -> None:
        """Return once everything up to `revision` has been delivered. Raises TooLarge after `limit_s`."""
        if revision <= self.revision:
            return
        if len(self._waiters) >= MAX_WAITERS:
            raise TooLarge(self.revision)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._waiters, (revision, self._sequence, future))
        try:
            async with asyncio.timeout(limit_s):
                await future
        except TimeoutError:
            raise TooLarge(self.revision) from None

    async def wait_for_seen(self, revision: int) -> None:
        """As `wait_for`, for a revision that a client says it has seen. When etcd itself has not come that far the client saw another history: TooLarge at once."""
        if revision <= self.revision:
            return
        with contextlib.suppress(EtcdError):
            if await self.probe() < revision:
                raise TooLarge(self.revision)
        await self.wait_for(revision)

    async def probe(self) -> int:
        """etcd's revision at some moment after this call (a linearizable read). Calls that overlap share one request."""
        while True:
            try:
                return await self._probe()
            except EtcdCancelled:
                continue  # the caller that was to send it for all is gone

    async def _probe(self) -> int:
        if self._probe_sent is None:
            return await self._send_probe()
        # One is under way, but it may have been answered before this call: share the next one.
        if self._probe_next is None:
            self._probe_next = asyncio.get_running_loop().create_future()
        mine = self._probe_next
        sent = self._probe_sent
        await asyncio.wait([sent])
        if self._probe_next is mine:  # the first to wake sends it for all
            self._probe_next = None
            return await self._send_probe(mine)
        return await asyncio.shield(mine)

    async def _send_probe(self, future: asyncio.Future[int] | None = None) -> int:
        future = future or asyncio.get_running_loop().create_future()
        self._probe_sent = future
        seen = self.revision
        try:
            answer = await retry.read(lambda: self._client.range(b"\0", limit=1, keys_only=True))
            revision = int(answer.header.revision)
            self._check_cluster(answer.header.cluster_id)
            if revision < seen:
                raise Rewound(f"etcd is at revision {revision}, {seen} was seen before")
            if not future.done():
                future.set_result(revision)
            return revision
        except BaseException as error:
            if not future.done():
                # The sharers ask again themselves when the sender was cancelled.
                future.set_exception(EtcdCancelled() if isinstance(error, asyncio.CancelledError) else error)
                future.exception()
            raise
        finally:
            if self._probe_sent is future:
                self._probe_sent = None

    async def consistent(self) -> int:
        """Wait until everything acknowledged before this call has been delivered; answers the revision that proves it."""
        revision = await self.probe()
        if self._watcher is None or not self._watcher.is_open:
            # etcd is back before the watch is: until its history has been recognised its revision says nothing about what is in the caches.
            await self._wait_resumed()
        await self.wait_for(revision)
        return revision

    async def _wait_resumed(self) -> None:
        self._resumed.clear()
        try:
            async with asyncio.timeout(WAIT_LIMIT_S):
                await self._resumed.wait()
        except TimeoutError:
            raise TooLarge(self.revision) from None


class EtcdCancelled(Exception):
    """The request that was to send a shared probe was cancelled."""
