"""The audit log of kube-apiserver, seen by the real kubectl: what was asked, by whom, by which right, and what was answered."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import _create_unverified_context as unverified
from typing import Any

import pytest

from harness import apiserver, judges
from harness.eventually import eventually
from harness.kubectl import Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "kubectl", "openssl")]

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
  - level: None
    users: ["system:apiserver"]
  - level: None
    nonResourceURLs: ["/api*", "/openapi*", "/version"]
  - level: RequestResponse
    omitStages: [RequestReceived]
    resources: [{group: "", resources: ["configmaps"]}]
  - level: Metadata
    resources: [{group: "", resources: ["secrets"]}]
  - level: Request
    omitStages: [RequestReceived]
    resources: [{group: "apps", resources: ["deployments", "deployments/scale"]}]
  - level: Metadata
    userGroups: ["system:unauthenticated"]
  - level: Metadata
    omitStages: [RequestReceived]
    resources: [{group: "", resources: ["pods", "pods/*"]}, {group: rbac.authorization.k8s.io}]
"""


class Audited:
    """A server and its log."""

    def __init__(self, server: apiserver.Server, log: Path) -> None:
        self.server, self.log = server, log
        program = judges.find("kubectl")
        assert program is not None
        self.kubectl = Kubectl(program, server.kubeconfig)
        self.user = [f"--server={server.url}", "--insecure-skip-tls-verify", "--token=usertoken", "--kubeconfig=/dev/null"]

    def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """Those whose fields (a dot is written `__`) are as wanted."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [event for event in found if all(at(event, key) == value for key, value in wanted.items())]

    def event(self, **wanted: Any) -> dict[str, Any]:
        (found,) = eventually(lambda: self.events(**wanted), what=f"one event with {wanted}")
        return found


def at(event: dict[str, Any], path: str) -> Any:
    found: Any = event
    for name in path.split("__"):
        found = (found or {}).get(name)
    return found


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    directory = tmp_path_factory.mktemp("audit")
    (directory / "policy.yaml").write_text(POLICY)
    log = directory / "log" / "audit.log"
    with apiserver.running(directory, [f"--audit-policy-file={directory / 'policy.yaml'}", f"--audit-log-path={log}"]) as server:
        yield Audited(server, log)


def test_request_response_records_what_was_sent_and_answered(audited: Audited) -> None:
    audited.kubectl("create", "configmap", "colours", "--from-literal=sky=blue")
    event = audited.event(verb="create", objectRef__name="colours")
    assert (event["kind"], event["apiVersion"], event["level"], event["stage"]) == ("Event", "audit.k8s.io/v1", "RequestResponse", "ResponseComplete")
    assert event["user"]["username"] == "admin"
    assert set(event["user"]["groups"]) == {"system:masters", "system:authenticated"}
    assert event["sourceIPs"] == ["127.0.0.1"]
    assert event["userAgent"].startswith("kubectl")
    assert event["requestURI"].startswith("/api/v1/namespaces/default/configmaps?fieldManager=kubectl-create")
    assert event["objectRef"] == {"resource": "configmaps", "namespace": "default", "name": "colours", "apiVersion": "v1"}
    assert event["responseStatus"] == {"metadata": {}, "code": 201}
    assert event["requestObject"]["data"] == {"sky": "blue"}
    assert "uid" not in event["requestObject"]["metadata"]
    answered = event["responseObject"]
    assert answered["metadata"]["uid"] == audited.kubectl.jsonpath("{.metadata.uid}", "configmap", "colours")
    assert "managedFields" not in answered["metadata"]
    assert event["requestReceivedTimestamp"] <= event["stageTimestamp"]
    assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert event["annotations"]["authorization.k8s.io/reason"] == ""
    assert {f"apiserver.latency.k8s.io/{part}" for part in ("authentication", "authorization", "admission", "etcd")} <= set(event["annotations"])
    listed = audited.kubectl.run("get", "configmaps", "-v=8")
    assert listed.returncode == 0
    table = next(e["responseObject"] for e in audited.events(verb="list", objectRef__resource="configmaps") if e["responseObject"]["kind"] == "Table")
    assert all("managedFields" not in row["object"]["metadata"] for row in table["rows"])


def test_metadata_never_shows_a_secret_and_has_every_stage(audited: Audited) -> None:
    audited.kubectl("create", "secret", "generic", "password", "--from-literal=word=hunter2")
    audited.kubectl("get", "secret", "password")
    received, complete = eventually(lambda: audited.events(verb="create", objectRef__resource="secrets"), lambda seen: len(seen) == 2)
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert received["auditID"] == complete["auditID"]
    assert received["stageTimestamp"] == received["requestReceivedTimestamp"] == complete["requestReceivedTimestamp"]
    assert "responseStatus" not in received
    assert complete["objectRef"]["name"] == "password"
    assert "requestObject" not in complete
    assert "hunter2" not in audited.log.read_text()
    assert "aHVudGVyMg" not in audited.log.read_text()


def test_a_patch_is_recorded_as_it_came(audited: Audited) -> None:
    audited.kubectl("create", "deployment", "web", "--image=nginx")
    audited.kubectl("scale", "deployment", "web", "--replicas=3")
    audited.kubectl("patch", "deployment", "web", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    config = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 2}}
    audited.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(config))
    patches = eventually(lambda: audited.events(verb="patch", objectRef__name="web", objectRef__resource="deployments"), lambda seen: len(seen) == 3)
    assert [p["objectRef"].get("subresource") for p in patches] == ["scale", None, None]
    sent = [p["requestObject"] for p in patches]
    assert sent == [{"spec": {"replicas": 3}}, {"metadata": {"labels": {"a": "b"}}}, config]
    assert all("responseObject" not in p for p in patches)


def test_the_reason_of_a_right_and_of_its_absence(audited: Audited) -> None:
    audited.kubectl("create", "clusterrole", "reader", "--verb=get,list", "--resource=pods")
    audited.kubectl("create", "clusterrolebinding", "readers", "--clusterrole=reader", "--user=user")
    eventually(lambda: audited.kubectl.run("get", "pods", *audited.user).returncode, lambda code: code == 0)
    event = eventually(lambda: audited.events(verb="list", objectRef__resource="pods", user__username="user"))[-1]
    assert event["annotations"]["authorization.k8s.io/decision"] == "allow"
    reason = 'RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to User "user"'
    assert event["annotations"]["authorization.k8s.io/reason"] == reason
    refused = audited.kubectl.refused("delete", "pod", "web", *audited.user)
    assert "Forbidden" in refused
    event = audited.event(verb="delete", objectRef__resource="pods", user__username="user")
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert event["responseStatus"]["reason"] == "Forbidden"
    assert event["responseStatus"]["code"] == 403
    assert 'User "user" cannot delete resource "pods"' in event["responseStatus"]["message"]


def test_impersonation_names_both(audited: Audited) -> None:
    audited.kubectl.run("get", "pods", "--as=bob", "--as-group=crew")
    event = audited.event(verb="list", objectRef__resource="pods", impersonatedUser__username="bob")
    assert event["user"]["username"] == "admin"
    assert event["impersonatedUser"]["groups"] == ["crew", "system:authenticated"]


def test_a_watch_is_recorded_when_it_starts_and_when_it_ends(audited: Audited) -> None:
    with audited.kubectl.follow("get", "pods", "-w") as lines:
        del lines
        started = audited.event(verb="watch", objectRef__resource="pods", stage="ResponseStarted")
        assert started["responseStatus"]["code"] == 200
        assert not audited.events(verb="watch", stage="ResponseComplete", auditID=started["auditID"])
    audited.event(verb="watch", stage="ResponseComplete", auditID=started["auditID"])


def test_whoever_is_not_known_is_recorded_with_what_was_tried(audited: Audited) -> None:
    request = urllib.request.Request(audited.server.url + "/api/v1/pods", headers={"Authorization": "Bearer wrong", "Audit-ID": "my-own-id"})
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request, context=unverified(), timeout=10)
    assert answer.value.code == 401
    assert answer.value.headers["Audit-ID"] == "my-own-id"
    event = audited.event(auditID="my-own-id")
    assert (event["stage"], event["user"]) == ("ResponseStarted", {})
    assert event["responseStatus"] == {"metadata": {}, "message": "Authentication failed, attempted: bearer", "code": 401}


def test_the_metrics_count_events_and_levels(audited: Audited) -> None:
    lines = audited.kubectl("get", "--raw", "/metrics").splitlines()
    values = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("apiserver_audit_"))}
    assert values["apiserver_audit_event_total"] >= len(audited.log.read_text().splitlines())
    assert values['apiserver_audit_level_total{level="None"}'] > 0
    assert values['apiserver_audit_level_total{level="RequestResponse"}'] > 0
    assert values["apiserver_audit_requests_rejected_total"] == 0


@pytest.mark.parametrize(
    ("flags", "policy", "complaint"),
    [
        (
            [],
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Much}]",
            'loading audit policy file: rules[0].level: Unsupported value: \\"Much\\"',
        ),
        ([], "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "loaded illegal policy with 0 rules: from file "),
        ([], None, "loading audit policy file: failed to read file path"),
        (
            ["--audit-log-path=-", "--audit-log-mode=soon"],
            POLICY,
            'invalid audit log mode soon, allowed modes are \\"batch,blocking,blocking-strict\\"',
        ),
        (["--audit-log-path=-", "--audit-log-maxage=-1"], POLICY, "--audit-log-maxage -1 can't be a negative number"),
    ],
)
def test_a_server_with_a_wrong_policy_does_not_start(tmp_path: Path, flags: list[str], policy: str | None, complaint: str) -> None:
    if policy is not None:
        (tmp_path / "policy.yaml").write_text(policy)
    server = apiserver.start(tmp_path, "http://127.0.0.1:1", [f"--audit-policy-file={tmp_path / 'policy.yaml'}", *flags])
    try:
        assert server.process.wait(20) == 1
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise
    assert complaint in server.log()
    assert "Traceback" not in server.log()
