"""Users, roles and permissions, as typed into the real etcdctl, compared with the real etcd."""

import json
import sys
from pathlib import Path

import pytest

from harness.etcd_pair import Member, masked, member, pair

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

ROOT = "--user root:secret"
ANN = "--user ann:pw"
# Each is typed at both; `txn` gets its lines on standard input.
COMMANDS = (
    "auth enable",
    "user add root:secret",
    "user add root:secret",
    "auth enable",
    "user grant-role root root",
    "role add root",
    "user add ann:pw",
    "user add bob --no-password",
    "role add reader",
    "role add reader",
    "role grant-permission reader read /pub/ --prefix",
    "role grant-permission reader readwrite /own/a /own/d",
    "role grant-permission reader readwrite /own/d /own/z",
    "role grant-permission reader write /drop",
    "role grant-permission nope read /x",
    "role get reader",
    "role get nope",
    "role list",
    "user grant-role ann reader",
    "user grant-role ann nope",
    "user get ann",
    "user get nope",
    "user list",
    "put /pub/x 1",
    "put /priv 1",
    "auth enable",
    "get /pub/x",
    "put /pub/x 2",
    f"{ROOT} get /pub/x",
    "--user root:wrong get /pub/x",
    "--user bob:x get /pub/x",
    "--user nope:x get /pub/x",
    f"{ANN} get /pub/x",
    f"{ANN} get /pub/ --prefix",
    f"{ANN} get /p --prefix",
    f"{ANN} get /pub/x --consistency=s",
    f"{ANN} get /priv",
    f"{ANN} put /pub/x 3",
    f"{ANN} put /own/b 1",
    f"{ANN} get /own/a /own/z",
    f"{ANN} del /own/c /own/e",
    f"{ANN} put /drop 1",
    f"{ANN} put /drop 1 --prev-kv",
    f"{ANN} del /drop --prev-kv",
    f"{ANN} get /drop",
    f"{ANN} user get ann",
    f"{ANN} user get root",
    f"{ANN} user list",
    f"{ANN} role get reader",
    f"{ANN} role get root",
    f"{ANN} role list",
    f"{ANN} auth disable",
    f"{ANN} member add x --peer-urls=http://127.0.0.1:1",
    f"{ANN} member list -w simple",
    f"{ANN} defrag",
    f"{ANN} compaction 1",
    f"{ANN} txn",
    f"{ROOT} user delete root",
    f"{ROOT} role delete root",
    f"{ROOT} user revoke-role root root",
    f"{ROOT} role revoke-permission reader /drop",
    f"{ROOT} role revoke-permission reader /drop",
    f"{ANN} put /drop 1",
    f"{ROOT} user passwd ann --interactive=false",
    f"{ANN} get /pub/x",
    "--user ann:new get /pub/x",
    f"{ROOT} user revoke-role ann reader",
    f"{ROOT} user revoke-role ann reader",
    "--user ann:new get /pub/x",
    f"{ROOT} role delete reader",
    f"{ROOT} user delete ann",
    f"{ROOT} user delete ann",
    f"{ROOT} auth disable",
    "get /priv",
)
STDIN = {"txn": 'value("/priv") = "1"\n\nget /pub/x\n\nput /own/b 2\n\n', "passwd": "new\n"}


def test_etcdctl_administers_users_as_with_the_real_one(tmp_path: Path) -> None:
    with pair(tmp_path) as servers:
        for command in COMMANDS:
            stdin = next((text for word, text in STDIN.items() if word in command.split()), "")
            ours, theirs = (each.etcdctl(*command.split(), stdin=stdin) for each in servers)
            assert (ours[0], masked(ours[1])) == (theirs[0], masked(theirs[1])), command


def _ok(server: Member, *words: str) -> str:
    code, said = server.etcdctl(*words)
    assert code == 0, said
    return said


def _token(server: Member, name: str, password: str) -> dict[str, str]:
    answer = server.http("POST", "/v3/auth/authenticate", json.dumps({"name": name, "password": password}))
    return {"Authorization": json.loads(answer.body)["token"]}


def test_what_etcdctl_cannot_ask_is_refused_too(tmp_path: Path) -> None:
    with member(tmp_path / "m", [sys.executable, "-m", "kubette.etcd"]) as server:
        for command in ("user add root:r", "user grant-role root root", "user add ann:a", "role add own", "user grant-role ann own"):
            _ok(server, *command.split())
        _ok(server, "role", "grant-permission", "own", "readwrite", "own")
        lease = _ok(server, "lease", "grant", "100").split()[1]
        _ok(server, "put", "foreign", "x", "--lease", lease)
        _ok(server, "auth", "enable")
        ann = _token(server, "ann", "a")

        def asked(path: str, document: dict[str, object], headers: dict[str, str]) -> int:
            return server.http("POST", f"/v3/{path}", json.dumps(document), headers=headers).status

        own, foreign = "b3du", "Zm9yZWlnbg=="
        lease_id = str(int(lease, 16))
        inner = {"success": [{"request_txn": {"success": [{"request_put": {"key": foreign}}]}}]}
        assert asked("kv/put", {"key": own}, ann) == 200
        assert asked("kv/put", {"key": own}, {}) == 400
        assert asked("kv/put", {"key": own}, {"Authorization": "none.1"}) == 401
        assert asked("kv/txn", inner, ann) == 403  # inside a transaction inside a transaction
        assert asked("kv/txn", {"failure": [{"request_range": {"key": foreign}}]}, ann) == 403  # in the branch not taken
        assert asked("kv/put", {"key": own, "lease": lease_id}, ann) == 403  # the lease holds somebody else's key
        assert asked("lease/revoke", {"ID": lease_id}, ann) == 403
        assert asked("lease/timetolive", {"ID": lease_id, "keys": True}, ann) == 403
        assert asked("lease/timetolive", {"ID": lease_id}, ann) == 200
        assert asked("maintenance/hash", {}, ann) == 403
        assert asked("cluster/member/remove", {"ID": "5"}, ann) == 403
        assert asked("lock/lock", {"name": foreign}, ann) == 500  # as upstream: the lock's own client loses the code of the refusal
        assert asked("cluster/member/remove", {"ID": "5"}, _token(server, "root", "r")) == 404
        line = server.first_lines("/v3/watch", json.dumps({"create_request": {"key": foreign}}), 1)[0]
        assert "PermissionDenied" in json.loads(line)["result"]["cancel_reason"]
        status = json.loads(server.http("POST", "/v3/auth/status", "{}", headers=_token(server, "root", "r")).body)
        assert (status["enabled"], status["authRevision"]) == (True, "7")


def test_users_survive_restart_and_leases_expire_while_auth_is_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kubette.etcd"]
    with member(tmp_path / "m", command, "--snapshot-count=5") as server:
        for line in ("user add root:r", "user grant-role root root", "auth enable"):
            _ok(server, *line.split())
        for number in range(12):
            _ok(server, "--user", "root:r", "put", "k", str(number))
    with member(tmp_path / "m", command, "--snapshot-count=5") as server:
        assert server.etcdctl("get", "k")[0] != 0
        assert _ok(server, "--user", "root:r", "get", "k", "--print-value-only") == "11\n"
        lease = _ok(server, "--user", "root:r", "lease", "grant", "1").split()[1]
        _ok(server, "--user", "root:r", "put", "brief", "x", "--lease", lease)
        watch = json.dumps({"create_request": {"key": "YnJpZWY=", "filters": ["NOPUT"]}})
        lines = server.first_lines("/v3/watch", watch, 2, _token(server, "root", "r"))
        assert json.loads(lines[1])["result"]["events"][0]["type"] == "DELETE"


@pytest.mark.flag("auth-token")
def test_jwt_tokens_carry_user_and_revision(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 64)
    command = [sys.executable, "-m", "kubette.etcd"]
    with member(tmp_path / "m", command, f"--auth-token=jwt,sign-method=HS256,priv-key={tmp_path}/secret,ttl=1h") as server:
        for line in ("user add root:r", "user grant-role root root", "auth enable"):
            _ok(server, *line.split())
        assert _ok(server, "--user", "root:r", "put", "k", "v") == "OK\n"
        root = _token(server, "root", "r")
        assert root["Authorization"].count(".") == 2
        assert server.http("POST", "/v3/kv/put", '{"key":"b3du"}', headers=root).status == 200
        forged = {"Authorization": root["Authorization"][:-6] + "AAAAAA"}
        assert server.http("POST", "/v3/kv/put", '{"key":"b3du"}', headers=forged).status == 401
        _ok(server, "--user", "root:r", "role", "add", "later")
        stale = server.http("POST", "/v3/kv/put", '{"key":"b3du"}', headers=root)
        assert "revision of auth store is old" in stale.body
