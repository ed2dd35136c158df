"""A watch that survives its server.

Counterpart of clientv3's watcher, for one range: the revision after the last event received (or told by a progress notice)
is where it resumes, at whatever endpoint. Ends only by `CompactedError`, by the server cancelling it, by `on_created` refusing, or by closing it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import Code
from kubette.etcd_client.channels import Channels
from kubette.etcd_client.errors import CompactedError, EtcdError, from_grpc
from kubette.stdx.backoff import Backoff

_RESUME = Backoff(base_s=0.05, cap_s=1.0)
_METHOD = "/etcdserverpb.Watch/Watch"


class Watcher:
    """`async for response in watcher`: WatchResponses with events, or without (a progress notice). `async with`, or call `close`.

    `on_created` is called each time a server has made the watch, the first time and after every break, before any event of it is handed on:
    it may look whether the server's history is still the one that was followed. What it raises ends the watch; EtcdError UNAVAILABLE is a break.
    """

    def __init__(
        self, channels: Channels, request: pb.WatchCreateRequest, on_created: Callable[[pb.WatchResponse], Awaitable[None]] | None = None
    ) -> None:
        self._channels = channels
        self._request = request
        self._on_created = on_created
        self._call: Any = None
        self._endpoint = 0
        self._failures = 0
        self.created = False
        self.is_open = False  # false while the stream is broken

    @property
    def next_revision(self) -> int:
        """Where the watch would resume; 0 while it has not been created from "now"."""
        return self._request.start_revision

    def __aiter__(self) -> "Watcher":
        return self

    async def __aenter__(self) -> "Watcher":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch; safe to call twice."""
        self.is_open = False
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def request_progress(self) -> None:
        """Ask for a progress notice now; answered as soon as the watch is caught up."""
        if self._call is not None:
            try:
                await self._call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()).SerializeToString())
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the stream broke: __anext__ sees it and resumes

    async def __anext__(self) -> pb.WatchResponse:
        while True:
            try:
                if self._call is None:
                    await self._open()
                body = await self._call.read()
            except grpc.aio.AioRpcError as error:
                await self._broke(from_grpc(error))
                continue
            except asyncio.InvalidStateError:
                await self._broke(None)
                continue
            if body is grpc.aio.EOF:
                await self._broke(None)
                continue
            response = pb.WatchResponse.FromString(body)
            if response.canceled:
                self.close()
                if response.compact_revision:
                    raise CompactedError(response.compact_revision)
                if response.cancel_reason:
                    raise EtcdError(Code.CANCELLED, response.cancel_reason, definite=True)
                await self._broke(None)
                continue
            self._failures = 0
            if response.created:
                try:
                    if self._on_created is not None:
                        await self._on_created(response)
                except EtcdError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                        raise
                    await self._broke(error)
                    continue
                self.created = self.is_open = True
                if not self._request.start_revision:
                    # From "now" on: a break before the first event must not skip what happened in between.
                    self._request.start_revision = response.header.revision + 1
                continue
            if response.events:
                if not response.fragment:
                    self._request.start_revision = response.events[-1].kv.mod_revision + 1
            else:
                self._request.start_revision = max(self._request.start_revision, response.header.revision + 1)
            return response

    async def _open(self) -> None:
        self._endpoint = self._channels.current
        call = self._call = self._channels.stream(self._endpoint, _METHOD)(metadata=(("hasleader", "true"),))
        await call.write(pb.WatchRequest(create_request=self._request).SerializeToString())

    async def _broke(self, failure: EtcdError | None) -> None:
        """The stream ended: go to the next endpoint and pause, or raise if the failure is the answer."""
        self.close()
        self._channels.leave(self._endpoint)
        if failure is not None and failure.code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT):
            raise failure
        delay = _RESUME.delay(self._failures)
        self._failures += 1
        await asyncio.sleep(delay)
