"""The JSON gateway `/v3/*`: every method of the API as a POST, in grpc-gateway's JSON (names as in the .proto, bytes in base64,
64-bit integers as strings, enums by name, defaults left out), its errors and its streams of `{"result": …}` lines.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any

from kubette.etcd.rim.grpc import Method
from kubette.etcd.rim.hpack import Header
from kubette.etcd.rim.http1 import MAX_BODY_BYTES, BadRequest, Request, Response, read_chunks
from kubette.etcd_api.errors import Code, RpcError
from kubette.stdx.tasks import Scope

PREFIXES = ("/v3/", "/v3beta/")
_MAX_QUEUED = 1024  # messages a client may send ahead on a stream
_CORS = {
    "Access-Control-Allow-Headers": "accept, content-type, authorization",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Origin": "*",
}
_JSON = {**_CORS, "Content-Type": "application/json"}
_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 408,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}  # what is not here is 500

# Path after the prefix -> service and method. The messages are found by the method's name.
ROUTES: dict[str, str] = {
    "kv/range": "etcdserverpb.KV/Range",
    "kv/put": "etcdserverpb.KV/Put",
    "kv/deleterange": "etcdserverpb.KV/DeleteRange",
    "kv/txn": "etcdserverpb.KV/Txn",
    "kv/compaction": "etcdserverpb.KV/Compact",
    "watch": "etcdserverpb.Watch/Watch",
    "lease/grant": "etcdserverpb.Lease/LeaseGrant",
    "lease/revoke": "etcdserverpb.Lease/LeaseRevoke",
    "lease/keepalive": "etcdserverpb.Lease/LeaseKeepAlive",
    "lease/timetolive": "etcdserverpb.Lease/LeaseTimeToLive",
    "lease/leases": "etcdserverpb.Lease/LeaseLeases",
    "kv/lease/revoke": "etcdserverpb.Lease/LeaseRevoke",
    "kv/lease/timetolive": "etcdserverpb.Lease/LeaseTimeToLive",
    "kv/lease/leases": "etcdserverpb.Lease/LeaseLeases",
    "cluster/member/add": "etcdserverpb.Cluster/MemberAdd",
    "cluster/member/remove": "etcdserverpb.Cluster/MemberRemove",
    "cluster/member/update": "etcdserverpb.Cluster/MemberUpdate",
    "cluster/member/list": "etcdserverpb.Cluster/MemberList",
    "cluster/member/promote": "etcdserverpb.Cluster/MemberPromote",
    "maintenance/alarm": "etcdserverpb.Maintenance/Alarm",
    "maintenance/status": "etcdserverpb.Maintenance/Status",
    "maintenance/defragment": "etcdserverpb.Maintenance/Defragment",
    "maintenance/hash": "etcdserverpb.Maintenance/HashKV",
    "maintenance/snapshot": "etcdserverpb.Maintenance/Snapshot",
    "maintenance/transfer-leadership": "etcdserverpb.Maintenance/MoveLeader",
    "maintenance/downgrade": "etcdserverpb.Maintenance/Downgrade",
    "auth/enable": "etcdserverpb.Auth/AuthEnable",
    "auth/disable": "etcdserverpb.Auth/AuthDisable",
    "auth/status": "etcdserverpb.Auth/AuthStatus",
    "auth/authenticate": "etcdserverpb.Auth/Authenticate",
    "auth/user/add": "etcdserverpb.Auth/UserAdd",
    "auth/user/get": "etcdserverpb.Auth/UserGet",
    "auth/user/list": "etcdserverpb.Auth/UserList",
    "auth/user/delete": "etcdserverpb.Auth/UserDelete",
    "auth/user/changepw": "etcdserverpb.Auth/UserChangePassword",
    "auth/user/grant": "etcdserverpb.Auth/UserGrantRole",
    "auth/user/revoke": "etcdserverpb.Auth/UserRevokeRole",
    "auth/role/add": "etcdserverpb.Auth/RoleAdd",
    "auth/role/get": "etcdserverpb.Auth/RoleGet",
    "auth/role/list": "etcdserverpb.Auth/RoleList",
    "auth/role/delete": "etcdserverpb.Auth/RoleDelete",
    "auth/role/grant": "etcdserverpb.Auth/RoleGrantPermission",
    "auth/role/revoke": "etcdserverpb.Auth/RoleRevokePermission",
    "lock/lock": "v3lockpb.Lock/Lock",
    "lock/unlock": "v3lockpb.Lock/Unlock",
    "election/campaign": "v3electionpb.Election/Campaign",
    "election/proclaim": "v3electionpb.Election/Proclaim",
    "election/leader": "v3electionpb.Election/Leader",
    "election/observe": "v3electionpb.Election/Observe",
    "election/resign": "v3electionpb.Election/Resign",
}


def streams_body(path: str) -> bool:
    """Paths whose request body is a stream of messages."""
    return _key(path) in ("watch", "lease/keepalive")


def _key(path: str) -> str:
    for prefix in PREFIXES:
        if path.startswith(prefix):
            return path[len(prefix) :].rstrip("/")
    return ""


class JsonGateway:
    """Calls the methods of `methods` (gRPC path -> method) for HTTP/1.1 clients."""

    def __init__(self, methods: Mapping[bytes, Method], identify: Callable[[str], None]) -> None:
        self._methods = methods
        self._identify = identify  # by a token, before a method is called

    async def handle(self, request: Request) -> Response | None:
        """None when the path is none of the gateway's."""
        if not request.path.startswith(PREFIXES):
            return None
        if request.method == "OPTIONS":
            return Response(headers=dict(_CORS))
        route = ROUTES.get(_key(request.path), "")
        method = self._methods.get(b"/" + route.encode())
        if method is None:
            return _plain(404, "Not Found\n")
        if request.method != "POST":
            return _plain(405, "Method Not Allowed\n")
        codec = _Codec(route)
        headers: list[Header] = [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()]
        self._identify(request.headers.get("authorization", ""))
        if method.streaming is not None:
            stream = _HttpStream(codec, headers)
            return Response(headers={**_JSON, "Transfer-Encoding": "chunked"}, takeover=lambda r, w: stream.run(method, request, r, w))
        assert method.unary is not None
        try:
            result = method.unary(codec.decode(request.body))
            answer = result if isinstance(result, bytes) else await result
        except RpcError as error:
            return Response(_STATUS.get(error.code, 500), _error(error), dict(_JSON))
        return Response(body=codec.encode(answer), headers=dict(_JSON))


def _plain(status: int, text: str) -> Response:
    return Response(status, text.encode(), {**_CORS, "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"})


def _error(error: RpcError) -> bytes:
    return _dump({"error": error.message, "message": error.message, "code": int(error.code)})


def _dump(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


class _Codec:
    """JSON to a method's request and its answer to JSON."""

    def __init__(self, route: str) -> None:
        # Only clients of the gateway pay for these imports.
        from google.protobuf import descriptor_pool, json_format, message_factory

        service, _, name = route.partition("/")
        method = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name)
        self._request: Any = message_factory.GetMessageClass(method.input_type)
        self._answer: Any = message_factory.GetMessageClass(method.output_type)
        self._json: Any = json_format

    def decode(self, body: bytes) -> bytes:
        """Raises RpcError on what is no JSON object of the request. An empty body is an empty request; unknown names are skipped."""
        if not body.strip():
            return b""
        try:
            document = json.loads(body)
        except ValueError as error:
            raise RpcError(Code.INVALID_ARGUMENT, "unexpected EOF" if _is_cut_off(error, body) else f"invalid character: {error}") from None
        return self.pack(document)

    def pack(self, document: Any) -> bytes:
        try:
            if not isinstance(document, dict):
                raise ValueError(f"json: cannot unmarshal {type(document).__name__} into Go value")
            message: Any = self._json.ParseDict(document, self._request(), ignore_unknown_fields=True)
        except (self._json.ParseError, ValueError, RecursionError) as error:
            raise RpcError(Code.INVALID_ARGUMENT, str(error)) from None
        packed: bytes = message.SerializeToString()
        return packed

    def document(self, answer: bytes) -> Any:
        return self._json.MessageToDict(self._answer.FromString(answer), preserving_proto_field_name=True)

    def encode(self, answer: bytes) -> bytes:
        return _dump(self.document(answer))


def _is_cut_off(error: ValueError, body: bytes) -> bool:
    return not isinstance(error, json.JSONDecodeError) or error.pos >= len(body.decode(errors="replace")) or "Unterminated" in error.msg


class _HttpStream:
    """A streaming call whose messages are JSON documents in an HTTP/1.1 body, either way. Looks like rim.grpc's Call to a method."""

    def __init__(self, codec: _Codec, metadata: list[Header]) -> None:
        self.metadata = metadata
        self.over = False
        self.when_drained: Callable[[], None] | None = None
        self._codec = codec
        self._received: deque[bytes | None] = deque()
        self._arrived = asyncio.Event()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.metadata if key == name), b"")

    async def receive(self) -> bytes | None:
        while not self._received:
            self._arrived.clear()
            await self._arrived.wait()
        return self._received.popleft()

    def send(self, message: bytes) -> None:
        if not self.over:
            self._put(_dump({"result": self._codec.document(message)}) + b"\n")

    def _put(self, line: bytes) -> None:
        self._queue.append(b"%x\r\n%b\r\n" % (len(line), line))
        self._queued += len(line)
        self._empty.clear()
        self._wake.set()

    @property
    def pending(self) -> int:
        return self._queued

    async def wait_drained(self) -> None:
        if self._queued and not self.over:
            await self._empty.wait()

    def fail(self, error: RpcError) -> None:
        if self.over:
            return
        status = _STATUS.get(error.code, 500)
        text = {"grpc_code": int(error.code), "http_code": status, "message": error.message, "http_status": HTTPStatus(status).phrase}
        self._put(_dump({"error": text}))
        self.finish()

    def finish(self) -> None:
        self.over = True
        self._wake.set()

    async def run(self, method: Method, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The whole exchange, until the method ends or the client leaves."""
        async with Scope() as scope:
            scope.start(self._run_method(method), name="gateway stream")
            scope.start(self._read(request, reader), name="gateway stream's body")
            try:
                await self._write(writer)
            finally:
                self.over = True
                self._empty.set()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                writer.write(self._queue.popleft())
                await writer.drain()
            self._queued = 0
            self._empty.set()
            if self.over:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return
            if self.when_drained is not None:
                self.when_drained()

    async def _run_method(self, method: Method) -> None:
        assert method.streaming is not None
        try:
            await method.streaming(self)
        except RpcError as error:
            self.fail(error)
        finally:
            self.finish()

    async def _read(self, request: Request, reader: asyncio.StreamReader) -> None:
        """The documents of the body; afterwards only the client's leaving is of interest."""
        try:
            # Of a method that takes one message the body has been read already.
            if request.body or not streams_body(request.path):
                self._deliver(self._codec.decode(request.body))
            else:
                async for document in _documents(request, reader):
                    self._deliver(self._codec.pack(document))
            self._deliver(None)
            while await reader.read(1 << 16):
                pass
        except RpcError as error:
            self.fail(error)
        except (BadRequest, ValueError) as error:
            self.fail(RpcError(Code.INVALID_ARGUMENT, str(error)))
        except (OSError, asyncio.IncompleteReadError):
            pass
        self.finish()

    def _deliver(self, message: bytes | None) -> None:
        if len(self._received) >= _MAX_QUEUED:
            raise RpcError(Code.RESOURCE_EXHAUSTED, "grpc: too many messages sent ahead")
        self._received.append(message)
        self._arrived.set()


async def _documents(request: Request, reader: asyncio.StreamReader) -> AsyncIterator[Any]:
    """The JSON documents of a body, each as soon as it is complete. Raises ValueError."""
    decoder = json.JSONDecoder()
    buffer = b""
    async for part in _parts(request, reader):
        buffer += part
        if len(buffer) > MAX_BODY_BYTES:
            raise ValueError("http: request body too large")
        while True:
            buffer = buffer.lstrip()
            try:
                text = buffer.decode()
                document, end = decoder.raw_decode(text)
            except ValueError:
                break  # not complete yet
            yield document
            buffer = text[end:].encode()
    if buffer.strip():
        raise ValueError("unexpected EOF")


async def _parts(request: Request, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    if request.headers.get("transfer-encoding", "").lower() == "chunked":
        async for chunk in read_chunks(reader):
            yield chunk
        return
    left = request.content_length
    while left:
        part = await reader.read(min(left, 1 << 16))
        if not part:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(part)
        yield part
