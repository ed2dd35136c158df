"""The story of a pod from its records: what is told, in which order, and what is said when records are missing."""

from typing import Any

import pytest

from kubette.cli.trace import story
from kubette.cli.trace.story import MissingRecords, Records, Write

Object = dict[str, Any]
BEGIN = 1_764_270_000  # 2025-11-27T19:00:00Z
PREFIX = "apiserver.latency.k8s.io/"
KEY = "/registry/pods/default/web"


def stamp(ms: float) -> str:
    return f"2025-11-27T19:00:{int(ms // 1000):02}.{int(ms % 1000 * 1000):06}Z"


def audit(
    verb: str, resource: str, name: str, user: str, at_ms: float, code: int = 200, subresource: str = "", until_ms: float = 0, **more: Any
) -> Object:
    about = {"resource": resource, "namespace": "default", "name": name, "apiVersion": "v1", **({"subresource": subresource} if subresource else {})}
    return {
        "stage": "ResponseComplete",
        "auditID": f"id-{at_ms}",
        "requestURI": f"/api/v1/namespaces/default/{resource}",
        "verb": verb,
        "user": {"username": user, "groups": ["crew"]},
        "objectRef": about,
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": stamp(at_ms),
        "stageTimestamp": stamp(until_ms or at_ms + 4),
        **more,
    }


def event(reason: str, at_ms: float, message: str = "", component: str = "kubelet") -> Object:
    return {
        "metadata": {"name": f"web.{int((BEGIN + at_ms / 1000) * 1e9):x}", "creationTimestamp": stamp(at_ms)[:19] + "Z"},
        "involvedObject": {"uid": "u1"},
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "firstTimestamp": stamp(at_ms)[:19] + "Z",
    }


def pod(version: str = "15", node: str = "node01", **status: Any) -> Object:
    spec = {"serviceAccountName": "default", "priority": 0, **({"nodeName": node} if node else {})}
    metadata = {"name": "web", "namespace": "default", "uid": "u1", "resourceVersion": version, "creationTimestamp": "2025-11-27T19:00:00Z"}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running", "podIP": "10.244.1.2", **status}}


def value(node: str = "", running: bool = False, ready: bool = False, uid: str = "u1") -> Object:
    found = pod(node=node)
    found["metadata"]["uid"] = uid
    if running:
        found["status"]["containerStatuses"] = [{"state": {"running": {}}}]
    if ready:
        found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return found


CREATE = audit(
    "create",
    "pods",
    "web",
    "ann",
    0,
    201,
    until_ms=8,
    sourceIPs=["10.0.0.1"],
    userAgent="kubectl/v1.37.1 (linux/amd64)",
    annotations={
        "authorization.k8s.io/decision": "allow",
        "authorization.k8s.io/reason": 'RBAC: allowed by ClusterRoleBinding "a" of ClusterRole "b" to User "ann"',
        f"{PREFIX}authentication": "1ms",
        f"{PREFIX}authorization": "500µs",
        f"{PREFIX}etcd": "5ms",
    },
)
WATCH = {**audit("watch", "pods", "", "system:kube-scheduler", -0.0), "stage": "ResponseStarted"}
BIND = audit("create", "pods", "web", "system:kube-scheduler", 10, 201, "binding")
EARLY_REPORT = audit("patch", "pods", "web", "system:node:node01", 30, subresource="status")
REPORT = audit("patch", "pods", "web", "system:node:node01", 95, subresource="status")
EVENTS = (
    event("Pulling", 40),
    event("Pulled", 50),
    event("Created", 60),
    event("Started", 90),
    event("Scheduled", 12, component="default-scheduler"),
)
WRITES = (
    Write(5, 2, KEY, 0, value(uid="an older pod of that name")),
    Write(20, 2, KEY, 0, value()),
    Write(22, 2, KEY, 11, value("node01")),
    Write(23, 2, KEY, 11, value("node01")),  # somebody was slower: nothing became of it
    Write(25, 2, KEY, 12, value("node01")),
    Write(29, 2, KEY, 13, value("node01", running=True, ready=True)),
)


def told(**changes: Any) -> list[story.Step]:
    given: dict[str, Any] = {"pod": pod(), "events": EVENTS, "audit": (CREATE, WATCH, BIND, EARLY_REPORT, REPORT), "writes": WRITES, **changes}
    return story.tell(Records(**given))


def test_the_whole_picture_in_order_with_times() -> None:
    steps = told()
    assert [(step.name, round((step.time - BEGIN) * 1000, 3)) for step in steps] == [
        ("asked for", 0),
        ("authenticated", 1),
        ("authorized", 1.5),
        ("admitted", 3),
        ("written", 8),
        ("noticed by the scheduler", 10),
        ("bound", 14),
        ("noticed by the kubelet", 30),
        ("pulling", 40),
        ("pulled", 50),
        ("created", 60),
        ("started", 90),
        ("reported", 99),
    ]
    what = {step.name: step.what for step in steps}
    assert what["asked for"] == "POST /api/v1/namespaces/default/pods by kubectl/v1.37.1 from 10.0.0.1"
    assert what["authorized"] == 'allow: RBAC: allowed by ClusterRoleBinding "a" of ClusterRole "b" to User "ann"'
    assert what["admitted"] == "ServiceAccount: default; Priority: 0"
    assert what["written"] == f"{KEY}: index 20, revision 11"
    assert what["noticed by the scheduler"] == "by its watch of pods, open since 2025-11-27T19:00:00Z; asks to bind it"
    assert what["bound"] == "to node01: index 22, revision 12"
    assert what["reported"] == "phase Running, address 10.244.1.2: index 29, revision 15"


def test_only_the_first_write_that_names_a_revision_took_place() -> None:
    assert [(one.index, one.revision) for one in story.took_place(WRITES, pod())] == [(20, 11), (22, 12), (25, 13), (29, 15)]


def test_an_effect_is_not_before_its_cause() -> None:
    """The scheduler may ask to bind before the API server has finished answering who made the pod."""
    steps = {step.name: step.time for step in told(audit=({**CREATE, "stageTimestamp": stamp(20)}, BIND, REPORT))}
    assert steps["admitted"] <= steps["written"] <= steps["noticed by the scheduler"]


def test_without_etcds_log_the_places_are_not_known() -> None:
    what = {step.name: step.what for step in told(writes=())}
    assert what["written"] == f"{KEY}: etcd's log has let go of it"


def test_a_pod_that_has_no_node_yet_ends_its_story_there() -> None:
    waiting = event("FailedScheduling", 15, "0/2 nodes are available: 2 Insufficient cpu.", "default-scheduler")
    steps = told(pod=pod(node=""), audit=(CREATE,), events=(waiting,), writes=WRITES[1:2])
    assert [step.name for step in steps][-2:] == ["written", "not scheduled"]
    assert steps[-1].what == "0/2 nodes are available: 2 Insufficient cpu."


def test_trouble_on_the_node_is_told_in_the_kubelets_words() -> None:
    steps = told(events=(event("Pulling", 40), event("Failed", 45, "Error: ErrImagePull")), audit=(CREATE, BIND, EARLY_REPORT))
    assert [(step.name, step.what) for step in steps][-1] == ("Failed", "Error: ErrImagePull")


def test_a_pod_whose_author_named_the_node_is_not_scheduled() -> None:
    writes = (Write(20, 2, KEY, 0, value("node01")),)
    assert not {"noticed by the scheduler", "bound"} & {step.name for step in told(writes=writes, audit=(CREATE, REPORT))}


def test_an_owner_comes_first() -> None:
    owner = {"kind": "ReplicaSet", "metadata": {"name": "web-1", "namespace": "default", "uid": "r1", "resourceVersion": "9"}}
    made = audit("create", "replicasets", "web-1", "system:serviceaccount:kube-system:deployment-controller", 0, 201, until_ms=5)
    write = Write(18, 2, "/registry/replicasets/default/web-1", 0, owner)
    first = told(owners=(owner,), audit=({**CREATE, "requestReceivedTimestamp": stamp(2)}, made), writes=(*WRITES, write))[0]
    assert (first.name, first.what) == ("replicaset written", "replicaset/web-1: index 18, revision 9")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"audit_trouble": "the API server on controlplane runs without --audit-policy-file"}, "runs without --audit-policy-file"),
        ({}, "the audit log is empty"),
        ({"begins": BEGIN + 100.0}, "it was created at 2025-11-27T19:00:00Z, and the audit log begins at 2025-11-27T19:01:40Z"),
        ({"begins": BEGIN - 100.0}, "the audit policy does not record such requests"),
    ],
)
def test_missing_records_are_named_with_the_reason(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(MissingRecords) as missing:
        told(audit=(BIND,), **changes)
    assert str(missing.value).startswith("no audit record of the creation of pod/web in namespace default: ")
    assert why in str(missing.value)


def test_a_refused_or_a_rehearsed_creation_is_none() -> None:
    refused = {**CREATE, "responseStatus": {"metadata": {}, "code": 403}}
    rehearsed = {**CREATE, "requestURI": "/api/v1/namespaces/default/pods?dryRun=All"}
    with pytest.raises(MissingRecords):
        told(audit=(refused, rehearsed))


def test_the_table_counts_from_the_request() -> None:
    lines = story.render(pod(), told()).splitlines()
    assert lines[0] == "pod/web in namespace default, 2025-11-27 (UTC)"
    assert lines[2].split() == ["TIME", "MS", "STEP", "BY", "WHAT"]
    assert lines[3].startswith("19:00:00.000000    +0.0   asked for ")
    assert lines[-1].startswith("19:00:00.099000   +99.0   reported ")
