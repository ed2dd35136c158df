"""The other members: endless streams of messages, snapshots, and a few questions, over HTTP/1.1 on the peer port.

As in etcd's rafthttp, the *receiver* of messages opens the stream: `GET /raft/stream/message/<own id>`, and the other side
writes frames (8-byte big-endian length, raftpb.Message) into the answer for as long as the connection lives. Raft repeats
what gets lost, so nothing is kept for a member that is away. Who asks with another cluster's id, for another member, or after
having been removed is refused with upstream's status. A member may be asked by one that it does not know yet, because the entry that adds
it has not arrived (and it may be the leader that has this entry): it calls back at the URLs that the other one names, and believes what it
hears there. What is merely sent to it by an unknown sender it does not.
"""

import asyncio
import datetime
import json
import re
import secrets
import ssl
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kubette.component_base import logs
from kubette.component_base.metrics import Histogram
from kubette.etcd import raft_codec, snapshotter
from kubette.etcd.membership import Member
from kubette.etcd.rim import http1
from kubette.etcd.rim.http1 import BadRequest, Request, Response
from kubette.etcd.server import Server
from kubette.etcd.snapshot_transfer import KEPT_S, OFFSET_HEADER, TRANSFER_HEADER, Arrivals, Identity, OffsetError, Outgoing, make_durable
from kubette.raft.messages import NO_NODE, Message, MessageType
from kubette.stdx.backoff import Backoff
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

STREAM_PATH = "/raft/stream/message/"
SNAPSHOT_PATH = "/raft/snapshot"
PIPELINE_PATH = "/raft"
PROBING_PATH = "/raft/probing"
PROBE_S = 5.0
MIN_CLUSTER_VERSION = "3.0.0"
MAX_MESSAGE_BYTES = 512 << 20
MAX_SNAPSHOT_MESSAGE_BYTES = 64 << 20  # the v2 store is in it
MAX_STRANGERS = 8  # called back at one time
MAX_QUEUED_BYTES = 64 << 20  # for one member that does not read; then its stream is cut
READ_TIMEOUT_S = WRITE_TIMEOUT_S = 5.0  # without a frame, a link counts as broken (upstream's ConnReadTimeout, and its default)
LINK_HEARTBEAT_S = READ_TIMEOUT_S / 3  # whatever the other member's timeout is: it is not below the default
DIAL_TIMEOUT_S = 1.0
QUESTION_TIMEOUT_S = 5.0
_REDIAL = Backoff(base_s=0.1, cap_s=1.0)
_LENGTH = struct.Struct(">Q")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+([-+]|$)", re.ASCII)
_LINK_HEARTBEAT = raft_codec.message_bytes(Message(MessageType.HEARTBEAT))


@dataclass(slots=True)
class Peer:
    """One other member. `writer` is the stream it opened for our messages."""

    id: int
    urls: tuple[str, ...]
    writer: asyncio.StreamWriter | None = None
    task: asyncio.Task[None] | None = None
    idle: bool = True
    active: bool = False  # its messages reach us
    snapshot_under_way: bool = False
    outgoing: Outgoing | None = None  # what it is being sent, or was when that was interrupted
    at: int = 0  # which of its URLs is in use
    counts: Counter[str] = field(default_factory=Counter)  # bytes and mishaps, for /metrics

    def stream(self) -> asyncio.StreamWriter | None:
        """`writer`, unless its connection is broken and its reader has yet to hear of it: writing to it would raise."""
        return None if self.writer is None or self.writer.is_closing() else self.writer


class Transport:
    """All other members of this one."""

    def __init__(
        self,
        server: Server,
        version: str,
        own_urls: Sequence[str],
        context: ssl.SSLContext | None,
        scope: Scope,
        arrivals: Arrivals,
        read_timeout_s: float = READ_TIMEOUT_S,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self._server = server
        self._version = version
        self._own_urls = own_urls
        self._read_timeout_s = read_timeout_s
        self._write_timeout_s = write_timeout_s
        self._context = context
        self._scope = scope
        self._arrivals = arrivals
        self._peers: dict[int, Peer] = {}
        self.round_trip = Histogram(
            "etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers", ("To",), tuple(0.0001 * 2**n for n in range(16))
        )
        self.snapshot_sent, self.snapshot_received = (
            Histogram(
                f"etcd_network_snapshot_{way}_total_duration_seconds",
                f"Total latency distributions of v3 snapshot {way}s",
                (label,),
                tuple(0.1 * 2**n for n in range(10)),
            )
            for way, label in (("send", "To"), ("receive", "From"))
        )
        self.question: Callable[[Request], asyncio.Future[Response] | None]

    # Members

    def add(self, member: Member) -> None:
        if member.id == self._server.member_id:
            return
        peer = self._peers.get(member.id)
        if peer is None:
            peer = self._peers[member.id] = Peer(member.id, member.peer_urls)
            peer.task = self._scope.start(self._receive_from(peer), name=f"peer {member.id:x}")
        peer.urls = member.peer_urls

    def _known(self, sender: int, request: Request) -> Peer:
        """The peer that asks. One that is not known (yet) is refused and called back: it asks again."""
        if not self._is_known(sender):
            if sender not in self._peers:
                self._call_back(sender, request.headers.get("x-peerurls", ""))
            raise BadRequest(404, "error sender not found")
        return self._peers[sender]

    def _is_known(self, node: int) -> bool:
        """A member, or one that has answered as a member of this cluster when it was called back."""
        peer = self._peers.get(node)
        return peer is not None and (peer.active or node in self._server.state.membership.members)

    def _call_back(self, sender: int, named: str) -> None:
        urls = tuple(url for url in named.split(",") if url.startswith(("http://", "https://")))
        strangers = len(self._peers.keys() - self._server.state.membership.members.keys())
        if urls and sender not in (NO_NODE, self._server.member_id) and strangers < MAX_STRANGERS:
            self.add(Member(sender, urls))

    def _forget_stranger(self, peer: Peer) -> bool:
        """Whether a peer that cannot be reached is no member either, and let go."""
        if peer.id in self._server.state.membership.members or self._peers.get(peer.id) is not peer:
            return False
        del self._peers[peer.id]
        if peer.writer is not None:
            peer.writer.close()
        return True

    def update(self) -> None:
        """Follow the membership: newcomers are connected, the removed are cut."""
        membership = self._server.state.membership
        for member in membership.members.values():
            self.add(member)
        for node in [each for each in self._peers if each in membership.removed]:
            peer = self._peers.pop(node)
            if peer.task is not None:
                peer.task.cancel()
            if peer.writer is not None:
                peer.writer.close()

    def active(self) -> dict[int, bool]:
        """Which peers are heard of."""
        return {node: peer.active for node, peer in self._peers.items()}

    def counts(self, what: str) -> dict[tuple[str, ...], float]:
        """By peer: `sent`, `received` (bytes), `send_failures`, `receive_failures`, `disconnects`, `snapshots_sent`, …; those that happened."""
        return {(f"{node:x}",): float(peer.counts[what]) for node, peer in self._peers.items() if peer.counts[what]}

    # Sending

    def send(self, messages: Sequence[Message]) -> list[Message]:
        """Hand messages to the streams; what cannot be sent is dropped, Raft is told, and it is answered."""
        dropped = []
        for message in messages:
            peer = self._peers.get(message.to)
            if peer is None:
                dropped.append(message)
                continue
            if message.type is MessageType.SNAP:
                if not peer.snapshot_under_way:
                    peer.snapshot_under_way = True
                    self._scope.start(self._send_snapshot(peer, message), name=f"snapshot to {peer.id:x}")
                continue
            writer = peer.stream()
            if writer is None:
                peer.counts["send_failures"] += 1
                self._unreachable(peer)
                dropped.append(message)
                continue
            data = raft_codec.message_bytes(message)
            writer.write(_LENGTH.pack(len(data)) + data)
            peer.counts["sent"] += len(data)
            peer.idle = False
            if writer.transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
                log.warning("Cut a peer that does not read", peer=f"{peer.id:x}")
                writer.transport.abort()
                peer.writer = None
        return dropped

    def _unreachable(self, peer: Peer) -> None:
        # Not from inside `send`: the Raft loop may be in the middle of a step.
        asyncio.get_running_loop().call_soon(self._server.node.report_unreachable, peer.id)

    async def keep_links_alive(self) -> None:
        """A quiet link says so, or its reader would take it for broken."""
        while True:
            await asyncio.sleep(LINK_HEARTBEAT_S)
            self._tidy()
            for peer in self._peers.values():
                if peer.idle and (writer := peer.stream()) is not None:
                    writer.write(_LENGTH.pack(len(_LINK_HEARTBEAT)) + _LINK_HEARTBEAT)
                peer.idle = True

    async def probe(self) -> None:
        """Ask every member how it is, from time to time: that is the round-trip time of /metrics (upstream's prober)."""
        while True:
            await asyncio.sleep(PROBE_S)
            for peer in list(self._peers.values()):
                try:
                    async with asyncio.timeout(QUESTION_TIMEOUT_S):
                        await self._probe(peer)
                except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                    log.v(2, "prober detected unhealthy status", remote_peer_id=f"{peer.id:x}", err=str(error) or type(error).__name__)

    async def _probe(self, peer: Peer) -> None:
        reader, writer = await self._dial(peer)
        try:
            began = asyncio.get_running_loop().time()
            writer.write(self._head("GET", PROBING_PATH, peer, {"Connection": "close"}))
            await _read_answer(reader)
            self.round_trip.observe(asyncio.get_running_loop().time() - began, f"{peer.id:x}")
        finally:
            writer.close()

    async def _send_snapshot(self, peer: Peer, message: Message) -> None:
        """The state as of now, which is at least as new as what Raft asked for; or the rest of what an interruption has left."""
        failed = True
        began = self._server.clock.monotonic()
        try:
            outgoing, offset = await self._outgoing(peer)
            status = await self._upload(peer, message._replace(snapshot=outgoing.snapshot), outgoing, offset)
            failed = status != 204
            if status != 409:
                # Taken, or refused as it is; otherwise the next attempt asks again where to go on.
                self._close_outgoing(peer)
            log.info("Sent snapshot", peer=f"{peer.id:x}", index=outgoing.snapshot.index, bytes=outgoing.size - offset, offset=offset, failed=failed)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            log.warning("Failed to send a snapshot", peer=f"{peer.id:x}", err=str(error) or type(error).__name__)
        finally:
            peer.snapshot_under_way = False
            peer.counts["snapshots_failed" if failed else "snapshots_sent"] += 1
            if not failed:
                self.snapshot_sent.observe(self._server.clock.monotonic() - began, f"{peer.id:x}")
            self._server.node.report_snapshot(peer.id, failed)
            self._server.raft.nudge()

    async def _outgoing(self, peer: Peer) -> tuple[Outgoing, int]:
        """What to send, and from where on."""
        if peer.outgoing is not None and peer.outgoing.snapshot.index >= self._server.node.raft.log.offset:
            # What follows it is still in the log: it serves as well as a newer one.
            return peer.outgoing, await self._arrived(peer, peer.outgoing)
        self._close_outgoing(peer)
        image = self._server.capture()
        file = tempfile.TemporaryFile()  # noqa: SIM115  # it outlives this attempt
        try:
            size = await asyncio.get_running_loop().run_in_executor(None, snapshotter.stream_database, file, image)
        except BaseException:
            file.close()
            raise
        peer.outgoing = Outgoing(image.snapshot, secrets.token_hex(8), file, size, self._server.clock.monotonic())
        return peer.outgoing, 0

    async def _arrived(self, peer: Peer, outgoing: Outgoing) -> int:
        """How much the member says it has of it (upstream's members know of no such question)."""
        async with asyncio.timeout(QUESTION_TIMEOUT_S):
            reader, writer = await self._dial(peer)
            try:
                head = {"Connection": "close", TRANSFER_HEADER: outgoing.transfer}
                writer.write(self._head("GET", SNAPSHOT_PATH, peer, head))
                status, _, answer = await _read_answer(reader)
            finally:
                writer.close()
        return min(int(answer), outgoing.size) if status == 200 else 0

    async def _upload(self, peer: Peer, message: Message, outgoing: Outgoing, offset: int) -> int:
        """The member's answer: 204, it has all of it; 409, it would go on elsewhere."""
        body = raft_codec.message_bytes(message)
        reader, writer = await self._dial(peer)
        try:
            length = 8 + len(body) + outgoing.size - offset
            head = {"Content-Length": str(length), TRANSFER_HEADER: outgoing.transfer, OFFSET_HEADER: str(offset)}
            writer.write(self._head("POST", SNAPSHOT_PATH, peer, head) + _LENGTH.pack(len(body)) + body)
            for chunk in outgoing.chunks(offset):
                writer.write(chunk)
                async with asyncio.timeout(self._write_timeout_s):
                    await writer.drain()
            return (await _read_answer(reader))[0]
        finally:
            writer.close()

    def _close_outgoing(self, peer: Peer) -> None:
        if peer.outgoing is not None:
            peer.outgoing.file.close()
            peer.outgoing = None

    def _tidy(self) -> None:
        """What interrupted snapshots have left is not kept for ever."""
        self._arrivals.tidy(self._server.state.applied_index)
        for peer in self._peers.values():
            outgoing = peer.outgoing
            if outgoing is None or peer.snapshot_under_way:
                continue
            if not self._server.is_leader or self._server.clock.monotonic() - outgoing.began_s > KEPT_S:
                self._close_outgoing(peer)

    # Receiving

    async def _receive_from(self, peer: Peer) -> None:
        """Keep a stream of the peer's messages open."""
        failures = 0
        while True:
            try:
                await self._receive(peer)
                failures = 0
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                peer.counts["receive_failures"] += 1
                log.v(2, "Lost a peer", peer=f"{peer.id:x}", err=str(error) or type(error).__name__)
            if peer.active:
                peer.active = False
                peer.counts["disconnects"] += 1
                failures = 0
                log.info("Peer became inactive", peer=f"{peer.id:x}")
            if self._forget_stranger(peer):
                return
            peer.at += 1
            await asyncio.sleep(_REDIAL.delay(failures))
            failures += 1

    async def _receive(self, peer: Peer) -> None:
        reader, writer = await self._dial(peer)
        try:
            writer.write(self._head("GET", f"{STREAM_PATH}{self._server.member_id:x}", peer, {}))
            async with asyncio.timeout(self._read_timeout_s):
                status = await _read_head(reader)
            if status[0] == 410 and peer.id in self._server.state.membership.members:
                log.error("This member has been removed from the cluster", peer=f"{peer.id:x}")
                self._server.removed.set()
            if status[0] != 200:
                raise ValueError(f"peer answered {status[0]}")
            peer.active = True
            log.info("Peer became active", peer=f"{peer.id:x}")
            buffer = b""
            while True:
                async with asyncio.timeout(self._read_timeout_s):
                    data = await reader.read(1 << 20)
                if not data:
                    return
                peer.counts["received"] += len(data)
                buffer = buffer + data if buffer else data
                messages, buffer = _split(buffer)
                if messages:
                    self._server.raft.step(messages)
        finally:
            writer.close()

    async def _dial(self, peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await dial(peer.urls[peer.at % len(peer.urls)], self._context)

    def _head(self, method: str, path: str, peer: Peer, more: dict[str, str]) -> bytes:
        headers = {
            "Host": urlsplit(peer.urls[peer.at % len(peer.urls)]).netloc,
            "X-Server-From": f"{self._server.member_id:x}",
            "X-Server-Version": self._version,
            "X-Min-Cluster-Version": MIN_CLUSTER_VERSION,
            "X-Etcd-Cluster-ID": f"{self._server.cluster_id:x}",
            "X-Raft-To": f"{peer.id:x}",
            "X-PeerURLs": ",".join(self._own_urls),
            **more,
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    # Serving

    async def handle(self, request: Request) -> Response:
        """The peer port's HTTP handler for Raft's paths."""
        headers = {"X-Etcd-Cluster-ID": f"{self._server.cluster_id:x}", "X-Server-Version": self._version}
        response = await self._handle(request)
        response.headers = {**headers, **response.headers}
        return response

    async def _handle(self, request: Request) -> Response:
        if request.path.startswith(STREAM_PATH):
            return self._stream(request)
        if request.path == SNAPSHOT_PATH:
            return await self._receive_snapshot(request)
        if request.path == PIPELINE_PATH:
            return self._receive_one(request)
        if request.path == PROBING_PATH:
            now = datetime.datetime.fromtimestamp(self._server.clock.wall(), datetime.UTC).isoformat().replace("+00:00", "Z")
            return Response(body=json.dumps({"OK": True, "Now": now}).encode() + b"\n", headers={"Content-Type": "application/json"})
        if request.path == "/members":
            members = [json.loads(_member_json(member)) for member in self._server.state.membership.sorted()]
            return Response(body=json.dumps(members).encode() + b"\n", headers={"Content-Type": "application/json"})
        return Response(404, b"404 page not found\n")

    def _check(self, request: Request) -> int:
        """Who asks; refused unless it is a member of this cluster that means this member."""
        if (theirs := request.headers.get("x-etcd-cluster-id")) != f"{self._server.cluster_id:x}":
            log.warning("request cluster ID mismatch", local_member_cluster_id=f"{self._server.cluster_id:x}", remote_peer_cluster_id=theirs or "")
            raise BadRequest(412, "cluster ID mismatch")
        if not _is_compatible(request.headers.get("x-server-version", "2.0.0"), request.headers.get("x-min-cluster-version", "2.0.0"), self._version):
            raise BadRequest(412, "incompatible version")
        if request.headers.get("x-raft-to") != f"{self._server.member_id:x}":
            raise BadRequest(412, "raft message target mismatch")
        try:
            sender = int(request.headers.get("x-server-from", ""), 16)
        except ValueError:
            raise BadRequest(400, "invalid sender") from None
        if sender in self._server.state.membership.removed:
            raise BadRequest(410, "the member has been permanently removed from the cluster")
        return sender

    def _stream(self, request: Request) -> Response:
        if request.method != "GET":
            return Response(405, b"Method Not Allowed\n", {"Allow": "GET"})
        sender = self._check(request)
        if request.path != f"{STREAM_PATH}{sender:x}":
            raise BadRequest(404, "invalid from in path")
        peer = self._known(sender, request)

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if peer.writer is not None:
                peer.writer.close()
            peer.writer = writer
            try:
                # The other side sends nothing more: reading tells when it is gone.
                await reader.read(1)
            finally:
                if peer.writer is writer:
                    peer.writer = None

        return Response(200, headers={"Content-Type": "application/octet-stream"}, takeover=run)

    def _receive_one(self, request: Request) -> Response:
        """A single message (upstream's pipeline, for what does not fit its streams)."""
        if request.method != "POST":
            return Response(405, b"Method Not Allowed\n", {"Allow": "POST"})
        sender = self._check(request)
        try:
            message = raft_codec.message_from(request.body)
        except ValueError:
            raise BadRequest(400, "error unmarshalling raft message") from None
        self._known(sender, request)
        if not self._is_known(message.from_):
            raise BadRequest(400, "message of another sender")
        self._server.raft.step([message])
        return Response(204)

    async def _receive_snapshot(self, request: Request) -> Response:
        began = self._server.clock.monotonic()
        transfer = request.headers.get(TRANSFER_HEADER.lower(), "")
        if request.method == "GET" and transfer:
            return Response(body=b"%d" % self._arrivals.resume(Identity(self._check(request), transfer)))
        if request.method != "POST":
            return Response(405, b"Method Not Allowed\n", {"Allow": "POST"}, close=True)
        sender = self._check(request)
        offset = request.headers.get(OFFSET_HEADER.lower(), "0")
        if not offset.isdigit() or len(offset) > 18:
            raise BadRequest(400, "invalid snapshot offset")
        reader, left = request.reader, request.content_length
        (length,) = _LENGTH.unpack(await reader.readexactly(8))
        if length > MAX_SNAPSHOT_MESSAGE_BYTES or length + 8 > left:
            raise BadRequest(400, "invalid snapshot message length")
        try:
            message = raft_codec.message_from(await reader.readexactly(length))
        except ValueError as error:
            raise BadRequest(400, str(error)) from None
        if message.type is not MessageType.SNAP or message.snapshot is None:
            raise BadRequest(400, "not a snapshot message")
        peer = self._known(sender, request)
        index = message.snapshot.index
        try:
            arrived = await self._arrivals.receive(
                reader, left - 8 - length, Identity(sender, transfer), index, int(offset), self._read_timeout_s * 2
            )
        except OffsetError as error:
            raise BadRequest(409, str(error)) from None
        except (ConnectionError, TimeoutError) as error:
            log.warning("Interrupted while receiving a snapshot", index=index, err=str(error) or type(error).__name__)
            raise
        with self._server.measures.timed("received_fsync"):
            await asyncio.get_running_loop().run_in_executor(None, make_durable, arrived)
        arrived.replace(self._server.received_path(index))
        took = self._server.clock.monotonic() - began
        self._server.measures.observe("received_save", took)
        self.snapshot_received.observe(took, f"{sender:x}")
        peer.counts["snapshots_received"] += 1
        log.info("Received snapshot", index=index, offset=int(offset))
        self._server.raft.step([message])
        return Response(204)

    # Questions

    async def ask_leader(self, path: str, body: bytes) -> bytes:
        """POST to the leader. Raises OSError, or RpcError if the leader answered one of etcd's errors."""
        peer = self._peers.get(self._server.lead)
        if peer is None:
            raise ConnectionError("no leader")
        async with asyncio.timeout(QUESTION_TIMEOUT_S):
            reader, writer = await self._dial(peer)
            try:
                writer.write(self._head("POST", path, peer, {"Content-Length": str(len(body)), "Connection": "close"}) + body)
                status, _, answer = await _read_answer(reader)
            finally:
                writer.close()
        if status != 200:
            text = answer.decode(errors="replace").strip()
            error = error_of(text)
            if error is not None:
                raise error
            raise ConnectionError(f"the leader answered {status}: {text}")
        return answer


def error_of(text: str) -> Exception | None:
    """One of etcd's errors by its text."""
    from kubette.etcd_api import errors

    for spec in vars(errors).values():
        if isinstance(spec, tuple) and len(spec) == 2 and spec[1] == text:
            return errors.error(spec)
    return None


def _member_json(member: Member) -> bytes:
    from kubette.etcd import membership

    return membership.to_json(member)


async def dial(url: str, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a peer URL. Raises OSError, TimeoutError."""
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "unixs")
    async with asyncio.timeout(DIAL_TIMEOUT_S):
        if parts.scheme in ("unix", "unixs"):
            host = "localhost" if secure else None
            return await asyncio.open_unix_connection(parts.netloc + parts.path, ssl=context if secure else None, server_hostname=host)
        return await asyncio.open_connection(parts.hostname, parts.port or (443 if secure else 80), ssl=context if secure else None)


async def get(
    url: str, path: str, context: ssl.SSLContext | None, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """GET from a peer URL (upstream's members send some questions a body). Raises OSError, TimeoutError."""
    async with asyncio.timeout(QUESTION_TIMEOUT_S):
        reader, writer = await dial(url, context)
        try:
            named = {"Host": urlsplit(url).netloc, "Connection": "close", **({"Content-Length": str(len(body))} if body else {}), **(headers or {})}
            lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
            writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            return await _read_answer(reader)
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise ConnectionError(str(error)) from error
        finally:
            writer.close()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("answer's head is too large") from error
    words = head[0].split(" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ValueError(f"not HTTP: {head[0]!r}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(words[1]), headers


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    status, headers = await _read_head(reader)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, headers, b"".join([chunk async for chunk in http1.read_chunks(reader)])
    length = int(headers.get("content-length", "0"))
    if length > http1.MAX_BODY_BYTES:
        raise ValueError("answer is too large")
    return status, headers, await reader.readexactly(length)


def _split(buffer: bytes) -> tuple[list[Message], bytes]:
    """Whole messages at the start of `buffer`, and the rest. Raises ValueError."""
    messages = []
    at = 0
    while len(buffer) - at >= 8:
        (length,) = _LENGTH.unpack_from(buffer, at)
        if length > MAX_MESSAGE_BYTES:
            raise ValueError(f"message of {length} bytes")
        if len(buffer) - at - 8 < length:
            break
        message = raft_codec.message_from(buffer[at + 8 : at + 8 + length])
        at += 8 + length
        if message.from_:  # otherwise it only kept the link alive
            messages.append(message)
    return messages, buffer[at:]


def _is_compatible(server: str, min_cluster: str, own: str) -> bool:
    """Whether a member of version `server`, which can live with clusters from `min_cluster` on, and we can be in one cluster."""
    if not _VERSION.match(server) or not _VERSION.match(min_cluster):
        return False
    return _minor(server) >= _minor(MIN_CLUSTER_VERSION) and _minor(min_cluster) <= _minor(own)


def _minor(version: str) -> tuple[int, int]:
    major, minor, _ = version.split(".", 2)
    return int(major), int(minor)
