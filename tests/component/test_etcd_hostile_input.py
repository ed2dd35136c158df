"""RELIABILITY S53-S61: what strangers, wrong certificates, oversized and malformed requests get on the client port and the peer port."""

import asyncio
import json
import random
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from harness import etcd_processes as etcd
from harness import pki
from harness.etcd_calls import CallError, Calls
from harness.etcd_processes import OURS, Member
from kubette.etcd import raft_codec
from kubette.etcd_api import rpc_pb2 as pb
from kubette.raft.messages import Message, MessageType

pytestmark = pytest.mark.slow
Code = grpc.StatusCode
MUTATIONS = 1500


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with etcd.serving(OURS, tmp_path_factory.mktemp("hostile") / "data", etcd.free_ports(2)) as running:
        yield running
        assert running.is_running(), running.log[-3000:]
        assert "Traceback" not in running.log, running.log[-5000:]


def put(key: bytes, value: bytes = b"v") -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


S54 = [
    ("KV/Put", pb.PutRequest(), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    ("KV/Range", pb.RangeRequest(), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    ("KV/DeleteRange", pb.DeleteRangeRequest(), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    ("KV/Txn", pb.TxnRequest(success=[put(b"")]), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    ("KV/Txn", pb.TxnRequest(success=[put(b"%d" % n) for n in range(129)]), Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
    ("KV/Txn", pb.TxnRequest(success=[put(b"a"), put(b"a")]), Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    ("KV/Range", pb.RangeRequest(key=b"a", revision=1 << 40), Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    ("KV/Compact", pb.CompactionRequest(revision=1 << 40), Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    ("KV/Range", pb.RangeRequest(key=b"a", revision=1), Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
    ("KV/Put", pb.PutRequest(key=b"a", lease=12345), Code.NOT_FOUND, "etcdserver: requested lease not found"),
    ("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=12345), Code.NOT_FOUND, "etcdserver: requested lease not found"),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=9_000_000_001), Code.OUT_OF_RANGE, "etcdserver: too large lease TTL"),
    ("KV/Put", pb.PutRequest(key=b"a", value=b"v", ignore_value=True), Code.INVALID_ARGUMENT, "etcdserver: value is provided"),
    ("KV/Range", pb.RangeRequest(key=b"a", sort_target=77), Code.INVALID_ARGUMENT, "etcdserver: invalid sort option"),
    ("KV/Put", pb.PutRequest(key=b"a", value=bytes(1536 * 1024 + 1)), Code.INVALID_ARGUMENT, "etcdserver: request is too large"),
]


async def test_requests_that_cannot_be_are_refused_in_upstreams_words(member: Member) -> None:
    """S54, and S55's request of 1.5 MiB and a byte."""
    async with Calls(member.url) as calls:
        for _ in range(3):
            revision = (await calls.put(b"compacted", b"1")).header.revision
        await calls.compact(revision)
        for method, request, code, text in S54:
            with pytest.raises(CallError) as caught:
                await calls.raw(method, request.SerializeToString())
            assert (caught.value.code(), caught.value.details()) == (code, text), method


async def test_a_message_beyond_what_grpc_takes_is_refused_before_it_is_collected(member: Member) -> None:
    """S55: 2 MiB and a byte, and a frame that claims to be 1 GiB."""
    async with Calls(member.url) as calls:
        with pytest.raises(CallError) as caught:
            await calls.raw("KV/Put", bytes((2 << 20) + 1))
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        assert "received message larger than max" in (caught.value.details() or "")
    before = resident(member.pid)
    reader, writer = await connected(member.url)
    writer.write(_grpc_frames(b"/etcdserverpb.KV/Put", b"\0" + struct.pack(">I", 1 << 30) + bytes(8000)))
    answer = await asyncio.wait_for(reader.read(1 << 16), 10)
    assert answer
    writer.close()
    assert resident(member.pid) - before < 64 << 20


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


def _grpc_frames(path: bytes, body: bytes) -> bytes:
    from kubette.etcd.rim import hpack, http2

    block = hpack.encode([(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b"content-type", b"application/grpc")])
    parts = [http2.PREFACE, http2.frame(http2.SETTINGS, 0, 0, b""), http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block)]
    parts += [http2.frame(http2.DATA, 0, 1, body[at : at + 16384]) for at in range(0, len(body), 16384)]
    return b"".join(parts)


MALFORMED = {
    "truncated varint": b"\x0a\xff\xff\xff\xff",
    "a length beyond the end": b"\x0a\x7fabc",
    "an endless varint": b"\xff" * 20,
    "a group that never ends": b"\x0b" * 2000,
    "field number 0": b"\x00\x01",
}


async def test_malformed_protobuf_gets_an_error_and_unknown_fields_get_an_answer(member: Member) -> None:
    """S59."""
    async with Calls(member.url) as calls:
        for what, body in MALFORMED.items():
            for method in ("KV/Put", "KV/Range", "KV/Txn", "Lease/LeaseGrant", "Cluster/MemberAdd", "Auth/UserAdd", "Maintenance/Alarm"):
                with pytest.raises(CallError) as caught:
                    await calls.raw(method, body)
                assert caught.value.code() in (Code.INTERNAL, Code.INVALID_ARGUMENT), what
        bomb = pb.TxnRequest(success=[put(b"deep")]).SerializeToString()
        refused = 0
        for level in range(3000):  # a transaction in a transaction in a …
            bomb = b"\x12" + _length(len(bomb) + 1 + len(_length(len(bomb)))) + b"\x22" + _length(len(bomb)) + bomb
            if level > 100 and level % 500:
                continue
            code = await calls.code("KV/Txn", bomb)
            assert code in (Code.INTERNAL, Code.INVALID_ARGUMENT) if refused else code is not Code.UNAVAILABLE, level
            refused += code is not Code.OK
        assert refused
        with pytest.raises(CallError):  # a name that is no UTF-8
            await calls.raw("Auth/UserAdd", b"\x0a\x02\xff\xfe")
        unknown = pb.PutRequest(key=b"known", value=b"1").SerializeToString() + b"\xfa\x7f\x03abc"
        await calls.raw("KV/Put", unknown)
        assert (await calls.get(b"known")).kvs[0].value == b"1"


def _length(size: int) -> bytes:
    out = b""
    while size > 0x7F:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size])


def mutated(body: bytes, rng: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[rng.randint(0, len(data)) : 0] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2 and data:
            del data[rng.randrange(len(data)) :]
        elif data:
            at = rng.randrange(len(data))
            data[at : at + rng.randint(1, 6)] = b""
    return bytes(data)


VALID = [
    ("KV/Put", pb.PutRequest(key=b"k", value=b"v", prev_kv=True)),
    ("KV/Range", pb.RangeRequest(key=b"k", range_end=b"z", limit=5, sort_order=1, revision=0)),
    ("KV/DeleteRange", pb.DeleteRangeRequest(key=b"k", range_end=b"l", prev_kv=True)),
    ("KV/Txn", pb.TxnRequest(compare=[pb.Compare(key=b"k", target=1, mod_revision=5)], success=[put(b"k")], failure=[put(b"l")])),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=60, ID=7)),
    ("Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=7, keys=True)),
    ("Maintenance/Status", pb.StatusRequest()),
    ("Maintenance/HashKV", pb.HashKVRequest(revision=1)),
    ("Cluster/MemberUpdate", pb.MemberUpdateRequest(ID=5, peerURLs=["http://127.0.0.1:1"])),
    ("Auth/RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(name="r")),
]


async def test_random_mutations_of_valid_requests_end_no_process(member: Member) -> None:
    """S59: each is answered, with success or an error; and the member goes on."""
    rng = random.Random(59)
    async with Calls(member.url) as calls:

        async def one(method: str, body: bytes) -> bool:
            try:
                await calls.raw(method, body)
            except CallError as error:
                return error.code() is not Code.DEADLINE_EXCEEDED
            return True

        work = [(method, mutated(request.SerializeToString(), rng)) for _ in range(MUTATIONS // len(VALID)) for method, request in VALID]
        for at in range(0, len(work), 50):
            assert all(await asyncio.gather(*(one(*each) for each in work[at : at + 50])))
        await calls.put(b"alive", b"1")
        watch = grpc.aio.insecure_channel(member.url.removeprefix("http://"))
        for number in range(100):
            stream = watch.stream_stream("/etcdserverpb.Watch/Watch")()
            request = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k", start_revision=1, watch_id=number))
            await stream.write(mutated(request.SerializeToString(), rng))
            stream.cancel()
        await watch.close()


async def test_random_frames_end_their_connection_only(member: Member) -> None:
    rng = random.Random(60)
    valid = _grpc_frames(b"/etcdserverpb.KV/Range", b"\0\0\0\0\x03\x0a\x01k")
    for number in range(200):
        reader, writer = await connected(member.url)
        writer.write(mutated(valid, rng) if number % 2 else valid[:24] + mutated(valid[24:], rng))
        writer.write_eof()
        try:
            await asyncio.wait_for(reader.read(1 << 16), 10)
        except ConnectionError:
            pass
        writer.close()
    async with Calls(member.url) as calls:
        await calls.put(b"alive", b"2")


async def test_clients_that_reset_their_connection_before_the_answer_end_nothing_else(member: Member) -> None:
    """By every protocol and kind of answer: what is written then is written to a connection that is no more."""
    put = json.dumps({"key": "a2V5", "value": "dmFsdWU="}).encode()
    watch = json.dumps({"create_request": {"key": "a2V5"}}).encode()
    posts = [(b"/v3/kv/put", put), (b"/v3/kv/range", b'{"key":"a2V5"}'), (b"/v3/watch", watch), (b"/v3/lease/grant", b'{"TTL":"60"}')]
    requests = [b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body) for path, body in posts]
    gets = (b"/health", b"/metrics", b"/v2/keys/?recursive=true", b"/v2/keys/key?wait=true", b"/v2/stats/self")
    requests += [b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in gets]
    requests.append(b"PUT /v2/keys/key HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=1")
    requests.append(_grpc_frames(b"/etcdserverpb.KV/Put", b"\0\0\0\0\x06\x0a\x01k\x12\x01v"))
    for url in [member.url] * 10 + [member.peer_url]:
        for request in requests:
            _, writer = await connected(url)
            writer.write(request)
            await writer.drain()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        async with Calls(member.url) as calls:
            await calls.put(b"key", b"value")  # which the watchers hear of
    assert "Traceback" not in member.log
    assert "Request failed" not in member.log


# The peer port


async def peer_request(
    member: Member, method: str, path: str, headers: dict[str, str], body: bytes = b"", length: int | None = None
) -> tuple[int, str]:
    reader, writer = await connected(member.peer_url)
    head = {"Host": "x", "Content-Length": str(len(body) if length is None else length), "Connection": "close", **headers}
    writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in head.items()).encode() + b"\r\n" + body)
    answer = await asyncio.wait_for(reader.read(1 << 16), 15)
    writer.close()
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2].decode(errors="replace")


async def test_the_peer_port_answers_as_upstream(member: Member) -> None:
    """S57"""
    async with Calls(member.url) as calls:
        header = (await calls.get(b"x")).header
    cluster, own = f"{header.cluster_id:x}", f"{header.member_id:x}"
    good = {"X-Etcd-Cluster-ID": cluster, "X-Raft-To": own, "X-Server-From": "5", "X-Server-Version": "3.6.5", "X-Min-Cluster-Version": "3.0.0"}
    stream, snapshot = "/raft/stream/message/5", "/raft/snapshot"
    cases: list[tuple[str, str, dict[str, str], bytes, int]] = [
        ("GET", "/raft", good, b"", 405),
        ("POST", stream, good, b"", 405),
        ("GET", snapshot, good, b"", 405),
        ("POST", "/raft", {**good, "X-Etcd-Cluster-ID": "1"}, b"", 412),
        ("GET", stream, {**good, "X-Etcd-Cluster-ID": "1"}, b"", 412),
        ("POST", snapshot, {**good, "X-Etcd-Cluster-ID": "1"}, bytes(16), 412),
        ("POST", "/raft", {**good, "X-Server-Version": "2.3.0"}, b"", 412),
        ("POST", "/raft", {**good, "X-Min-Cluster-Version": "9.0.0"}, b"", 412),
        ("POST", "/raft", {**good, "X-Min-Cluster-Version": "any"}, b"", 412),
        ("GET", stream, {**good, "X-Min-Cluster-Version": "3"}, b"", 412),
        ("POST", snapshot, {**good, "X-Server-Version": "3.x.0"}, bytes(16), 412),
        ("GET", stream, {**good, "X-Raft-To": "77"}, b"", 412),
        ("GET", stream, good, b"", 404),
        ("POST", "/raft", good, random.Random(1).randbytes(500), 400),
        ("POST", snapshot, good, struct.pack(">Q", 20) + random.Random(2).randbytes(20), 400),
        ("POST", snapshot, good, struct.pack(">Q", 64 << 20) + bytes(100), 400),
        ("POST", "/leases", good, random.Random(3).randbytes(100), 400),
        ("POST", "/members/promote/five", good, b"", 400),
        ("GET", "/members/hashkv", {**good, "X-Etcd-Cluster-ID": "1"}, b"{}", 412),
        ("GET", "/members/hashkv", good, b"{", 400),
    ]
    for method, path, headers, body, status in cases:
        found, _ = await peer_request(member, method, path, headers, body)
        assert found == status, (method, path, headers)
    body = raft_codec.message_bytes(Message(MessageType.SNAP, to=header.member_id, from_=5, term=1, index=1))
    assert (await peer_request(member, "POST", snapshot, good, struct.pack(">Q", len(body)) + body))[0] == 400, (
        "a snapshot message without a snapshot"
    )
    before = resident(member.pid)
    assert (await peer_request(member, "POST", "/leases", good, bytes(1 << 16), length=1 << 33))[0] == 413
    assert resident(member.pid) - before < 32 << 20
    members = json.loads((await peer_request(member, "GET", "/members", {}))[1])
    assert [each["id"] for each in members] == [header.member_id]


async def test_a_removed_member_is_told_so_on_the_peer_port(member: Member) -> None:
    """S57: 410 on every path of Raft's."""
    async with Calls(member.url) as calls:
        removed = await calls.add_learner("http://127.0.0.1:1")
        await calls.remove(removed)
        header = (await calls.get(b"x")).header
    headers = {"X-Etcd-Cluster-ID": f"{header.cluster_id:x}", "X-Raft-To": f"{header.member_id:x}", "X-Server-From": f"{removed:x}"}
    headers |= {"X-Server-Version": "3.6.5", "X-Min-Cluster-Version": "3.0.0"}
    body = raft_codec.message_bytes(Message(MessageType.HEARTBEAT, to=header.member_id, from_=removed, term=header.raft_term + 1))
    for method, path in (("GET", f"/raft/stream/message/{removed:x}"), ("POST", "/raft"), ("POST", "/raft/snapshot")):
        status, text = await peer_request(member, method, path, headers, body if method == "POST" else b"")
        assert status == 410, path
        assert text == "the member has been permanently removed from the cluster\n"
    async with Calls(member.url) as calls:
        assert (await calls.get(b"x")).header.raft_term == header.raft_term


async def test_raft_messages_of_nobody_change_nothing(member: Member) -> None:
    """A term, a vote, an entry from a member that there is not, and that answers "you have been removed" when it is called back."""
    called = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        called.set()

    nobody = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with nobody, Calls(member.url) as calls:
        header = (await calls.put(b"before", b"1")).header
        good = {"X-Etcd-Cluster-ID": f"{header.cluster_id:x}", "X-Raft-To": f"{header.member_id:x}", "X-Server-From": "5"}
        good |= {"X-Server-Version": "3.6.5", "X-Min-Cluster-Version": "3.0.0"}
        good["X-PeerURLs"] = f"http://127.0.0.1:{nobody.sockets[0].getsockname()[1]}"
        rng = random.Random(57)
        for kind in (MessageType.APP, MessageType.HEARTBEAT, MessageType.VOTE, MessageType.TIMEOUT_NOW):
            body = raft_codec.message_bytes(Message(kind, to=header.member_id, from_=5, term=header.raft_term + 5, index=1, log_term=1, commit=1))
            for sent in (*(mutated(body, rng) for _ in range(15)), body):
                await peer_request(member, "POST", "/raft", good, sent)
        await asyncio.wait_for(called.wait(), 10)
        assert (await calls.put(b"after", b"1")).header.raft_term == header.raft_term


# Certificates


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, pki.Authority, pki.Authority]]:
    """A member with TLS on both ports, as kubeadm sets it up: the client port's authority, and one that only kubelets have."""
    directory = tmp_path_factory.mktemp("secured")
    ours, kubelets = pki.Authority(directory, "etcd-ca"), pki.Authority(directory, "kubernetes-ca")
    server = ours.issue("server", addresses=["127.0.0.1"])
    client, peer = etcd.free_ports(2)
    urls = f"https://127.0.0.1:{client}", f"https://127.0.0.1:{peer}"
    flags = [f"--cert-file={server.cert}", f"--key-file={server.key}", f"--trusted-ca-file={ours.cert}", "--client-cert-auth"]
    flags += [f"--peer-cert-file={server.cert}", f"--peer-key-file={server.key}", f"--peer-trusted-ca-file={ours.cert}", "--peer-client-cert-auth"]
    flags += [f"--listen-client-urls={urls[0]}", f"--advertise-client-urls={urls[0]}", f"--listen-peer-urls={urls[1]}"]
    flags += [f"--initial-advertise-peer-urls={urls[1]}", f"--initial-cluster=m0={urls[1]}"]
    running = Member(OURS, directory / "data", client, peer, *flags)
    try:
        running.wait_serving()
        yield f"127.0.0.1:{client}", f"127.0.0.1:{peer}", ours, kubelets
        assert "Traceback" not in running.log, running.log[-3000:]
    finally:
        running.stop()


def _reaches(address: str, context: ssl.SSLContext | None, request: bytes) -> bool:
    """Whether anything is answered."""
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            stream = plain if context is None else context.wrap_socket(plain, server_hostname=host)
            stream.sendall(request)
            return bool(stream.recv(100))
    except (ssl.SSLError, ConnectionError):
        return False


def test_only_certificates_of_the_right_authority_get_in(secured: tuple[str, str, pki.Authority, pki.Authority]) -> None:
    """S53 on the client port, S58 on the peer port: plain text, no certificate, another authority's, a kubelet's."""
    client, peer, ours, kubelets = secured
    request = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for port in (client, peer):
        assert not _reaches(port, None, request), "plain text"
        assert not _reaches(port, ours.client_context(), request), "no certificate"
        stranger = pki.Authority(Path(ours.cert).parent, f"stranger-{port.rpartition(':')[2]}")
        assert not _reaches(port, ours.client_context(stranger.issue("apiserver-etcd-client")), request), "another authority's"
        assert not _reaches(port, ours.client_context(kubelets.issue("system:node:node01", organization="system:nodes")), request), "a kubelet's"
        assert _reaches(port, ours.client_context(ours.issue("apiserver-etcd-client", addresses=["127.0.0.1"])), request), "the right one"
    elsewhere = ours.client_context(ours.issue("elsewhere", addresses=["192.0.2.7"]))
    assert _reaches(client, elsewhere, request), "clients may live anywhere"
    assert not _reaches(peer, elsewhere, request), "members call from where their certificate says"


# Production starts


def test_a_production_start_cannot_be_armed(member: Member) -> None:
    """S58: faults live in the tests' own program; etcd has no flag, no variable and no socket for them."""
    done = etcd.run(OURS, ["kill:before apply:1", "--"], name="etcd")
    assert done.code == 1
    assert "'kill:before apply:1' is not a valid flag" in done.stderr
    inodes = {link for fd in Path(f"/proc/{member.pid}/fd").iterdir() if (link := str(fd.readlink())).startswith("socket:")}
    listening = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{member.pid}/net/{name}").read_text().splitlines()[1:]]
    ports = {int(words[1].rpartition(":")[2], 16) for words in listening if words[3] == "0A" and f"socket:[{words[9]}]" in inodes}
    assert ports == {int(url.rpartition(":")[2]) for url in (member.url, member.peer_url)}
    unix = [line.split() for line in Path(f"/proc/{member.pid}/net/unix").read_text().splitlines()[1:]]
    named = [words[7] for words in unix if len(words) > 7 and f"socket:[{words[6]}]" in inodes]
    assert named == []
