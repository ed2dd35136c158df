"""The v2 keys API, `/v2/keys/*`: forms in, JSON out; long polling and streams for watchers."""

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from kubette.component_base.metrics import Registry
from kubette.etcd import v2_apply
from kubette.etcd.rim.http1 import Request, Response
from kubette.etcd.server import Server
from kubette.etcd.v2_store import (
    DIR_NOT_EMPTY,
    INDEX_NAN,
    INVALID_FIELD,
    KEY_NOT_FOUND,
    NODE_EXIST,
    NOT_FILE,
    PREV_VALUE_REQUIRED,
    RAFT_INTERNAL,
    REFRESH_TTL_REQUIRED,
    REFRESH_VALUE,
    TEST_FAILED,
    TTL_NAN,
    UNAUTHORIZED,
    V2Error,
    Watcher,
    clean,
)
from kubette.etcd_api.errors import RpcError
from kubette.etcd_api.metadata_pb2 import Request as V2Request
from kubette.stdx.tasks import Scope

PREFIX = "/v2/keys"
WATCH_TIMEOUT_S = 300.0
_METHODS = ("HEAD", "GET", "PUT", "POST", "DELETE")
_STATUS = {KEY_NOT_FOUND: 404, NOT_FILE: 403, DIR_NOT_EMPTY: 403, UNAUTHORIZED: 401, TEST_FAILED: 412, NODE_EXIST: 412, RAFT_INTERNAL: 500}
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_SETTERS = ("set", "compareAndSwap", "create", "update")


class V2Keys:
    """One instance a server."""

    def __init__(self, server: Server, registry: Registry) -> None:
        self._server = server
        received = "Counter of requests received into the system (successfully parsed and authd)."
        failed = "Counter of handle failures of requests (non-watches), by method (GET/PUT etc.) and code (400, 500 etc.)."
        took = "Bucketed histogram of processing time (s) of successfully handled requests (non-watches), by method (GET/PUT etc.)."
        self._received = registry.counter("etcd_http_received_total", received, ("method",))
        self._failed = registry.counter("etcd_http_failed_total", failed, ("method", "code"))
        self._seconds = registry.histogram("etcd_http_successful_duration_seconds", took, ("method",), tuple(0.0005 * 2**n for n in range(13)))

    async def handle(self, request: Request) -> Response | None:
        """None when the path is somebody else's."""
        if request.path != PREFIX and not request.path.startswith(PREFIX + "/"):
            return None
        if request.method not in _METHODS:
            return Response(405, b"Method Not Allowed\n", {"Allow": ",".join(_METHODS)})
        cluster = {"X-Etcd-Cluster-Id": f"{self._server.cluster_id:x}"}
        try:
            response = await self._handle(request)
        except V2Error as error:
            error.cause = _below_keys(error.cause)
            headers = {"Content-Type": "application/json", "X-Etcd-Index": str(error.index)}
            response = Response(_STATUS.get(error.v2_code, 400), _line(error.document), headers)
        response.headers.update(cluster)
        if request.method == "HEAD":
            response.headers.setdefault("Content-Length", str(len(response.body)))
            response.body = b""
        return response

    async def _handle(self, request: Request) -> Response:
        form = _form(request)
        message = _parse(request, form, self._server.clock.wall())
        method = "QGET" if message.Method == "GET" and message.Quorum else message.Method
        self._received.inc(method)
        if message.Wait:
            return self._watch(message)
        began = self._server.clock.monotonic()
        try:
            answer = json.loads(await self._do(message))
        except V2Error as error:
            self._failed.inc(method, str(_STATUS.get(error.v2_code, 400)))
            raise
        self._seconds.observe(self._server.clock.monotonic() - began, method)
        event = answer["event"]
        if form.get("noValueOnSuccess") in _TRUE and event["action"] in _SETTERS:
            event = {"action": event["action"]}
        body = _line(_trimmed(event))
        return Response(201 if answer["created"] else 200, body, self._headers(answer["index"]))

    async def _do(self, message: V2Request) -> bytes:
        if message.Method in ("GET", "HEAD"):
            if not message.Quorum or message.Method == "HEAD":
                return self._server.applier.read_v2(message.Path, message.Recursive, message.Sorted)
            message.Method = "QGET"
        try:
            return await self._server.propose(2, message.SerializeToString())
        except V2Error:
            raise
        except RpcError as error:
            raise V2Error(RAFT_INTERNAL, error.message) from None

    def _headers(self, index: int) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "X-Etcd-Index": str(index),
            "X-Raft-Index": str(self._server.applied_index),
            "X-Raft-Term": str(self._server.term),
        }

    def _watch(self, message: V2Request) -> Response:
        wake = asyncio.Event()
        store = self._server.state.v2
        watcher = store.watch(message.Path, message.Recursive, message.Stream, message.Since, wake.set)
        headers = {**self._headers(watcher.start_index), "Transfer-Encoding": "chunked", "Connection": "close"}
        return Response(headers=headers, takeover=lambda reader, writer: self._serve_watch(watcher, wake, reader, writer))

    async def _serve_watch(self, watcher: Watcher, wake: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with Scope() as scope:
                gone = scope.start(_until_gone(reader, wake), name="v2 watcher's client")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_TIMEOUT_S):
                        await _feed(watcher, wake, gone, writer)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            self._server.state.v2.unwatch(watcher)


async def _feed(watcher: Watcher, wake: asyncio.Event, gone: "asyncio.Task[None]", writer: asyncio.StreamWriter) -> None:
    """Write events until the watcher has had its one, is cut off, or nobody listens any more."""
    while not gone.done():
        while watcher.events:
            line = _line(_trimmed(watcher.events.popleft().document))
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            await writer.drain()
            if not watcher.stream:
                return
        if watcher.cut:
            return
        wake.clear()
        await wake.wait()


async def _until_gone(reader: asyncio.StreamReader, wake: asyncio.Event) -> None:
    try:
        while await reader.read(1 << 16):
            pass
    except OSError:
        pass
    wake.set()


def _form(request: Request) -> dict[str, str]:
    """Query and form together; the form wins, the first of several values too."""
    pairs: list[tuple[str, str]] = []
    if request.method in ("PUT", "POST") and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        pairs += parse_qsl(request.body.decode(errors="surrogateescape"), keep_blank_values=True)
    pairs += parse_qsl(request.query, keep_blank_values=True)
    form: dict[str, str] = {}
    for name, value in pairs:
        form.setdefault(name, value)
    return form


def _parse(request: Request, form: Mapping[str, str], now: float) -> V2Request:
    """Raises V2Error."""
    flags = {name: _flag(form, name) for name in ("recursive", "sorted", "wait", "dir", "quorum", "stream")}
    prev_index, wait_index = (_number(form, name, INDEX_NAN) for name in ("prevIndex", "waitIndex"))
    if flags["wait"] and request.method != "GET":
        raise V2Error(INVALID_FIELD, '"wait" can only be used with GET requests')
    if form.get("prevValue") == "":
        raise V2Error(PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    _flag(form, "noValueOnSuccess")
    message = V2Request(
        Method=request.method,
        Path=clean(v2_apply.KEYS + "/" + unquote(request.path[len(PREFIX) :])),
        Val=form.get("value", ""),
        Dir=flags["dir"],
        PrevValue=form.get("prevValue", ""),
        PrevIndex=prev_index,
        Wait=flags["wait"],
        Since=wait_index,
        Recursive=flags["recursive"],
        Sorted=flags["sorted"],
        Quorum=flags["quorum"],
        Stream=flags["stream"],
    )
    ttl = _number(form, "ttl", TTL_NAN) if form.get("ttl") else None
    if "prevExist" in form:
        message.PrevExist = _flag(form, "prevExist", "invalid value for prevExist")
    if "refresh" in form:
        message.Refresh = _flag(form, "refresh", "invalid value for refresh")
        if message.Refresh and message.Val:
            raise V2Error(REFRESH_VALUE, "A value was provided on a refresh")
        if message.Refresh and ttl is None:
            raise V2Error(REFRESH_TTL_REQUIRED, "No TTL value set")
    if ttl is not None:
        # Decided here, once: all members must agree on the moment.
        message.Expiration = min(int(now * 1e9) + ttl * 1_000_000_000, (1 << 63) - 1)
    return message


def _flag(form: Mapping[str, str], name: str, complaint: str = "") -> bool:
    text = form.get(name)
    if text is not None and text not in _TRUE + _FALSE:
        raise V2Error(INVALID_FIELD, complaint or f'invalid value for "{name}"')
    return text in _TRUE


def _number(form: Mapping[str, str], name: str, code: int) -> int:
    text = form.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise V2Error(code, f'invalid value for "{name}"')
    return int(text)


def _below_keys(path: str) -> str:
    return path.removeprefix(v2_apply.KEYS)


def _trimmed(event: dict[str, Any]) -> dict[str, Any]:
    """The event with keys as users know them."""
    return {name: _trimmed_node(value) if isinstance(value, dict) else value for name, value in event.items()}


def _trimmed_node(node: dict[str, Any]) -> dict[str, Any]:
    trimmed = {**node, "key": _below_keys(node["key"])}
    if not trimmed["key"]:
        del trimmed["key"]
    if "nodes" in node:
        trimmed["nodes"] = [_trimmed_node(each) for each in node["nodes"]]
    return trimmed


def _line(document: Any) -> bytes:
    # Go's encoder escapes these three, so that JSON may stand in HTML.
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode(errors="surrogateescape") + b"\n"
