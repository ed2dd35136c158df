"""What one does with kubectl all day, on a cluster of three machines."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl


def pod(name: str, image: str = "busybox", command: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, **({"command": command} if command else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container], **spec}}


def deployed(kubectl: Kubectl, replicas: int = 3) -> list[dict[str, Any]]:
    """The deployment `web`, rolled out; its pods."""
    assert kubectl("create", "deployment", "web", "--image=nginx", f"--replicas={replicas}") == "deployment.apps/web created\n"
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    return list(kubectl.json("get", "pods", "-l", "app=web")["items"])


def test_a_deployment_runs_on_both_workers_each_pod_with_its_own_address(kubectl: Kubectl) -> None:
    pods = deployed(kubectl)
    assert {p["spec"]["nodeName"] for p in pods} == {"node01", "node02"}
    addresses = {p["status"]["podIP"] for p in pods}
    assert len(addresses) == 3
    assert all(re.fullmatch(r"10\.244\.[12]\.\d+", address) for address in addresses)
    wide = kubectl("get", "pods", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert all(line.split()[1:4] == ["1/1", "Running", "0"] for line in wide[1:])
    for one in pods:
        conditions = {c["type"]: c for c in one["status"]["conditions"]}
        assert conditions["Ready"]["status"] == "True"
        assert "reason" not in conditions["Ready"]


def test_scale_rollout_undo_and_delete(kubectl: Kubectl) -> None:
    deployed(kubectl, replicas=2)
    kubectl("scale", "deployment/web", "--replicas=4")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert kubectl.jsonpath("{.status.readyReplicas}", "deployment", "web") == "4"
    kubectl("set", "image", "deployment/web", "nginx=nginx:1.27")
    assert 'deployment "web" successfully rolled out' in kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert kubectl("rollout", "history", "deployment/web").count("<none>") == 2
    assert kubectl("rollout", "undo", "deployment/web") == "deployment.apps/web rolled back\n"
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert kubectl.jsonpath("{.spec.template.spec.containers[0].image}", "deployment", "web") == "nginx"
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "deployment", "web")
    kubectl.wait("delete", "pod", "-l", "app=web")
    assert kubectl.json("get", "replicasets,pods")["items"] == []


def test_apply_creates_configures_and_leaves_alone(kubectl: Kubectl) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "colours"}, "data": {"sky": "blue", "grass": "green"}}
    assert kubectl.apply(config) == "configmap/colours created\n"
    assert kubectl.apply(config) == "configmap/colours unchanged\n"
    assert kubectl.apply({**config, "data": {"sky": "grey"}}) == "configmap/colours configured\n"
    assert kubectl.json("get", "configmap", "colours")["data"] == {"sky": "grey"}
    assert kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(config)) == "configmap/colours serverside-applied\n"
    assert kubectl.json("get", "configmap", "colours")["data"] == {"sky": "blue", "grass": "green"}
    assert "unknown field" in kubectl.refused("apply", "-f", "-", stdin=json.dumps({**config, "dta": {}}))
    assert "-  sky: blue" in kubectl.run("diff", "-f", "-", stdin=json.dumps({**config, "data": {"sky": "red", "grass": "green"}})).stdout


def test_apply_of_a_list_is_validated_by_the_servers_schemas(kubectl: Kubectl) -> None:
    """kubectl validates a List itself, by /openapi/v2 as protocol buffers."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "listed"}, "data": {"a": "b"}}
    items = [config, pod("listed", command=["sleep", "1000"])]
    assert kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})).splitlines() == [
        "configmap/listed created",
        "pod/listed created",
    ]
    wrong = {"apiVersion": "v1", "kind": "List", "items": [{**config, "dta": {}}]}
    assert 'unknown field "dta"' in kubectl.refused("apply", "-f", "-", stdin=json.dumps(wrong))


def test_every_form_of_output(kubectl: Kubectl) -> None:
    kubectl.apply(pod("one", command=["sleep", "1000"]))
    kubectl.wait("condition=Ready", "pod/one")
    as_json = kubectl.json("get", "pod", "one")
    assert (as_json["kind"], as_json["metadata"]["name"]) == ("Pod", "one")
    as_yaml = kubectl("get", "pod", "one", "-o", "yaml")
    assert as_yaml.startswith("apiVersion: v1\nkind: Pod\nmetadata:\n")
    assert "managedFields" not in as_yaml
    assert kubectl.jsonpath("{.status.podIP}", "pod", "one") == as_json["status"]["podIP"]
    assert kubectl("get", "pods", "-o", "name") == "pod/one\n"
    assert kubectl("get", "pod", "one", "-o", "custom-columns=N:.metadata.name,P:.status.phase").split() == ["N", "P", "one", "Running"]
    assert kubectl("get", "pods", "-l", "app=one", "--field-selector=status.phase=Running", "--no-headers").split()[0] == "one"
    assert kubectl("get", "pods", "--show-labels").splitlines()[1].endswith("app=one")
    assert "NotFound" in kubectl.refused("get", "pod", "two")
    with_raw = json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods"))
    assert [p["metadata"]["name"] for p in with_raw["items"]] == ["one"]


def test_get_watch_shows_each_change(kubectl: Kubectl) -> None:
    with kubectl.follow("get", "pods", "-w") as lines:
        kubectl.apply(pod("watched", command=["sleep", "1000"]))
        for state in ("Pending", "ContainerCreating", "Running"):
            assert lines.until(state).split()[0] == "watched"
        kubectl("delete", "pod", "watched", "--grace-period=1", "--wait=false")
        lines.until("Terminating")


def test_describe_tells_the_story_of_a_pod(kubectl: Kubectl) -> None:
    kubectl.apply(pod("told", command=["sleep", "1000"]))
    kubectl.wait("condition=Ready", "pod/told")
    story = eventually(lambda: kubectl("describe", "pod", "told"), lambda text: "Container started" in text)
    for words in ("Successfully assigned", 'Pulled image "busybox"', "Created", "Container created", "Started", "QoS Class:", "BestEffort"):
        assert words.lower() in story.lower()
    described = kubectl("describe", "node", "node01")
    for words in ("Ready", "KubeletReady", "PodCIDR:", "10.244.", "Kubelet Version:", "v1.37.1", "Non-terminated Pods:"):
        assert words in described


def test_logs_and_logs_follow(kubectl: Kubectl) -> None:
    kubectl.apply(pod("counter", command=["sh", "-c", "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; sleep 0.1; done"]))
    kubectl.wait("condition=Ready", "pod/counter")
    with kubectl.follow("logs", "-f", "counter") as lines:
        assert lines.until("line 1") == "line 1"
        lines.until("line 8")
    assert kubectl("logs", "counter", "--tail=2").count("line") == 2
    assert re.match(r"\d{4}-\d\d-\d\dT.*Z line 1\n", kubectl("logs", "counter", "--timestamps"))
    kubectl.apply(pod("dies", command=["sh", "-c", "echo last words; exit 3"]))
    kubectl.wait("jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/dies")
    # Between two failures the status may still name the attempt that has just been tidied away.
    eventually(lambda: kubectl("logs", "dies", "--previous"), lambda text: text == "last words\n")
    state = kubectl.json("get", "pod", "dies")["status"]["containerStatuses"][0]
    assert {**state["state"], **state["lastState"]}["terminated"]["exitCode"] == 3


def test_exec_with_input_and_exit_code(kubectl: Kubectl) -> None:
    kubectl.apply(pod("target", command=["sleep", "1000"]))
    kubectl.wait("condition=Ready", "pod/target")
    assert kubectl("exec", "target", "--", "hostname") == "target\n"
    assert kubectl("exec", "-i", "target", "--", "cat", stdin="through and back\n") == "through and back\n"
    assert kubectl.run("exec", "target", "--", "sh", "-c", "exit 7").returncode == 7
    code, shown = kubectl.on_terminal(["exec", "-it", "target", "--", "sh"], "tty; echo $((6*7))\nexit 3\n")
    assert code == 3
    assert "/dev/pts/" in shown
    assert "42" in shown


def test_exec_and_logs_by_an_older_kubectl(kubectl: Kubectl, cluster: Cluster) -> None:
    older = "/usr/bin/kubectl"
    if not Path(older).exists():
        pytest.skip("no other kubectl on this machine")
    kubectl.apply(pod("target", command=["sh", "-c", "echo here; exec sleep 1000"]))
    other = kubectl.with_program(older)
    other.wait("condition=Ready", "pod/target")
    assert other("exec", "-i", "target", "--", "cat", stdin="old\n") == "old\n"
    assert other("logs", "target") == "here\n"
    assert other("get", "pods").splitlines()[1].split()[:3] == ["target", "1/1", "Running"]


def test_port_forward(kubectl: Kubectl) -> None:
    web = pod("web", image="nginx")
    web["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}
    kubectl.apply(web)
    kubectl.wait("condition=Ready", "pod/web")
    with kubectl.follow("port-forward", "pod/web", ":80") as lines:
        port = re.search(r"127\.0\.0\.1:(\d+) -> 80", lines.until("Forwarding from 127.0.0.1"))
        assert port
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=10) as answer:
                assert b"Welcome to nginx!" in answer.read()


def test_cp_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.apply(pod("box", command=["sleep", "1000"]))
    kubectl.wait("condition=Ready", "pod/box")
    (tmp_path / "there").write_bytes(bytes(range(256)) * 1000)
    kubectl("cp", str(tmp_path / "there"), "box:/tmp/there")
    kubectl("cp", "box:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


def test_explain_events_and_discovery(kubectl: Kubectl) -> None:
    assert "FIELDS:" in kubectl("explain", "pod.spec.containers.livenessProbe")
    assert {"pods", "deployments.apps", "jobs.batch"} <= set(kubectl("api-resources", "-o", "name").split())
    assert "apps/v1" in kubectl("api-versions").split()
    kubectl.apply(pod("seen", command=["sleep", "1000"]))
    kubectl.wait("condition=Ready", "pod/seen")
    eventually(lambda: kubectl("events", "--for", "pod/seen"), lambda text: "Started" in text)
    assert "Server Version: v1.37.1" in kubectl("version")


def test_configuration_reaches_the_container(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=red")
    kubectl("create", "secret", "generic", "keys", "--from-literal=key=s3cret")
    reader = pod("reader", command=["sleep", "1000"])
    reader["spec"]["containers"][0] |= {
        "env": [
            {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "volumeMounts": [{"name": "keys", "mountPath": "/keys"}, {"name": "shared", "mountPath": "/shared"}],
    }
    reader["spec"]["initContainers"] = [
        {
            "name": "before",
            "image": "busybox",
            "command": ["sh", "-c", "echo made > /shared/file"],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        }
    ]
    reader["spec"]["volumes"] = [{"name": "keys", "secret": {"secretName": "keys"}}, {"name": "shared", "emptyDir": {}}]
    kubectl.apply(reader)
    kubectl.wait("condition=Ready", "pod/reader")
    node = kubectl.jsonpath("{.spec.nodeName}", "pod", "reader")
    assert kubectl.exec("reader", "echo $COLOUR $NODE; cat /keys/key; echo; cat /shared/file").split() == ["red", node, "s3cret", "made"]
    token = kubectl.exec("reader", "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace")
    assert token == kubectl.namespace


def test_what_is_wrong_with_a_pod_is_said(kubectl: Kubectl) -> None:
    kubectl.apply(pod("no-image", image="registry.example/nothing:1"))
    kubectl.apply(pod("no-program", command=["/no/such/program"]))
    missing = pod("no-config", command=["sleep", "1"])
    missing["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "absent"}}]
    kubectl.apply(missing)
    too_big = pod("too-big", command=["sleep", "1"])
    too_big["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    kubectl.apply(too_big)

    def reason(name: str) -> str:
        return kubectl.jsonpath("{.status.containerStatuses[0].state.waiting.reason}", "pod", name)

    def events(name: str) -> str:
        return kubectl("get", "events", "--field-selector", f"involvedObject.name={name}")

    eventually(lambda: reason("no-image"), lambda seen: seen in ("ErrImagePull", "ImagePullBackOff"))
    eventually(lambda: events("no-image"), lambda text: "Failed to pull image" in text)
    eventually(lambda: reason("no-program"), lambda seen: seen in ("RunContainerError", "CreateContainerError", "CrashLoopBackOff"))
    eventually(lambda: events("no-program"), lambda text: "Failed" in text and "Error: " in text and "no such file or directory" in text)
    eventually(lambda: reason("no-config"), lambda seen: seen == "CreateContainerConfigError")
    eventually(lambda: events("no-config"), lambda text: 'Error: configmap "absent" not found' in text)
    unschedulable = eventually(lambda: events("too-big"), lambda text: "FailedScheduling" in text)
    assert "0/3 nodes are available" in unschedulable
    assert "Insufficient cpu" in unschedulable


def test_probes_restart_what_does_not_live_and_hide_what_is_not_ready(kubectl: Kubectl) -> None:
    sick = pod("sick", command=["sh", "-c", "touch /tmp/alive; sleep 1000"])
    sick["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    sick["spec"]["terminationGracePeriodSeconds"] = 1
    kubectl.apply(sick)
    kubectl.wait("condition=Ready", "pod/sick")
    kubectl.exec("sick", "rm /tmp/alive")
    kubectl.wait("jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/sick")
    eventually(lambda: kubectl("get", "events"), lambda text: "Liveness probe failed" in text)


def test_a_job_completes_and_a_daemon_set_is_everywhere(kubectl: Kubectl) -> None:
    kubectl("create", "job", "sum", "--image=busybox", "--", "sh", "-c", "echo $((40+2))")
    kubectl.wait("condition=complete", "job/sum")
    assert kubectl("logs", "job/sum") == "42\n"
    assert kubectl.jsonpath("{.status.succeeded}", "job", "sum") == "1"
    template = pod("everywhere", command=["sleep", "1000"])
    daemons = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "everywhere"},
        "spec": {
            "selector": {"matchLabels": {"app": "everywhere"}},
            "template": {
                "metadata": template["metadata"],
                "spec": {**template["spec"], "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 1},
            },
        },
    }
    kubectl.apply(daemons)
    kubectl("rollout", "status", "daemonset/everywhere", "--timeout=60s")
    assert len({p["spec"]["nodeName"] for p in kubectl.json("get", "pods", "-l", "app=everywhere")["items"]}) == 3


def test_a_namespace_takes_all_that_is_in_it_along(cluster: Cluster) -> None:
    admin = cluster.kubectl
    admin("create", "namespace", "short-lived")
    inside = admin.in_namespace("short-lived")
    inside("create", "deployment", "web", "--image=nginx", "--replicas=2")
    inside("create", "configmap", "c", "--from-literal=a=b")
    inside("rollout", "status", "deployment/web", "--timeout=60s")
    admin("delete", "namespace", "short-lived", timeout_s=90)
    assert "NotFound" in admin.refused("get", "namespace", "short-lived")
