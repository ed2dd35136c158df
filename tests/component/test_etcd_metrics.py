"""`/metrics`, `/health`, `/livez`, `/readyz`: names, kinds and labels are the real etcd's; what is left out is listed, with its reason."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc.aio
import pytest

from harness import etcd_processes as etcd
from harness.etcd_pair import Member as Endpoint
from harness.etcd_processes import OURS, REAL
from harness.eventually import eventually
from kubette.etcd_api import rpc_pb2 as pb

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

LEFT_OUT = {
    r"go_.*": "Go's runtime; process_* tells of memory, files and time here too",
    r"etcd_grpc_proxy_.*": "there is no gRPC proxy; upstream's server has them by linking it",
    r"etcd_debugging_disk_backend_commit_(rebalance|spill)_duration_seconds": "the database is written whole, no page is rebalanced or spilled",
    r"etcd_disk_defrag_inflight": "defragmenting takes no time that a scrape could see",
    r"etcd_mvcc_db_open_read_transactions": "reads are of the memory, without transactions",
    r"etcd_network_peer_round_trip_time_seconds": "the first round comes after five seconds",  # on the real one at once
}
# etcd 3.5 and 3.6 added these.
NEWER = (
    *("etcd_server_healthcheck", "etcd_server_healthchecks_total", "etcd_disk_wal_write_duration_seconds", "etcd_server_learner_promote_successes"),
    *(
        "etcd_network_known_peers",
        "etcd_snap_fsync_duration_seconds",
        "etcd_server_snapshot_apply_in_progress_total",
        "etcd_disk_wal_write_bytes_total",
    ),
)

Described = dict[str, tuple[str, frozenset[tuple[str, ...]]]]


def described(text: str) -> tuple[Described, dict[str, str]]:
    """Kind and label sets by name; and the samples."""
    kinds = {words[2]: words[3] for line in text.splitlines() if line.startswith("# TYPE") and (words := line.split())}
    labels: dict[str, set[tuple[str, ...]]] = {name: set() for name in kinds}
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    for sample in samples:
        name, _, rest = sample.partition("{")
        base = re.sub("_(bucket|sum|count)$", "", name)
        found = {label for label in re.findall(r'(\w+)="', rest) if label not in ("le", "quantile")}
        labels[base if kinds.get(base) in ("histogram", "summary") else name].add(tuple(sorted(found)))
    return {name: (kind, frozenset(labels[name])) for name, kind in kinds.items()}, samples


class Pair:
    """Two members of one cluster."""

    def __init__(self, kind: str, directory: Path, stack: ExitStack) -> None:
        ports = etcd.free_ports(4)
        cluster = ",".join(f"m{place}=http://127.0.0.1:{ports[2 * place + 1]}" for place in (0, 1))
        more = [
            f"--initial-cluster={cluster}",
            "--metrics=extensive",
            "--heartbeat-interval=20",
            "--election-timeout=200",
            *(["--enable-v2", "--logger=zap"] if kind == REAL else []),
        ]
        self.members = [
            etcd.Member(kind, directory / f"{kind}{place}", ports[2 * place], ports[2 * place + 1], *more, name=f"m{place}") for place in (0, 1)
        ]
        for member in self.members:
            stack.callback(member.stop)
        for member in self.members:
            member.wait_serving()
        self.first = Endpoint(self.members[0].url)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Pair]]:
    directory = tmp_path_factory.mktemp("metrics")
    with ExitStack() as stack:
        yield Pair(OURS, directory, stack), Pair(REAL, directory, stack)


def used(pair: Pair) -> str:
    each = pair.first
    eventually(lambda: each.etcdctl("put", "counted", "1")[0], lambda code: code == 0)
    each.etcdctl("get", "counted", "--rev", "99999")
    each.etcdctl("lease", "grant", "60")
    each.etcdctl("set", "k", "v", api=2)
    each.http("GET", "/health")
    return each.http("GET", "/metrics").body


def test_every_metric_of_the_real_one_is_there_with_its_kind_and_labels(clusters: tuple[Pair, Pair]) -> None:
    (ours, samples), (theirs, _) = (described(used(pair)) for pair in clusters)
    missing = {name for name in theirs if name not in ours and not any(re.fullmatch(pattern, name) for pattern in LEFT_OUT)}
    assert missing == set()
    differing = {
        name: (ours[name], theirs[name])
        for name in theirs
        if name in ours and (ours[name][0] != theirs[name][0] or (ours[name][1] and theirs[name][1] and ours[name][1] != theirs[name][1]))
    }
    assert differing == {}
    assert set(NEWER) <= set(ours)
    assert samples['grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}'] == "1"
    assert samples['grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}'] == "1"
    for name in ("etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_wal_write_bytes_total", "etcd_debugging_lease_ttl_total_count"):
        assert int(samples[name]) > 0, name
    sent = [value for sample, value in samples.items() if sample.startswith("etcd_network_peer_sent_bytes_total")]
    assert len(sent) == 1
    assert int(sent[0]) > 0
    handling = [sample for sample in samples if sample.startswith("grpc_server_handling_seconds_bucket") and 'grpc_method="Put"' in sample]
    assert handling, "--metrics=extensive"


async def test_watch_and_client_counters_count(clusters: tuple[Pair, Pair]) -> None:
    url = clusters[0].first.url.removeprefix("http://")
    async with grpc.aio.insecure_channel(url) as channel:
        watch = channel.stream_stream("/etcdserverpb.Watch/Watch", pb.WatchRequest.SerializeToString, pb.WatchResponse.FromString)
        stream = watch(metadata=(("client-api-version", "9.9"),))
        await stream.write(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"seen")))
        assert (await stream.read()).created
        put = channel.unary_unary("/etcdserverpb.KV/Put", pb.PutRequest.SerializeToString, pb.PutResponse.FromString)
        await put(pb.PutRequest(key=b"seen", value=b"1"))
        assert len((await stream.read()).events) == 1
        text = await asyncio.to_thread(lambda: clusters[0].first.http("GET", "/metrics").body)
        stream.cancel()
    _, samples = described(text)
    assert int(samples["etcd_debugging_mvcc_events_total"]) >= 1
    assert samples['etcd_server_client_requests_total{type="stream",client_api_version="9.9"}'] == "1"
    labels = 'grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"'
    assert (samples[f"grpc_server_msg_received_total{{{labels}}}"], samples[f"grpc_server_msg_sent_total{{{labels}}}"]) == ("1", "2")


def test_health_checks_say_what_is_wrong(clusters: tuple[Pair, Pair]) -> None:
    pair = clusters[0]
    ours = pair.first
    assert ours.http("GET", "/livez?verbose").body == "[+]serializable_read ok\nok\n"
    everything = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    assert ours.http("GET", "/readyz?verbose").body == everything
    assert ours.http("GET", "/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=nothing").body.count("\n") == 3
    assert ours.http("GET", "/readyz/linearizable_read").body == "ok\n"
    assert ours.http("GET", "/readyz/nothing").status == 404
    assert ours.http("POST", "/readyz").status == ours.http("POST", "/health").status == 405
    pair.members[1].stop()
    eventually(lambda: ours.http("GET", "/metrics").body, lambda text: "etcd_server_has_leader 0" in text)
    assert ours.http("GET", "/health").body == '{"health":"false","reason":"RAFT NO LEADER"}\n'
    assert ours.http("GET", "/health?serializable=true").body == '{"health":"true","reason":""}'
    assert ours.http("GET", "/livez").status == 200
    ready = ours.http("GET", "/readyz")
    assert ready.status == 503
    assert "[-]linearizable_read failed: etcdserver: " in ready.body
    assert "[+]serializable_read ok" in ready.body
    assert ours.http("GET", "/readyz?exclude=linearizable_read").status == 200
