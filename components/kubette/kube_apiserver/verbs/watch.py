"""Watch: the current state or a revision, then every change, as lines of JSON or WebSocket messages.

The watcher is a position in the cache's log (see `storage.cacher`). Per wake-up it takes all that is new, filters, and writes the frames in
one piece; the frames are encoded once for all watchers that see an event alike. A client too slow for the log loses its place and is cut
off: it lists again. What goes wrong once the stream has begun is an ERROR event, as upstream has it.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import orjson
from aiohttp import web

from kubette.apimachinery import status, watch
from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.audit import auditor as audit
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.cacher import Cacher, Event, HistoryGone, LostPlace
from kubette.kube_apiserver.storage.feed import TooLarge
from kubette.kube_apiserver.storage.record import Record
from kubette.kube_apiserver.verbs import list as list_verb
from kubette.kube_apiserver.verbs import options, render
from kubette.kube_apiserver.verbs.selection import Selection

BOOKMARK_S = 60.0  # "about every minute" (API concepts)
CHUNK_BYTES = 256 * 1024  # written at once while the initial state is sent
WRITE_TIMEOUT_S = 60.0  # a peer that takes nothing for this long is gone


class Sink(Protocol):
    """Where frames go."""

    async def send(self, frames: Iterable[bytes]) -> None: ...


class _Lines:
    """Frames as lines of a chunked response."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    async def send(self, frames: Iterable[bytes]) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._response.write(b"".join(frames))


class _Messages:
    """Frames as WebSocket text messages."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, frames: Iterable[bytes]) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            for frame in frames:
                await self._socket.send_str(frame.decode().rstrip("\n"))


async def handle(call: Call) -> Answer | web.StreamResponse:
    opts = options.list_options(call.query, watching=True)
    store = call.resource.store
    assert store is not None
    selection = list_verb.selection_of(call, opts)
    await store.wait_ready()
    watcher = Watcher(call, store.cacher, selection, opts)
    request = call.request
    if "websocket" in request.headers.get("Upgrade", "").lower():
        socket = web.WebSocketResponse(heartbeat=None, autoping=True)
        await socket.prepare(request)
        audit.started(request, 101)
        await watcher.run(_Messages(socket))
        await socket.close()
        return socket
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private", "Audit-Id": call.audit_id})
    response.enable_chunked_encoding()
    await response.prepare(request)
    audit.started(request, 200)
    # The headers leave at once: clients wait for them before they consider the watch open.
    await watcher.run(_Lines(response))
    await response.write_eof()
    return response


class Watcher:
    """One watch from its beginning to its end."""

    def __init__(self, call: Call, cacher: Cacher, selection: Selection, opts: options.ListOptions) -> None:
        self._call, self._cacher, self._selection, self._opts = call, cacher, selection, opts
        # Watchers that see the same events in the same form share the encoded frames.
        form = call.form
        shares = form.transform in ("", "PartialObjectMetadata")
        self._shared_key = (call.resource.kind.api_version, form.transform) if shares else None
        self._first_table = form.transform == "Table"

    async def run(self, sink: Sink) -> None:
        """Until the timeout, the client's or the server's end, or an error (sent as an event)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s()
        try:
            await self._run(sink, deadline)
        except ApiError as error:
            await sink.send([watch.frame(watch.ERROR, orjson.dumps(error.to_status()))])
        except HistoryGone:
            # Not only closed: watched again from where it was, it might be shown the events of another history.
            await sink.send([watch.frame(watch.ERROR, orjson.dumps(status.expired().to_status()))])
        except LostPlace:
            # Closing is the message: the client watches again from where it was and is told 410 if that is gone.
            return
        except TimeoutError:
            return

    def _timeout_s(self) -> float:
        if self._opts.timeout_s > 0:
            return float(self._opts.timeout_s)
        minimum = float(self._call.core.config.options.min_request_timeout)
        return minimum * (1.0 + self._call.core.rng.random())

    async def _run(self, sink: Sink, deadline: float) -> None:
        cacher, loop = self._cacher, asyncio.get_running_loop()
        incarnation = cacher.incarnation  # a reset from here on makes `since` raise
        position = await self._begin(sink)
        next_bookmark = loop.time() + BOOKMARK_S
        stopping = self._call.core.stopping
        while not stopping.is_set():
            events = cacher.since(position, incarnation)
            if events:
                position += len(events)
                frames = [frame for event in events if (frame := self._frame(event)) is not None]
                if frames:
                    await sink.send(frames)
                continue
            now = loop.time()
            if now >= deadline:
                return
            if self._opts.bookmarks and now >= next_bookmark:
                await sink.send([self._bookmark(cacher.revision)])
                next_bookmark = now + BOOKMARK_S
                continue
            until = deadline
            if self._opts.bookmarks:
                until = min(next_bookmark, deadline)
            await cacher.wait_changed(position, until)

    async def _begin(self, sink: Sink) -> int:
        """Send the initial state if there is to be one; answers where the changes begin."""
        opts, cacher, core = self._opts, self._cacher, self._call.core
        revision = options.resource_version(opts.resource_version)
        wants_state = opts.send_initial_events if opts.send_initial_events is not None else opts.resource_version in ("", "0")
        if revision > cacher.revision:
            try:
                await core.feed.wait_for_seen(revision)
            except TooLarge as error:
                raise status.too_large_resource_version(revision, cacher.revision) from error
        elif not revision and opts.resource_version != "0":
            store = self._call.resource.store
            assert store is not None
            await store.consistent()
        if not wants_state:
            if not revision:
                return cacher.end
            position = cacher.position_after(revision)
            if position is None:
                raise status.too_old_resource_version(revision, cacher.floor)
            return position
        # One moment: the records, the position and the revision belong together, so no await until all three are taken.
        if self._selection.name is not None and self._selection.namespace:
            found = cacher.items.get(f"{self._selection.namespace}/{self._selection.name}")
            records = [found] if found is not None else []
        else:
            records = [cacher.items[key] for key in cacher.select(self._selection.namespace)]
        position, seen = cacher.end, cacher.revision
        frames: list[bytes] = []
        size = 0
        for found in records:
            if not self._selection.matches(found):
                continue
            frames.append(self._encode(watch.ADDED, found))
            size += len(frames[-1])
            if size >= CHUNK_BYTES:
                await sink.send(frames)
                frames, size = [], 0
        if opts.send_initial_events and opts.bookmarks:
            frames.append(self._bookmark(seen, initial_events_end=True))
        if frames:
            await sink.send(frames)
        return position

    def _frame(self, event: Event) -> bytes | None:
        """The event as this watcher sees it: entering or leaving the selection turns a change into an addition or deletion."""
        selection = self._selection
        if selection.everything:
            if selection.prefix and not event.current.key.startswith(selection.prefix):
                return None
            return self._shared(event, event.type, event.current)
        is_now = event.type != watch.DELETED and selection.matches(event.current)
        was = event.previous is not None and selection.matches(event.previous)
        if is_now:
            return self._shared(event, watch.MODIFIED if was else watch.ADDED, event.current)
        if not was or event.previous is None:
            return None
        last = event.current if event.type == watch.DELETED else event.previous.at_revision(event.revision)
        return self._encode(watch.DELETED, last)

    def _shared(self, event: Event, type: str, found: Record) -> bytes:
        if self._shared_key is None:
            return self._encode(type, found)
        key = (type, self._shared_key)
        frame = event.frames.get(key)
        if frame is None:
            frame = event.frames[key] = self._encode(type, found)
        return frame

    def _encode(self, type: str, found: Record) -> bytes:
        if not self._first_table and self._call.form.transform == "Table":
            # Only the first Table of a watch has the columns.
            encoded = orjson.dumps(render.table(self._call, [found], {"resourceVersion": str(found.revision)}, with_columns=False))
        else:
            encoded = render.one_bytes(self._call, found)
            self._first_table = False
        return watch.frame(type, encoded)

    def _bookmark(self, revision: int, initial_events_end: bool = False) -> bytes:
        kind = self._call.resource.kind
        obj = watch.bookmark(kind.api_version, kind.kind, str(revision), initial_events_end=initial_events_end)
        if self._call.form.transform == "Table":
            obj = {**obj, "kind": "Table", "apiVersion": f"meta.k8s.io/{self._call.form.version}", "columnDefinitions": None, "rows": []}
        elif self._call.form.transform:
            obj = {**obj, "kind": "PartialObjectMetadata", "apiVersion": render.META_V1}
        return watch.frame(watch.BOOKMARK, orjson.dumps(obj))
