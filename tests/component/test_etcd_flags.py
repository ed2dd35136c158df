"""Every flag of etcd does what it says, or is refused: seen from outside, beside a member that does not have it. `pytest.mark.flag` names the flags that a test sees."""

import asyncio
import http.client
import json
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from harness import etcd_processes as etcd
from harness.etcd_calls import CallError, Calls
from harness.etcd_cluster import LOOK_S, WAIT_S, Cluster
from harness.etcd_processes import OURS, Member
from harness.eventually import eventually
from harness.raw_http2 import RawClient
from kubette.component_base.flags import FlagError
from kubette.etcd import bbolt, config, config_sources, flag_table, membership, snapshotter
from kubette.etcd.rim import http2
from kubette.etcd.server import empty_state
from kubette.etcd_api import auth_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.kv_pb2 import KeyValue
from kubette.raft.messages import ConfState

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]
flag = pytest.mark.flag


def test_every_flag_has_a_test_or_is_refused() -> None:
    known = set(flag_table.flag_set().flags)
    refused, renamed = set(flag_table.REFUSED), set(flag_table.RENAMED)
    seen = set[str]()
    for path in (*TESTS.glob("component/test_etcd*.py"), *TESTS.glob("unit/etcd/test_*.py")):
        for names in re.findall(r"^@(?:pytest\.mark\.)?flag\(([^)]*)\)", path.read_text(), re.MULTILINE):
            seen |= set(re.findall(r'"([a-z0-9-]+)"', names))
    assert seen <= known, f"no such flag: {seen - known}"
    assert known - refused - renamed - seen == set()
    assert not seen & refused


# Those that are refused, and those that have a newer name


@pytest.mark.parametrize("name", flag_table.REFUSED)
def test_a_refused_flag_says_why_and_may_say_that_it_wants_nothing(name: str) -> None:
    neutral, reason = flag_table.REFUSED[name]
    for value in neutral:
        config.check(flag_table.flag_set().parse([f"--{name}={value}"]))
    with pytest.raises(FlagError, match=re.escape(f"not supported: {reason}")):
        flag_table.flag_set().parse([f"--{name}=7"])


VALUES = {"uint": "7", "int": "7", "duration": "7s", "bool": "true"}


@pytest.mark.parametrize("name", flag_table.RENAMED)
def test_an_older_name_means_the_newer_one_and_is_said_to_be_old(name: str) -> None:
    newer = flag_table.RENAMED[name]
    flags = flag_table.flag_set()
    value = VALUES[flags.flags[name].kind]
    others = ["--feature-gates=CompactHashCheck=true"]  # without which one of them has nothing to do
    by_old, by_new = flags.parse([*others, f"--{name}={value}"]), flags.parse([*others, f"--{newer}={value}"])
    assert config.check(by_old) == config.check(by_new) != config.check(flags.parse(others))
    assert [newer in line for line in flag_table.deprecations(by_old.changed)] == [True]


REFUSED_VALUES = [
    (("--heartbeat-interval=0",), "--heartbeat-interval must be >0 (set to 0ms)"),
    (("--election-timeout=0",), "--election-timeout must be >0 (set to 0ms)"),
    (("--election-timeout=499",), "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]"),
    (("--election-timeout=60000",), "--election-timeout[60000ms] is too long, and should be set less than 50000ms"),
    (("--logger=capnslog",), "--logger=capnslog is removed in v3.5"),
    (("--logger=other",), 'unknown logger option "other"'),
    (("--log-level=loud",), 'unrecognized level: "loud"'),
    (("--log-format=xml",), "unknown log format: xml, supported values json, console"),
    (("--log-outputs=default,x",), 'multi logoutput for "default" is not supported yet'),
    (("--metrics=all",), 'unknown metrics level "all" (must be one of: basic, extensive)'),
    (("--auto-compaction-mode=",), "undefined auto-compaction-mode"),
    (("--auto-compaction-mode=never",), 'unknown auto-compaction-mode "never"'),
    (("--auto-compaction-retention=soon",), "error parsing auto-compaction-retention"),
    (("--auto-compaction-mode=revision", "--auto-compaction-retention=1h"), "error parsing auto-compaction-retention"),
    (("--bcrypt-cost=3",), "--bcrypt-cost must be between 4 and 31 (set to 3)"),
    (("--compact-hash-check-time=0s",), "--compact-hash-check-time must be >0 (set to 0s)"),
    (("--watch-progress-notify-interval=0s",), "--watch-progress-notify-interval must be >0"),
    (("--auto-tls", "--self-signed-cert-validity=0"), "selfSignedCertValidity is invalid,it should be greater than 0"),
    (("--listen-client-urls=http://some.name:2379", "--advertise-client-urls=http://x:1"), "expected IP in URL for binding (http://some.name:2379)"),
    (("--listen-client-urls=http://127.0.0.1:1",), "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
    (("--feature-gates=Unheard=true",), "unrecognized feature gate: Unheard"),
    (("--feature-gates=LeaseCheckpoint=true",), "cannot set feature gate LeaseCheckpoint to true, feature is locked to false"),
    (("--peer-client-cert-file=x",), "ClientKeyFile and ClientCertFile must both be present or both absent"),
    (("--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"), "AllowedCNs and AllowedHostnames are mutually exclusive"),
    (("--tls-min-version=TLS1.1",), 'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)'),
    (("--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"), "min version (TLS1.3) is greater than max version (TLS1.2)"),
    (("--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"), "cipher suites cannot be configured when only TLS1.3 is enabled"),
    (("--cipher-suites=TLS_NONE",), "TLS_NONE"),
]
UNREADABLE = [
    (("--initial-cluster-state=old",), "invalid value"),
    (("--listen-peer-urls=ftp://127.0.0.1:1",), "URL scheme must be http, https, unix, or unixs"),
    (("--listen-peer-urls=http://127.0.0.1",), 'URL address does not have the form "host:port"'),
    (("--max-concurrent-streams=4294967296",), "value out of range"),
    (("--snapshot-count=many",), "parse error"),
    (("--quota-backend-bytes=2GB",), "parse error"),
    (("--force-new-cluster=maybe",), "maybe"),
]


@flag("logger")
@pytest.mark.parametrize(("words", "said"), REFUSED_VALUES + UNREADABLE)
def test_values_that_cannot_be_are_refused_in_upstreams_words(words: Sequence[str], said: str) -> None:
    with pytest.raises(FlagError, match=re.escape(said)):
        config.check(flag_table.flag_set().parse(words))


@flag("experimental-compact-hash-check-enabled", "experimental-initial-corrupt-check", "feature-gates")
def test_gates_have_one_meaning_by_each_of_their_names() -> None:
    def checked(*words: str) -> config.Config:
        return config.check(flag_table.flag_set().parse(words))

    assert checked("--experimental-compact-hash-check-enabled") == checked("--feature-gates=CompactHashCheck=true") != checked()
    assert (
        checked("--experimental-initial-corrupt-check") == checked("--feature-gates=InitialCorruptCheck=true") == checked("--initial-corrupt-check")
    )
    with pytest.raises(FlagError, match="cannot specify both flags"):
        checked("--experimental-initial-corrupt-check", "--feature-gates=InitialCorruptCheck=true")


# One member as it comes, and one with everything said


@dataclass(frozen=True)
class Changed:
    """The member, and the ports and files that its flags name."""

    member: Member
    data: Path
    wal: Path
    log: Path
    http: int
    metrics: int


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with etcd.serving(OURS, tmp_path_factory.mktemp("plain") / "data", etcd.free_ports(2)) as member:
        yield member
        assert "Traceback" not in member.log, member.log[-3000:]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    directory = tmp_path_factory.mktemp("changed")
    client, peer, http_port, metrics = etcd.free_ports(4)
    flags = [
        "--name=m-one",
        f"--wal-dir={directory / 'log'}",
        "--advertise-client-urls=http://client.example:2379",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster=m-one=http://127.0.0.1:1",
        "--initial-cluster-token=a-token",
        f"--listen-client-http-urls=http://127.0.0.1:{http_port}",
        f"--listen-metrics-urls=http://127.0.0.1:{metrics}",
        *("--snapshot-count=10", "--max-snapshots=2", "--max-wals=2"),
        *("--max-txn-ops=4", "--max-request-bytes=10000", "--max-concurrent-streams=7", "--max-learners=2"),
        *("--grpc-keepalive-min-time=1ms", "--grpc-keepalive-interval=500ms", "--grpc-keepalive-timeout=500ms"),
        *("--socket-reuse-port", "--socket-reuse-address", "--enable-pprof", "--metrics=extensive", "--pre-vote=false"),
        *(f"--log-outputs={directory / 'etcd.log'}", "--log-level=debug", "--log-format=console", "--logger=zap"),
        *("--watch-progress-notify-interval=50ms", "--warning-apply-duration=1ns", "--warning-unary-request-duration=1ns"),
        *("--cors=http://good.example:80", "--host-whitelist=good.example,127.0.0.1"),
        *("--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"),
        *("--heartbeat-interval=700", "--election-timeout=4000"),
        *("--bcrypt-cost=4", "--auth-token-ttl=1"),
        *(("--memory-mlock",) if os.geteuid() == 0 else ()),
    ]
    command = etcd.with_faults("segment:4096")
    with etcd.serving(OURS, directory / "data", (client, peer), *flags, command=command, variables=etcd.harness_path()) as member:
        yield Changed(member, directory / "data", directory / "log", directory / "etcd.log", http_port, metrics)
        assert "Traceback" not in member.log, member.log[-3000:]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _http(port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes | None = None) -> tuple[int, Any, str]:
    """Status, headers and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


@flag("name", "advertise-client-urls", "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-token")
async def test_a_member_is_who_its_flags_say(changed: Changed) -> None:
    (expected,) = membership.bootstrap({"m-one": ("http://127.0.0.1:1",)}, "a-token").values()
    assert expected.id != membership.bootstrap({"m-one": ("http://127.0.0.1:1",)}, "etcd-cluster")["m-one"].id
    async with Calls(changed.member.url) as calls, asyncio.timeout(WAIT_S):
        while True:
            answer = await calls.call("Cluster/MemberList", pb.MemberListRequest(), pb.MemberListResponse)
            (member,) = answer.members
            if member.name:
                break
            await asyncio.sleep(LOOK_S)
    assert (member.ID, member.name, list(member.peerURLs)) == (expected.id, "m-one", ["http://127.0.0.1:1"])
    assert list(member.clientURLs) == ["http://client.example:2379"]
    assert answer.header.cluster_id == membership.cluster_id([expected.id])


@flag("data-dir", "wal-dir", "snapshot-count", "max-snapshots", "max-wals")
async def test_files_are_where_and_as_many_as_the_flags_say(changed: Changed, plain: Member) -> None:
    for member in (changed.member, plain):
        async with Calls(member.url) as calls:
            for number in range(100):
                await calls.put(b"file%d" % (number % 3), bytes(200))

    def names(directory: Path, suffix: str) -> list[str]:
        return sorted(path.name for path in directory.iterdir() if path.name.endswith(suffix))

    snap = changed.data / "member" / "snap"
    eventually(lambda: names(snap, ".snap"), lambda found: len(found) == 2)  # each after 10 entries; the newest two
    eventually(lambda: names(changed.wal, ".wal"), lambda found: 2 <= len(found) <= 3)  # of 4 KiB, also the one in use
    assert names(changed.wal, ".wal")[0] > "0000000000000001"
    assert not (changed.data / "member" / "wal").exists()
    data = Path(plain._log).with_name("data")
    assert names(data / "member" / "wal", ".wal") == ["0000000000000000-0000000000000000.wal"]
    assert names(data / "member" / "snap", ".snap") == []  # after 10000


@flag("listen-client-urls", "listen-client-http-urls", "listen-metrics-urls", "listen-peer-urls")
async def test_each_listener_serves_what_it_is_for(changed: Changed, plain: Member) -> None:
    grpc_port = _port(changed.member.url)
    assert _http(changed.http, "/version")[0] == 200
    with pytest.raises(http.client.RemoteDisconnected):
        _http(grpc_port, "/version")
    async with Calls(f"http://127.0.0.1:{changed.http}") as calls:
        with pytest.raises(CallError):
            await calls.get(b"x", timeout_s=2.0)
    assert _http(changed.metrics, "/health")[0] == 200
    assert "etcd_server_has_leader 1" in _http(changed.metrics, "/metrics")[2]
    assert _http(changed.metrics, "/v2/keys/")[0] == 404
    assert json.loads(_http(_port(changed.member.peer_url), "/members")[2])[0]["name"] == "m-one"
    # All on one port, unless it is said.
    assert _http(_port(plain.url), "/version")[0] == _http(_port(plain.url), "/metrics")[0] == 200


@flag("max-txn-ops", "max-request-bytes", "max-learners")
async def test_limits_of_requests_and_members(changed: Changed, plain: Member) -> None:
    puts = [pb.RequestOp(request_put=pb.PutRequest(key=b"op%d" % number)) for number in range(5)]
    async with Calls(changed.member.url) as calls:
        await calls.txn([], puts[:4])
        with pytest.raises(CallError, match="etcdserver: too many operations in txn request"):
            await calls.txn([], puts)
        await calls.put(b"big", bytes(9000))
        with pytest.raises(CallError, match="etcdserver: request is too large"):
            await calls.put(b"big", bytes(11000))
        learners = [await calls.add_learner(f"http://127.0.0.1:{2 + number}") for number in range(2)]
        with pytest.raises(CallError, match="too many learner members in cluster"):
            await calls.add_learner("http://127.0.0.1:9")
        for learner in learners:
            await calls.remove(learner)
    async with Calls(plain.url) as calls:
        await calls.txn([], puts)
        await calls.put(b"big", bytes(11000))
        learner = await calls.add_learner("http://127.0.0.1:2")
        with pytest.raises(CallError, match="too many learner members in cluster"):
            await calls.add_learner("http://127.0.0.1:9")
        await calls.remove(learner)


@flag("heartbeat-interval", "election-timeout")
async def test_a_lease_is_longer_than_an_election(changed: Changed, plain: Member) -> None:
    """By half: five heartbeats of 700 ms are what goes into 4000 ms; ten of 100 ms into 1000."""
    for member, least in ((changed.member, 5), (plain, 2)):
        async with Calls(member.url) as calls:
            lease = await calls.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=1), pb.LeaseGrantResponse)
            assert least == lease.TTL


@flag("pre-vote", "log-outputs", "log-level", "log-format")
async def test_logs_go_where_and_are_as_the_flags_say(changed: Changed, plain: Member) -> None:
    lines = changed.log.read_text().splitlines()
    assert {line.split("\t")[1] for line in lines} >= {"debug", "info"}
    assert not any(line.startswith("{") for line in lines)
    assert "Ready to serve client requests" not in changed.member.log  # not to stderr as well
    levels = {json.loads(line)["level"] for line in plain.log.splitlines()}
    assert "info" in levels
    assert "debug" not in levels
    # How a member became leader is in it: by asking whether it could win, or at once.
    assert "became pre-candidate" in plain.log
    assert "became leader" in changed.log.read_text()
    assert "became pre-candidate" not in changed.log.read_text()


@flag("warning-apply-duration", "warning-unary-request-duration")
async def test_what_takes_too_long_is_told_of(changed: Changed, plain: Member) -> None:
    async with Calls(changed.member.url) as calls:
        await calls.put(b"slow", b"")
    text = eventually(changed.log.read_text, lambda text: "apply request took too long" in text and "request stats" in text)
    assert "/etcdserverpb.KV/Put" in text
    assert "request stats" not in plain.log or "0.3" not in plain.log


@flag("enable-pprof", "metrics")
def test_profiles_and_histograms_are_there_when_asked_for(changed: Changed, plain: Member) -> None:
    for port, status, is_extensive in ((changed.http, 200, True), (_port(plain.url), 404, False)):
        assert _http(port, "/debug/pprof/")[0] == status
        assert ("grpc_server_handling_seconds_bucket" in _http(port, "/metrics")[2]) is is_extensive


@flag("cors", "host-whitelist")
def test_origins_and_host_names_are_those_of_the_flags(changed: Changed, plain: Member) -> None:
    def origin(port: int, origin: str) -> str | None:
        return _http(port, "/version", {"Origin": origin})[1]["Access-Control-Allow-Origin"]  # type: ignore[no-any-return]

    assert origin(changed.http, "http://good.example:80") == "http://good.example:80"
    assert origin(changed.http, "http://bad.example:80") is None
    assert origin(_port(plain.url), "http://bad.example:80") == "*"
    assert _http(changed.http, "/version", {"Host": "good.example"})[0] == 200
    assert _http(changed.http, "/version", {"Host": "bad.example"})[0] == 421
    assert _http(_port(plain.url), "/version", {"Host": "bad.example"})[0] == 200


@flag("watch-progress-notify-interval")
async def test_bookmarks_come_as_often_as_said(changed: Changed) -> None:
    async with Calls(changed.member.url) as calls:
        stream = calls.watch()
        request = pb.WatchCreateRequest(key=b"nothing here", progress_notify=True)
        await stream.write(pb.WatchRequest(create_request=request).SerializeToString())
        async with asyncio.timeout(WAIT_S):
            answers = [pb.WatchResponse.FromString(await stream.read()) for _ in range(4)]
        assert [answer.created for answer in answers] == [True, False, False, False]
        assert not any(answer.events for answer in answers)
        stream.cancel()


@flag("auto-compaction-retention", "auto-compaction-mode")
async def test_history_is_compacted_by_itself_after_its_time(changed: Changed, plain: Member) -> None:
    """By number of revisions: see tests/unit/etcd/test_flags_inside.py."""
    async with Calls(changed.member.url) as calls:
        old = (await calls.put(b"history", b"1")).header.revision
        await calls.put(b"history", b"2")

        async def look() -> None:
            async with asyncio.timeout(WAIT_S):
                while True:
                    await calls.put(b"something", b"new")
                    await calls.range(b"history", revision=old)
                    await asyncio.sleep(LOOK_S)

        with pytest.raises(CallError, match="required revision has been compacted"):
            await look()
        assert (await calls.get(b"history")).kvs[0].value == b"2"
    async with Calls(plain.url) as calls:
        assert (await calls.range(b"\0", b"\0", revision=1)).header.revision >= 1


@flag("memory-mlock")
@pytest.mark.root
def test_memory_is_locked_when_asked_for(changed: Changed, plain: Member) -> None:
    def locked(pid: int) -> int:
        return int(re.findall(r"VmLck:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])

    assert locked(changed.member.pid) > 10_000
    assert locked(plain.pid) == 0


@flag("socket-reuse-port")
def test_a_port_can_be_shared_when_asked_for(changed: Changed, plain: Member) -> None:
    def is_shared(port: int) -> bool:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                other.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

    assert is_shared(_port(changed.member.url))
    assert is_shared(_port(changed.member.peer_url))
    assert not is_shared(_port(plain.url))


# gRPC connections


@flag("max-concurrent-streams")
async def test_more_streams_than_allowed_are_refused(changed: Changed) -> None:
    async with RawClient(_port(changed.member.url)) as raw:
        for number in range(8):
            raw.call(b"/etcdserverpb.Watch/Watch", 2 * number + 1)
        kind, _, settings = await raw.frame()
        assert kind == http2.SETTINGS
        assert (3, 7) in list(struct.iter_unpack(">HI", settings))
        while True:
            kind, stream, payload = await raw.frame()
            if kind == http2.RST_STREAM:
                break
        assert (stream, payload) == (15, struct.pack(">I", http2.REFUSED_STREAM))


@flag("grpc-keepalive-min-time", "grpc-keepalive-interval", "grpc-keepalive-timeout")
async def test_clients_may_ping_as_often_as_said_and_silent_ones_are_found_out(changed: Changed, plain: Member) -> None:
    ping = 6
    async with RawClient(_port(plain.url)) as raw:
        raw.call(b"/etcdserverpb.Watch/Watch", 1)  # without a call under way a client has nothing to ping for
        kind = ping
        while kind == ping:
            raw.send(ping, 0, 0, bytes(8))
            kind, _, said = await raw.next_of(ping, http2.GOAWAY)
        assert said.endswith(b"too_many_pings")
    async with RawClient(_port(changed.member.url)) as raw:
        raw.call(b"/etcdserverpb.Watch/Watch", 1)
        for _ in range(10):
            raw.send(ping, 0, 0, bytes(8))
            assert (await raw.next_of(ping, http2.GOAWAY))[0] == ping
            await asyncio.sleep(0.01)  # more than the millisecond that is asked for
        # Then it is silent, is asked whether it is there, and does not answer.
        frames = await raw.frames()
        assert [payload for kind, _, payload in frames if kind == ping] == [bytes(8)]
        assert not any(payload.endswith(b"too_many_pings") for kind, _, payload in frames if kind == http2.GOAWAY)


# Users


@flag("auth-token-ttl", "bcrypt-cost")
async def test_tokens_and_passwords_are_as_the_flags_say(changed: Changed) -> None:
    async with Calls(changed.member.url) as calls, grpc.aio.insecure_channel(changed.member.url.removeprefix("http://")) as channel:

        async def ask(token: str, method: str, request: Any) -> bytes:
            call = channel.unary_unary(f"/etcdserverpb.{method}")
            return await call(request.SerializeToString(), metadata=[("token", token)])  # type: ignore[no-any-return]

        await calls.call("Auth/UserAdd", pb.AuthUserAddRequest(name="root", password="secret"), pb.AuthUserAddResponse)
        await calls.call("Auth/RoleAdd", pb.AuthRoleAddRequest(name="root"), pb.AuthRoleAddResponse)
        await calls.call("Auth/UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root"), pb.AuthUserGrantRoleResponse)
        await calls.call("Auth/AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)

        async def authenticate() -> str:
            request = pb.AuthenticateRequest(name="root", password="secret")
            return (await calls.call("Auth/Authenticate", request, pb.AuthenticateResponse)).token  # type: ignore[no-any-return]

        token = await authenticate()
        await ask(token, "KV/Range", pb.RangeRequest(key=b"x"))
        await asyncio.sleep(2)  # longer than a token lives that is not used
        with pytest.raises(CallError, match="etcdserver: invalid auth token"):
            await ask(token, "KV/Range", pb.RangeRequest(key=b"x"))
        await ask(await authenticate(), "Auth/AuthDisable", pb.AuthDisableRequest())
        stream = await calls.snapshot()
    users = dict(bbolt.Database(stream).items(b"authUsers"))
    assert auth_pb2.User.FromString(users[b"root"]).password.split(b"$")[:3] == [b"", b"2a", b"04"]


# Members with one thing changed


@flag("quota-backend-bytes")
@pytest.mark.needs("etcdctl")
async def test_f34_a_full_quota_stops_writes_until_there_is_space(tmp_path: Path) -> None:
    """INV-Q1, by the real etcdctl's eyes."""

    def ctl(*words: str) -> etcd.Done:
        return etcd.run(etcd.REAL, [f"--endpoints={member.url}", *words])

    with etcd.serving(OURS, tmp_path / "data", etcd.free_ports(2), f"--quota-backend-bytes={16 << 20}") as member:
        async with Calls(member.url) as calls:
            number = 0

            async def fill() -> None:
                nonlocal number
                for number in range(40):
                    await calls.put(b"big%d" % (number % 4), bytes(1 << 20))

            with pytest.raises(CallError, match="etcdserver: mvcc: database space exceeded") as refused:
                await fill()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert 4 < number < 20
            alarm = ctl("alarm", "list").stdout
            assert re.fullmatch(r"memberID:\d+ alarm:NOSPACE \n", alarm)
            put = ctl("put", "small", "1")
            assert (put.code, "etcdserver: mvcc: database space exceeded" in put.stderr) == (1, True)
            assert (await calls.get(b"big0")).kvs
            assert (await calls.delete(b"big0")).deleted == 1
            await calls.compact((await calls.get(b"x")).header.revision)
            for words in (("defrag",), ("alarm", "disarm")):
                assert ctl(*words).code == 0
            assert ctl("alarm", "list").stdout == ""
            assert ctl("put", "small", "1").stdout == "OK\n"


@flag("config-file")
async def test_a_configuration_file_replaces_the_command_line(tmp_path: Path) -> None:
    client, peer = etcd.free_ports(2)
    file = tmp_path / "etcd.yml"
    urls = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    lines = [
        "name: filed",
        f"data-dir: {tmp_path / 'filed'}",
        "max-txn-ops: 2",
        f"listen-client-urls: {urls[0]}",
        f"advertise-client-urls: {urls[0]}",
    ]
    lines += [f"listen-peer-urls: {urls[1]}", f"initial-advertise-peer-urls: {urls[1]}", f"initial-cluster: filed={urls[1]}"]
    file.write_text("\n".join(lines) + "\n")
    puts = [pb.RequestOp(request_put=pb.PutRequest(key=b"op%d" % number)) for number in range(3)]
    with etcd.serving(OURS, tmp_path / "said", (client, peer), "--max-txn-ops=100", f"--config-file={file}", variables={"ETCD_NAME": "x"}) as member:
        assert (
            "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided" in member.log
        )
        async with Calls(member.url) as calls:
            with pytest.raises(CallError, match="too many operations"):
                await calls.txn([], puts)
        assert (tmp_path / "filed" / "member").exists()
        assert not (tmp_path / "said").exists()
    file.write_text("max-txn-opps: 2\n")
    refused = Member(OURS, tmp_path / "said", client, peer, f"--config-file={file}")
    assert refused.wait_exit() == 1
    assert 'unknown field \\"max-txn-opps\\" in the configuration file' in refused.log


async def test_environment_variables_say_what_the_command_line_does_not(tmp_path: Path) -> None:
    """Every flag has one; what is said twice is refused."""
    ports = etcd.free_ports(2)
    puts = [pb.RequestOp(request_put=pb.PutRequest(key=b"op%d" % number)) for number in range(3)]
    with etcd.serving(OURS, tmp_path / "data", ports, variables={"ETCD_MAX_TXN_OPS": "2", "ETCD_UNHEARD": "1"}) as member:
        assert "recognized and used environment variable ETCD_MAX_TXN_OPS=2" in member.log
        assert "unrecognized environment variable ETCD_UNHEARD=1" in member.log
        async with Calls(member.url) as calls:
            with pytest.raises(CallError, match="too many operations"):
                await calls.txn([], puts)
    twice = Member(OURS, tmp_path / "data", *ports, variables={"ETCD_NAME": "x"})
    assert twice.wait_exit() == 1
    assert 'conflicting environment variable \\"ETCD_NAME\\" is shadowed by corresponding command-line flag' in twice.log
    for name, known in flag_table.flag_set().flags.items():
        value = {"bool": "true", "duration": "7s", "uint": "7", "int": "7", "string": "x"}.get(known.kind)
        if value is None or name in flag_table.REFUSED:
            continue
        flags = flag_table.flag_set()
        by_environment = flags.parse([])
        config_sources.apply_environment(flags, by_environment, {config_sources.variable(name): value})
        assert getattr(by_environment, known.dest) == getattr(flags.parse([f"--{name}={value}"]), known.dest), name


@flag("socket-reuse-address")
async def test_a_port_with_a_connection_that_is_being_forgotten_is_taken_again(tmp_path: Path) -> None:
    """TIME_WAIT, which is the server's when it closes first: Go's listeners take such a port without being told, and so do ours."""
    ports = etcd.free_ports(2)
    for more in ((), ("--socket-reuse-address",)):
        with etcd.serving(OURS, tmp_path / "data", ports, *more):
            _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.close()


# Clusters


@flag("strict-reconfig-check", "force-new-cluster", "initial-cluster-state")
async def test_members_are_added_when_that_is_safe_and_one_alone_begins_anew(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with Calls(cluster.url(0)) as calls:
            await calls.put(b"before", b"1")
            await cluster.wait_equal()
            # Without the check a change may cost the majority, and does here.
            cluster.kill(2)
            async with asyncio.timeout(WAIT_S):
                while "Peer became inactive" not in cluster.members[0].log:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(LOOK_S)
            assert await _add(calls, "http://127.0.0.1:1") == "etcdserver: unhealthy cluster"
            for index in (0, 1):
                await cluster.restart(index, "--strict-reconfig-check=false")
            assert await _add(calls, "http://127.0.0.1:1") == ""
            with pytest.raises(CallError):
                await calls.put(b"stuck", b"1", timeout_s=1.0)
            cluster.kill(1)
            await cluster.restart(0, "--force-new-cluster")
            answer = await calls.call("Cluster/MemberList", pb.MemberListRequest(), pb.MemberListResponse)
            assert [member.ID for member in answer.members] == [cluster.ids[0]]
            assert (await calls.get(b"before")).kvs[0].value == b"1"
            # It gets company again: one that is added, and told that the cluster is there.
            join = (f"--initial-cluster={cluster.initial_cluster([0, 1])}", "--initial-cluster-state=existing")
            cluster.data(1).rename(tmp_path / "gone")
            refused = cluster.start(1, *join)
            assert await cluster.wait_exit(1) == 1
            assert "error validating peerURLs" in refused.log.splitlines()[-1]
            await calls.add_member(cluster.network.urls[1])
            cluster.start(1, *join)
            await cluster.wait_serving([0, 1])
        await cluster.wait_equal()
        cluster.logs_are_clean()


async def _add(calls: Calls, url: str) -> str:
    """Why it is refused; empty when it is not."""
    try:
        await calls.add_member(url)
    except CallError as error:
        return error.details() or ""
    return ""


@flag("initial-corrupt-check", "corrupt-check-time", "compact-hash-check-time", "feature-gates")
async def test_a_member_with_other_data_is_found_out(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3, "--snapshot-count=10") as cluster:
        async with Calls(cluster.url(0)) as calls:
            await calls.put(b"once", b"1")
            for number in range(30):
                await calls.put(b"key", b"%d" % number)
            await cluster.wait_equal()
            leader = await cluster.wait_leader()
            victim = (leader + 1) % 3
            cluster.kill(victim)
            _falsify(cluster.data(victim) / "member" / "snap" / "db")
            # Before it serves: by each of the names.
            for name in ("initial-corrupt-check", "feature-gates=InitialCorruptCheck=true"):
                member = cluster.start(victim, f"--{name}")
                assert await cluster.wait_exit(victim) == 1
                assert f"{cluster.ids[victim]:x} found data inconsistency with peers" in member.log.splitlines()[-1]
            # Later, by the leader: at compactions, and from time to time.
            cluster.start(victim)
            others = [index for index in range(3) if index != victim]
            for more in (("--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=200ms"), ("--corrupt-check-time=200ms",)):
                for index in others:
                    await cluster.restart(index, *more)
                if (await cluster.wait_leader()) == victim:
                    async with Calls(cluster.url(victim)) as moving:
                        await moving.move_leader(cluster.ids[others[0]])
                if "compact" in more[0].lower():
                    await calls.compact((await calls.get(b"key")).header.revision)
                async with asyncio.timeout(WAIT_S):
                    while not (alarms := await _alarms(calls)):  # noqa: ASYNC110  # other processes' state
                        await asyncio.sleep(LOOK_S)
                assert set(alarms) == {(pb.CORRUPT, cluster.ids[victim])}
                with pytest.raises(CallError, match="etcdserver: corrupt cluster"):
                    await calls.put(b"key", b"refused")
                for index in others:
                    await cluster.restart(index)  # who does not look
                for alarm, node in alarms:
                    await calls.call(
                        "Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, alarm=alarm, memberID=node), pb.AlarmResponse
                    )
                await calls.put(b"key", b"again")
        cluster.logs_are_clean()


def _falsify(path: Path) -> None:
    """Another value in the database, which is otherwise as it should be."""
    state = empty_state(1)
    conf_state = snapshotter.load_database(path, state)
    for at, record in state.store._records.items():
        pair = KeyValue.FromString(record)
        if pair.key == b"once":
            pair.value = b"2"
            state.store._records[at] = pair.SerializeToString()
    snapshotter.write_database(path, snapshotter.capture(state, conf_state or ConfState()))


async def _alarms(calls: Calls) -> list[tuple[int, int]]:
    answer = await calls.call("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET), pb.AlarmResponse)
    return [(alarm.alarm, alarm.memberID) for alarm in answer.alarms]
