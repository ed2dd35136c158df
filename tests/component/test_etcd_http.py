"""The client port's HTTP/1.1, compared with the real etcd: the JSON gateway and the v2 API, by hand and by the real etcdctl."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.etcd_pair import Member, masked, member, pair

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

Pair = tuple[Member, Member]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("pair")) as both:
        yield both


GATEWAY = (
    ("kv/put", '{"key":"Zm9v","value":"YmFy"}'),
    ("kv/put", '{"key":"Zm9v","value":"YmF6","prev_kv":true}'),
    ("kv/range", '{"key":"Zm9v"}'),
    ("kv/range", '{"key":"Zm9v","revision":"99"}'),
    ("kv/range", '{"key":"Zm9v","revision":2}'),
    ("kv/range", '{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sort_target":"KEY","limit":"3","keys_only":true}'),
    ("kv/range", '{"key":"Zm9'),
    ("kv/range", '{"ley":"Zm9v"}'),
    ("kv/range", ""),
    ("kv/nope", "{}"),
    (
        "kv/txn",
        '{"compare":[{"key":"Zm9v","result":"EQUAL","target":"VALUE","value":"YmF6"}],"success":[{"request_put":{"key":"Zm9v","value":"MQ=="}},'
        '{"requestRange":{"key":"Zm9v"}}],"failure":[{"request_delete_range":{"key":"Zm9v"}}]}',
    ),
    ("lease/grant", '{"TTL":"60","ID":"77"}'),
    ("lease/grant", '{"TTL":"60","ID":"77"}'),
    ("lease/leases", "{}"),
    ("lease/revoke", '{"ID":"77"}'),
    ("lease/revoke", '{"ID":"78"}'),
    ("kv/deleterange", '{"key":"Zm9v","prev_kv":true}'),
    ("kv/compaction", '{"revision":"3"}'),
    ("kv/compaction", '{"revision":"3"}'),
    ("cluster/member/remove", '{"ID":"5"}'),
    ("cluster/member/promote", '{"ID":"5"}'),
)


def test_the_json_gateway_answers_as_the_real_one(servers: Pair) -> None:
    for path, body in GATEWAY:
        ours, theirs = (each.http("POST", f"/v3/{path}", body) for each in servers)
        assert (ours.status, masked(ours.body)) == (theirs.status, masked(theirs.body)), (path, body)
    assert [each.http("GET", "/v3/kv/range").status for each in servers] == [405, 405]


def test_the_json_gateway_streams(servers: Pair) -> None:
    for body in ('{"create_request":{"key":"d2F0Y2hlZA=="}}', '{"create_request":{"key":"d2F0Y2hlZA==","start_revision":"1"}}'):
        seen = []
        for each in servers:
            threading.Timer(0.3, each.http, ("POST", "/v3/kv/put", '{"key":"d2F0Y2hlZA==","value":"MQ=="}')).start()
            seen.append([sorted(json.loads(masked(line).replace(":N", ":0"))["result"]) for line in each.first_lines("/v3/watch", body, 2)])
        assert seen[0] == seen[1]
    assert len({masked(each.first_lines("/v3/lease/keepalive", '{"ID":"7"}', 1)[0]) for each in servers}) == 1


V2_REQUESTS = (
    ("GET", "", ""),
    ("GET", "/nope", ""),
    ("PUT", "/a", "value=1"),
    ("PUT", "/a", "value=2"),
    ("GET", "/a", ""),
    ("GET", "/a?quorum=true", ""),
    ("PUT", "/a/b", "value=2"),
    ("PUT", "/d", "dir=true"),
    ("PUT", "/d", "value=x"),
    ("PUT", "/d/x", "value=%3Cx%26y%3E%C3%A9"),
    ("PUT", "/d/_hidden", "value=h"),
    ("GET", "/d", ""),
    ("GET", "/?recursive=true&sorted=true", ""),
    ("POST", "/q", "value=q1"),
    ("POST", "/q", "value=q2"),
    ("GET", "/q?sorted=true&recursive=true", ""),
    ("PUT", "/a?prevValue=2", "value=5"),
    ("PUT", "/a?prevValue=2", "value=5"),
    ("PUT", "/a?prevIndex=1&prevValue=x", "value=5"),
    ("PUT", "/a?prevValue=", "value=5"),
    ("PUT", "/a?prevIndex=x", "value=5"),
    ("PUT", "/a?prevExist=false", "value=5"),
    ("PUT", "/a?prevExist=true", "value=6"),
    ("PUT", "/zz?prevExist=true", "value=6"),
    ("PUT", "/a?prevExist=maybe", "value=6"),
    ("PUT", "/a?wait=true", "value=6"),
    ("PUT", "/a?noValueOnSuccess=true", "value=7"),
    ("PUT", "/t", "value=6&ttl=100"),
    ("PUT", "/t", "ttl=200&refresh=true&prevExist=true"),
    ("PUT", "/t", "refresh=true&value=1"),
    ("PUT", "/t", "refresh=true"),
    ("PUT", "/t", "value=6&ttl=x"),
    ("PUT", "/t", "value=6&ttl="),
    ("DELETE", "/d", ""),
    ("DELETE", "/d?dir=true", ""),
    ("DELETE", "/a?prevValue=nope", ""),
    ("DELETE", "/a?prevValue=7", ""),
    ("DELETE", "/a", ""),
    ("DELETE", "", ""),
    ("DELETE", "/d?recursive=true", ""),
    ("GET", "/d/x?wait=true&waitIndex=8", ""),
    ("GET", "/q?wait=true&recursive=true&waitIndex=8", ""),
    ("PATCH", "/a", ""),
)


def test_the_v2_keys_api_answers_as_the_real_one(servers: Pair) -> None:
    for method, path, form in V2_REQUESTS:
        ours, theirs = (each.http(method, f"/v2/keys{path}", form, form=True) for each in servers)
        assert (ours.status, masked(ours.body)) == (theirs.status, masked(theirs.body)), (method, path, form)
        assert ours.headers.get("X-Etcd-Index") == theirs.headers.get("X-Etcd-Index"), (method, path, form)


V2_COMMANDS = (
    "set key1 value1",
    "get key1",
    "get nokey",
    "-o extended get key1",
    "-o json get key1",
    "mkdir dir",
    "mkdir dir",
    "mk new 1",
    "mk new 1",
    "update new 2",
    "update no 1",
    "set --swap-with-value 2 new 3",
    "set --swap-with-value 2 new 3",
    "rm new",
    "rm dir",
    "rmdir dir",
    "set /x/y/z 1",
    "ls --sort -r -p /",
    "rm x --dir",
    "rm x -r",
    "setdir --ttl 50 sd",
    "updatedir --ttl 60 sd",
    "cluster-health",
    "member list",
    "member remove 1234",
    "member update 99 http://127.0.0.1:1",
)


def test_etcdctl_of_the_v2_api_works_as_typed(servers: Pair) -> None:
    for command in V2_COMMANDS:
        ours, theirs = (each.etcdctl(*command.split(), api=2) for each in servers)
        assert (ours[0], masked(ours[1])) == (theirs[0], masked(theirs[1])), command


def test_a_v2_watcher_gets_what_happens_after_it_came(servers: Pair) -> None:
    seen = []
    for each in servers:
        threading.Timer(0.3, each.etcdctl, ("set", "w/x", "1"), {"api": 2}).start()
        seen.append(each.etcdctl("watch", "-r", "w", api=2))
    assert seen[0] == seen[1]


def test_a_v2_key_expires_on_its_own(servers: Pair) -> None:
    ours = servers[0]
    ours.http("PUT", "/v2/keys/brief", "value=x&ttl=1", form=True)
    event = json.loads(ours.http("GET", "/v2/keys/brief?wait=true").body)
    assert (event["action"], event["prevNode"]["value"]) == ("expire", "x")
    assert ours.http("GET", "/v2/keys/brief").status == 404


def test_the_v2_store_survives_restart_and_compaction_of_the_log(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kubette.etcd"]
    with member(tmp_path / "m", command, "--snapshot-count=20") as first:
        for number in range(50):
            first.http("PUT", f"/v2/keys/k{number % 7}", f"value={number}", form=True)
        time.sleep(0.2)
        before = first.http("GET", "/v2/keys?recursive=true&sorted=true")
    assert list((tmp_path / "m/member/snap").glob("*.snap"))
    with member(tmp_path / "m", command, "--snapshot-count=20") as second:
        after = second.http("GET", "/v2/keys?recursive=true&sorted=true")
    assert after.body == before.body


def _post(each: Member, path: str, document: dict[str, object]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(each.http("POST", f"/v3/{path}", json.dumps(document)).body)
    return answer


def test_a_lock_is_held_by_one_and_passed_on(servers: Pair) -> None:
    seen = []
    for each in servers:
        for lease in (101, 102):
            _post(each, "lease/grant", {"ID": lease, "TTL": 60})
        first = _post(each, "lock/lock", {"name": "bG9jaw==", "lease": 101})
        threading.Timer(0.4, _post, (each, "lock/unlock", {"key": first["key"]})).start()
        began = time.monotonic()
        second = _post(each, "lock/lock", {"name": "bG9jaw==", "lease": 102})
        assert time.monotonic() - began > 0.3, "the second did not wait for the first"
        gone = _post(each, "lock/lock", {"name": "bG9jaw==", "lease": 999})
        seen.append((first["key"], second["key"], gone["message"]))  # the real one's code is lost on its inner way
    assert seen[0] == seen[1]


def test_an_election_has_one_leader_who_may_speak_and_resign(servers: Pair) -> None:
    seen = []
    for each in servers:
        _post(each, "lease/grant", {"ID": 201, "TTL": 60})
        nobody = _post(each, "election/leader", {"name": "dm90ZQ=="})
        won = _post(each, "election/campaign", {"name": "dm90ZQ==", "lease": 201, "value": "YQ=="})["leader"]
        leader = _post(each, "election/leader", {"name": "dm90ZQ=="})["kv"]
        _post(each, "election/proclaim", {"leader": won, "value": "Yg=="})
        spoken = _post(each, "election/leader", {"name": "dm90ZQ=="})["kv"]
        observed = json.loads(each.first_lines("/v3/election/observe", '{"name":"dm90ZQ=="}', 1)[0])["result"]["kv"]
        _post(each, "election/resign", {"leader": won})
        late = _post(each, "election/proclaim", {"leader": won, "value": "Yw=="})
        seen.append(
            (nobody["message"], won["key"], leader["value"], spoken["value"], spoken["version"], observed["value"], late["code"], late["message"])
        )
    assert seen[0] == seen[1]
    assert seen[0][0] == "election: no leader"


async def test_health_and_reflection_answer_grpc_clients(servers: Pair) -> None:
    import grpc.aio

    from kubette.etcd_api import health_pb2, reflection_pb2

    for each in servers:
        async with grpc.aio.insecure_channel(each.url.removeprefix("http://")) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check", None, health_pb2.HealthCheckResponse.FromString)
            assert (await check(b"")).status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(health_pb2.HealthCheckRequest(service="none").SerializeToString())
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    async with grpc.aio.insecure_channel(servers[0].url.removeprefix("http://")) as channel:
        info = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None, None)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services="*"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="etcdserverpb.KV"),
            reflection_pb2.ServerReflectionRequest(file_by_filename="none"),
        ]
        answers = [
            reflection_pb2.ServerReflectionResponse.FromString(each) async for each in info(iter(each.SerializeToString() for each in requests))
        ]
        assert "etcdserverpb.KV" in [service.name for service in answers[0].list_services_response.service]
        assert len(answers[1].file_descriptor_response.file_descriptor_proto) == 3
        assert answers[2].error_response.error_code == 5


def test_a_downgrade_is_judged_and_refused(servers: Pair) -> None:
    ours = servers[0]
    major, minor = (int(part) for part in json.loads(ours.http("GET", "/version").body)["etcdcluster"].split(".")[:2])
    for action, target, said in (
        ("VALIDATE", f"{major}.{minor - 1}.0", None),
        ("VALIDATE", f"{major}.{minor - 2}.0", "etcdserver: invalid downgrade target version"),
        ("VALIDATE", "three", "etcdserver: wrong downgrade target version format"),
        ("ENABLE", f"{major}.{minor - 1}.0", "etcdserver: downgrade is not supported"),
        ("CANCEL", "", "etcdserver: no inflight downgrade job"),
    ):
        assert _post(ours, "maintenance/downgrade", {"action": action, "version": target}).get("message") == said


@pytest.mark.flag("enable-v2", "enable-grpc-gateway")
def test_the_v2_api_and_the_gateway_can_be_off(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kubette.etcd"]
    with member(tmp_path / "m", command, "--enable-v2=false", "--enable-grpc-gateway=false") as server:
        assert server.http("GET", "/v2/keys").status == 404
        assert server.http("POST", "/v3/kv/range", '{"key":"AA=="}').status in (404, 405)
        assert server.etcdctl("put", "k", "v")[0] == 0
