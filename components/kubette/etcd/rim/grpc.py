"""gRPC over the HTTP/2 rim: methods take and give message bytes; statuses go into trailers.

A unary method returns bytes, a future of bytes, or a coroutine of bytes: the first two cost no task. A streaming method is a
coroutine that gets a `MessageStream`. RpcError becomes the status; anything else is logged and becomes INTERNAL.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from google.protobuf.message import DecodeError

from kubette.component_base import logs
from kubette.etcd.rim import hpack
from kubette.etcd.rim.hpack import Header
from kubette.etcd.rim.http2 import Settings, Stream
from kubette.etcd_api.errors import Code, RpcError
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

Unary = Callable[[bytes], "bytes | asyncio.Future[bytes] | Coroutine[Any, Any, bytes]"]


class MessageStream(Protocol):
    """What a streaming method gets: the server's end of the exchange, whatever carries it."""

    over: bool
    when_drained: Callable[[], None] | None

    def header(self, name: bytes) -> bytes: ...

    async def receive(self) -> bytes | None: ...

    def send(self, message: bytes) -> None: ...

    @property
    def pending(self) -> int: ...

    async def wait_drained(self) -> None: ...

    def fail(self, error: RpcError) -> None: ...


Streaming = Callable[[MessageStream], Coroutine[Any, Any, None]]

_RESPONSE = b"\x88" + hpack.encode([(b"content-type", b"application/grpc")])
_OK_TRAILERS = hpack.encode([(b"grpc-status", b"0"), (b"grpc-message", b"")])
_NOT_GRPC = hpack.encode([(b":status", b"415")])
MAX_CLIENT_VERSIONS = 100  # told apart: the header is the client's to write
MAX_QUEUED = 1024  # messages a client may send ahead on a stream
MAX_QUEUED_BYTES = 8 << 20  # of them, unless it is one message


@dataclass(frozen=True, slots=True)
class Method:
    """Exactly one of the two is set."""

    unary: Unary | None = None
    streaming: Streaming | None = None


def _trailers(error: RpcError) -> bytes:
    message = quote(error.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    return hpack.encode([(b"grpc-status", str(int(error.code)).encode()), (b"grpc-message", message)])


class Call:
    """The server's end of one RPC."""

    __slots__ = (
        "_buffer",
        "_drained",
        "_queue",
        "_queued_bytes",
        "_responded",
        "_waiter",
        "began",
        "handled",
        "messages",
        "metadata",
        "method",
        "observe",
        "over",
        "path",
        "sent",
        "stream",
        "task",
        "when_drained",
    )

    def __init__(self, stream: Stream, method: Method, metadata: list[Header]) -> None:
        self.stream = stream
        self.method = method
        self.metadata = metadata
        self.task: Any = None
        self.over = False
        self.messages: list[bytes] = []  # of a unary method, until the client has ended
        self.when_drained: Callable[[], None] | None = None
        self._buffer = b""
        self._queue: deque[bytes | None] = deque()
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._responded = False
        self.path = b""
        self.handled: dict[tuple[bytes, int], int] | None = None  # where the end is counted
        self.sent: dict[bytes, int] | None = None  # where a stream's messages are counted
        self.began = 0.0
        self.observe: Callable[[Call, int, float], None] | None = None  # hears of the end: status, and seconds it took

    def header(self, name: bytes) -> bytes:
        """A header of the request; empty when it is not there."""
        return next((value for key, value in self.metadata if key == name), b"")

    @property
    def common_name(self) -> str:
        """Of the client's certificate; empty when it showed none."""
        return self.stream.connection.common_name

    # Streaming

    async def receive(self) -> bytes | None:
        """The next message; None when the client has no more."""
        while not self._queue:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._queue.popleft()
        self._queued_bytes -= len(message or b"")
        return message

    def send(self, message: bytes) -> None:
        """Queue a message. `pending` tells how much the client has not taken yet."""
        if self.over:
            return
        if not self._responded:
            self._responded = True
            self.stream.send_headers(_RESPONSE)
        if self.sent is not None:
            self.sent[self.path] = self.sent.get(self.path, 0) + 1
        self.stream.send_data(b"\0" + len(message).to_bytes(4, "big") + message)

    @property
    def pending(self) -> int:
        return self.stream.pending_bytes

    async def wait_drained(self) -> None:
        """Until all that was sent has left."""
        while self.stream.pending_bytes and not self.over:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.when_drained is not None:
            self.when_drained()

    # Ending

    def _end(self, code: int) -> None:
        self.over = True
        if self.handled is not None:
            key = (self.path, code)
            self.handled[key] = self.handled.get(key, 0) + 1
        if self.observe is not None:
            self.observe(self, code, asyncio.get_running_loop().time() - self.began)

    def answer(self, message: bytes) -> None:
        """The answer of a unary method."""
        if self.over:
            return
        self._end(0)
        stream = self.stream
        stream.send_headers(_RESPONSE)
        stream.send_data(b"\0" + len(message).to_bytes(4, "big") + message)
        stream.end(_OK_TRAILERS)

    def fail(self, error: RpcError) -> None:
        if self.over:
            return
        self._end(int(error.code))
        trailers = _trailers(error)
        if self._responded:
            self.stream.end(trailers)
        else:
            self.stream.send_headers(_RESPONSE + trailers, end=True)

    def finish(self) -> None:
        """The end of a stream that went well."""
        if self.over:
            return
        self._end(0)
        if not self._responded:
            self.stream.send_headers(_RESPONSE)
        self.stream.end(_OK_TRAILERS)

    def abort(self) -> None:
        """The client has left."""
        if not self.over:
            self._end(int(Code.CANCELLED))

    # Input

    def feed(self, data: bytes, max_message: int) -> list[bytes]:
        """Whole messages out of DATA. Raises RpcError before anything too large is collected."""
        buffer = self._buffer + data if self._buffer else data
        messages = []
        at = 0
        while len(buffer) - at >= 5:
            length = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if length > max_message:
                raise RpcError(Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({length} vs. {max_message})")
            if buffer[at]:
                raise RpcError(Code.UNIMPLEMENTED, "grpc: compressed messages are not supported")
            if len(buffer) - at - 5 < length:
                break
            messages.append(buffer[at + 5 : at + 5 + length])
            at += 5 + length
        self._buffer = buffer[at:]
        return messages

    def deliver(self, message: bytes | None) -> None:
        self._queue.append(message)
        self._queued_bytes += len(message or b"")
        if len(self._queue) > MAX_QUEUED or (self._queued_bytes > MAX_QUEUED_BYTES and len(self._queue) > 1):
            raise RpcError(Code.RESOURCE_EXHAUSTED, "grpc: too many messages sent ahead")
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class GrpcHandler:
    """Routes streams to methods, by path."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        max_message: int,
        scope: Scope,
        identify: Callable[[Call], None] = lambda call: None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._methods = methods
        self._max_message = max_message
        self._scope = scope
        self._identify = identify  # called before a method is
        self.started: dict[bytes, int] = {}  # calls by path, of methods that there are
        self.received_messages: dict[bytes, int] = {}  # messages of streams, by path
        self.sent_messages: dict[bytes, int] = {}
        self.clients: dict[tuple[bytes, bool], int] = {}  # calls by the client's API version, and whether they stream
        self.handled: dict[tuple[bytes, int], int] = {}  # calls by path and status
        self.received_bytes = 0
        self.sent_bytes = 0
        self.observe: Callable[[Call, int, float], None] | None = None  # each call's end

    def opened(self, stream: Stream, headers: list[Header], ended: bool) -> None:
        path = content_type = client = b""
        for name, value in headers:
            if name == b":path":
                path = value
            elif name == b"content-type":
                content_type = value
            elif name == b"client-api-version":
                client = value
        if not content_type.startswith(b"application/grpc"):
            stream.send_headers(_NOT_GRPC, end=True)
            return
        method = self._methods.get(path)
        if method is None:
            service, _, name = path.strip(b"/").rpartition(b"/")
            text = f"unknown service {service.decode(errors='replace')}"
            if any(known.startswith(b"/" + service + b"/") for known in self._methods):
                text = f"unknown method {name.decode(errors='replace')} for service {service.decode(errors='replace')}"
            Call(stream, Method(), headers).fail(RpcError(Code.UNIMPLEMENTED, text))
            return
        call = Call(stream, method, headers)
        call.path, call.handled = path, self.handled
        if self.observe is not None:
            call.observe, call.began = self.observe, asyncio.get_running_loop().time()
        self.started[path] = self.started.get(path, 0) + 1
        key = (client, method.streaming is not None)
        if key in self.clients or len(self.clients) < MAX_CLIENT_VERSIONS:
            self.clients[key] = self.clients.get(key, 0) + 1
        stream.context = call
        if method.streaming is not None:
            call.sent = self.sent_messages
            self._identify(call)
            call.task = self._scope.start(self._run_streaming(call, method.streaming), name="grpc stream")
        if ended:
            self.received(stream, b"", True)

    def received(self, stream: Stream, data: bytes, ended: bool) -> None:
        call = stream.context
        if not isinstance(call, Call) or call.over:
            return
        try:
            messages = call.feed(data, self._max_message) if data else []
            if call.method.streaming is not None:
                self.received_messages[call.path] = self.received_messages.get(call.path, 0) + len(messages)
                for message in messages:
                    call.deliver(message)
                if ended:
                    call.deliver(None)
                return
        except RpcError as error:
            call.fail(error)
            return
        call.messages += messages
        if len(call.messages) > 1:
            # Or a client could go on for ever.
            call.fail(RpcError(Code.INTERNAL, "grpc: more than one message for a call that takes one"))
        elif ended and call.messages:
            self._start_unary(call, call.messages[0])
        elif ended:
            call.fail(RpcError(Code.INTERNAL, "grpc: the request ended without a message"))

    def _start_unary(self, call: Call, message: bytes) -> None:
        assert call.method.unary is not None
        self._identify(call)
        try:
            result = call.method.unary(message)
        except RpcError as error:
            call.fail(error)
            return
        except Exception as error:
            self._fail_internal(call, error)
            return
        if isinstance(result, bytes):
            call.answer(result)
        elif isinstance(result, asyncio.Future):
            call.task = result
            result.add_done_callback(lambda future: self._answer_from(call, future))
        else:
            call.task = self._scope.start(self._run_unary(call, result), name="grpc call")

    def _answer_from(self, call: Call, future: "asyncio.Future[bytes]") -> None:
        if future.cancelled():
            call.fail(RpcError(Code.CANCELLED, "context canceled"))
            return
        error = future.exception()
        if error is None:
            call.answer(future.result())
        elif isinstance(error, RpcError):
            call.fail(error)
        else:
            self._fail_internal(call, error)

    def _fail_internal(self, call: Call, error: BaseException) -> None:
        if isinstance(error, DecodeError):
            call.fail(RpcError(Code.INTERNAL, f"grpc: error unmarshalling request: {error}"))
            return
        log.error("RPC failed", err=error)
        call.fail(RpcError(Code.INTERNAL, f"etcdserver: internal error: {type(error).__name__}"))

    async def _run_unary(self, call: Call, work: Awaitable[bytes]) -> None:
        try:
            call.answer(await work)
        except RpcError as error:
            call.fail(error)
        except Exception as error:
            self._fail_internal(call, error)

    async def _run_streaming(self, call: Call, method: Streaming) -> None:
        try:
            await method(call)
            call.finish()
        except RpcError as error:
            call.fail(error)
        except Exception as error:
            self._fail_internal(call, error)

    def aborted(self, stream: Stream) -> None:
        call = stream.context
        if isinstance(call, Call):
            call.abort()
            call.drained()
            if isinstance(call.task, asyncio.Task):
                call.task.cancel()

    def drained(self, stream: Stream) -> None:
        if isinstance(stream.context, Call):
            stream.context.drained()
