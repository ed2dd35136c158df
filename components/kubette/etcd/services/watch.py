"""The Watch service: many watches on one stream, each fed by the hub, at the pace of the client.

A client that does not read stops being fed as soon as QUEUE_BYTES wait for it: its watches become unsynced and go on from
history when it reads again (see mvcc/watchers.py).
"""

import asyncio
from collections.abc import Sequence

from kubette.etcd.mvcc import revision
from kubette.etcd.mvcc.store import Change
from kubette.etcd.mvcc.watchers import Watcher
from kubette.etcd.rim.grpc import MessageStream, Method
from kubette.etcd.server import Server
from kubette.etcd.wire import bytes_field, int_field
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.kv_pb2 import KeyValue

QUEUE_BYTES = 4 << 20  # waiting for one client
FRAGMENT_BYTES = 1 << 20
MAX_WATCHES = 100_000  # on one stream
_CACHE, _CACHE_BYTES = 2048, 16 << 20
_NO_WATCH_ID = -1
PERMISSION_DENIED = f"rpc error: code = PermissionDenied desc = {errors.PERMISSION_DENIED[1]}"  # as upstream words a cancellation


class EventCache:
    """Each event is encoded once, however many watchers get it."""

    def __init__(self) -> None:
        self._events: dict[tuple[int, bool], bytes] = {}
        self._bytes = 0

    def event(self, change: Change, prev_kv: bool) -> bytes:
        key = (change.revision, prev_kv)
        found = self._events.get(key)
        if found is None:
            if len(self._events) >= _CACHE or self._bytes > _CACHE_BYTES:
                self.clear()
            found = self._events[key] = bytes_field(11, _encode(change, prev_kv))
            self._bytes += len(found)
        return found

    def clear(self) -> None:
        """The store was replaced: revisions may mean something else."""
        self._events.clear()
        self._bytes = 0


def _encode(change: Change, prev_kv: bool) -> bytes:
    if change.deleted:
        pair = KeyValue(key=change.key, mod_revision=revision.main_of(change.revision)).SerializeToString()
        event = int_field(1, 1) + bytes_field(2, pair)
    else:
        event = bytes_field(2, change.record)
    if prev_kv and change.previous is not None:
        event += bytes_field(3, change.previous)
    return event


class Watch:
    """One instance a server."""

    def __init__(self, server: Server, progress_interval_s: float) -> None:
        self._server = server
        self._cache = EventCache()
        self._progress_interval_s = progress_interval_s
        self._streams: dict[_Stream, None] = {}
        self._ended_events = 0  # sent on streams that are gone

    def methods(self) -> dict[bytes, Method]:
        return {b"/etcdserverpb.Watch/Watch": Method(streaming=self.watch)}

    def statistics(self) -> dict[str, int]:
        sent = self._ended_events + sum(stream.sent_events for stream in self._streams)
        return {"streams": len(self._streams), "events": sent, **self._server.state.hub.statistics()}

    async def watch(self, call: MessageStream) -> None:
        stream = _Stream(self._server, self._cache, call)
        self._streams[stream] = None
        call.when_drained = self._server.sync_watchers.set
        try:
            while (body := await call.receive()) is not None:
                stream.handle(pb.WatchRequest.FromString(body))
                if stream.full():
                    # A client that asks and does not read has to read first; what it sends ahead meanwhile is bounded.
                    await call.wait_drained()
            # A client may stop sending and go on listening.
            await asyncio.get_running_loop().create_future()
        finally:
            del self._streams[stream]
            self._ended_events += stream.sent_events
            stream.close()

    def fail_leaderless(self) -> None:
        """Streams whose client wants a leader end when there is none."""
        for stream in list(self._streams):
            if stream.requires_leader:
                stream.fail(errors.error(errors.NO_LEADER))

    def answer_progress(self) -> None:
        """Progress asked for while a watch of the stream was behind."""
        for stream in self._streams:
            if stream.progress_wanted:
                stream.progress()

    async def notify_progress(self) -> None:
        """Tell quiet watches that asked for it how far they are, every interval."""
        while True:
            await asyncio.sleep(self._progress_interval_s)
            for stream in self._streams:
                stream.notify_progress()


class _Stream:
    """The watches of one stream."""

    def __init__(self, server: Server, cache: EventCache, call: MessageStream) -> None:
        self._server = server
        self._cache = cache
        self._call = call
        self._watches: dict[int, _Watch] = {}
        self._next_id = 0
        self.sent_events = 0
        self.progress_wanted = False
        self.requires_leader = call.header(b"hasleader") == b"true"

    def handle(self, request: pb.WatchRequest) -> None:
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self.progress_wanted = True
            self.progress()

    def _header(self, at: int) -> bytes:
        return bytes_field(1, self._server.header(at))

    def _may_read(self, request: pb.WatchCreateRequest) -> bool:
        try:
            self._server.check_readable(request.key or b"\0", request.range_end)
        except errors.RpcError:
            return False
        return True

    def _create(self, request: pb.WatchCreateRequest) -> None:
        server = self._server
        current = server.state.store.current
        watch_id = request.watch_id
        if request.range_end and request.range_end != b"\0" and (request.key or b"\0") >= request.range_end:
            reason, watch_id = "mvcc: watcher range is empty", 0
        elif watch_id in self._watches and watch_id:
            reason = "etcdserver: watch ID already exists"
        elif len(self._watches) >= MAX_WATCHES:
            reason = "etcdserver: too many watches on one stream"
        else:
            reason = ""
        if not reason and not self._may_read(request):
            reason, refused_id = PERMISSION_DENIED, watch_id
        else:
            refused_id = watch_id or _NO_WATCH_ID
        if reason:
            parts = (self._header(current), int_field(2, refused_id), int_field(3, 1), int_field(4, 1), bytes_field(6, reason.encode()))
            self._call.send(b"".join(parts))
            return
        if not watch_id:
            while self._next_id in self._watches:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        watch = _Watch(self, self._cache, watch_id, request)
        self._watches[watch_id] = watch
        self._call.send(self._header(current) + int_field(2, watch_id) + int_field(3, 1))
        start = request.start_revision if request.start_revision > 0 else current + 1
        watch.watcher.next_revision = start
        server.state.hub.add(watch.watcher)
        if start <= current:
            server.sync_watchers.set()

    def _cancel(self, watch_id: int) -> None:
        watch = self._watches.pop(watch_id, None)
        if watch is not None:
            self._server.state.hub.remove(watch.watcher)
            self._call.send(self._header(self._server.state.store.current) + int_field(2, watch_id) + int_field(4, 1))

    def cancel_compacted(self, watch_id: int, compacted: int) -> None:
        self._watches.pop(watch_id, None)
        parts = (self._header(self._server.state.store.current), int_field(2, watch_id), int_field(4, 1), int_field(5, compacted))
        self._call.send(b"".join(parts))

    def full(self) -> bool:
        return self._call.pending > QUEUE_BYTES

    def send(self, watch_id: int, at: int, events: Sequence[bytes], fragment: bool) -> None:
        head = self._header(at) + int_field(2, watch_id)
        self.sent_events += len(events)
        if not fragment or sum(map(len, events)) <= FRAGMENT_BYTES:
            self._call.send(head + b"".join(events))
            return
        part: list[bytes] = []
        size = 0
        for event in events:
            if part and size + len(event) > FRAGMENT_BYTES:
                self._call.send(head + int_field(7, 1) + b"".join(part))
                part, size = [], 0
            part.append(event)
            size += len(event)
        self._call.send(head + b"".join(part))

    def progress(self) -> None:
        """Answer a progress request once every watch of the stream has all events up to the revision it names."""
        hub = self._server.state.hub
        if all(hub.is_synced(watch.watcher) for watch in self._watches.values()):
            self.progress_wanted = False
            self._call.send(self._header(self._server.state.store.current) + int_field(2, _NO_WATCH_ID))

    def notify_progress(self) -> None:
        if self._call.pending:
            return  # a client that has yet to read what it got needs no bookmarks
        hub, current = self._server.state.hub, self._server.state.store.current
        for watch in self._watches.values():
            if watch.progress_notify and watch.quiet and hub.is_synced(watch.watcher):
                self._call.send(self._header(current) + int_field(2, watch.id))
            watch.quiet = True

    def fail(self, error: errors.RpcError) -> None:
        self.close()
        self._call.fail(error)

    def close(self) -> None:
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            self._server.state.hub.remove(watch.watcher)


class _Watch:
    """One watch: turns changes into a WatchResponse."""

    def __init__(self, stream: _Stream, cache: EventCache, watch_id: int, request: pb.WatchCreateRequest) -> None:
        self.id = watch_id
        self._stream = stream
        self._cache = cache
        self._prev_kv = request.prev_kv
        self._fragment = request.fragment
        self.progress_notify = request.progress_notify
        self.quiet = True
        # An empty key with a range end means "from the first key on".
        self.watcher = Watcher(
            request.key or b"\0",
            request.range_end,
            0,
            self._deliver,
            lambda compacted: stream.cancel_compacted(watch_id, compacted),
            no_put=pb.WatchCreateRequest.NOPUT in request.filters,
            no_delete=pb.WatchCreateRequest.NODELETE in request.filters,
        )

    def _deliver(self, at: int, changes: Sequence[Change]) -> bool:
        if self._stream.full():
            return False
        self.quiet = False
        event = self._cache.event
        self._stream.send(self.id, at, [event(change, self._prev_kv) for change in changes], self._fragment)
        return True
