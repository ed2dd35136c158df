"""Rows C01, C06-C09 and S01, S03-S05: kube-controller-manager and kube-scheduler. C02-C05 (lost nodes) are in test_lost_nodes.py, S02 in test_scheduling.py."""

import base64
import re
import time
from ipaddress import ip_network
from typing import Any

import pytest

from harness import control_plane
from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

LOOKS = "node_collector_update_all_nodes_health_duration_seconds_count"
STORAGE = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
MACHINES = {"controlplane", "node01", "node02"}


def container(image: str = "busybox", command: str = "sleep 100000") -> dict[str, Any]:
    return {"containers": [{"name": "main", "image": image, "command": ["sh", "-c", command]}], "terminationGracePeriodSeconds": 0}


def workload(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": container()}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def test_c06_the_controllers_of_one_process(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    """What each one does, all at the same time; then what they undo."""
    admin, name = cluster.kubectl, kubectl.namespace
    (manager,) = [
        line
        for line in cluster.typed("controlplane", "ps -ef").splitlines()
        if "/kube-controller-manager " in line or " kube-controller-manager " in line
    ]
    assert "--" in manager
    once = {"restartPolicy": "Never", **container(command="exit 0")}
    job = {"backoffLimit": 0, "template": {"spec": once}}
    kubectl.apply(
        workload("Deployment", "deployment", replicas=2),
        workload("ReplicaSet", "replicaset", replicas=2),
        workload("DaemonSet", "daemonset"),
        workload("StatefulSet", "statefulset", replicas=1, serviceName="statefulset"),  # the autoscaler makes it two
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": job},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job-with-ttl"}, "spec": {**job, "ttlSecondsAfterFinished": 0}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "service"},
            "spec": {"selector": {"app": "deployment"}, "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "budget"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "deployment"}}},
        },
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": {"configmaps": "20"}}},
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "autoscaler"},
            "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "statefulset"}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{name}-volume"},
            "spec": {**STORAGE, "capacity": {"storage": "1Gi"}, "hostPath": {"path": f"/tmp/{name}"}, "persistentVolumeReclaimPolicy": "Delete"},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "claim"},
            "spec": {**STORAGE, "resources": {"requests": {"storage": "1Gi"}}},
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}},
            "type": "kubernetes.io/service-account-token",
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"{name}-part", "labels": {f"{name}/part": "true"}},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"{name}-whole"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {f"{name}/part": "true"}}]},
            "rules": [],
        },
    )
    # CSR signing and approval: a client certificate for a person, approved by hand.
    request = cluster.typed(
        "node01", "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=ann 2>/dev/null"
    )
    kubectl.apply(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(request.encode()).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        }
    )
    kubectl("certificate", "approve", name)

    def path(template: str, *what: str) -> str:
        return kubectl.jsonpath(template, *what)

    for look, wanted in (
        (("{.status.readyReplicas}", "deployment", "deployment"), "2"),  # deployment, replicaset
        (("{.status.readyReplicas}", "replicaset", "replicaset"), "2"),
        (("{.status.numberReady}", "daemonset", "daemonset"), "2"),
        (("{.items[*].metadata.name}", "pods", "-l", "app=statefulset"), "statefulset-0 statefulset-1"),
        (("{.status.succeeded}", "job", "job"), "1"),
        (("{.subsets[0].ports[0].port}", "endpoints", "service"), "80"),
        (("{.items[0].endpoints[*].conditions.ready}", "endpointslices", "-l", "kubernetes.io/service-name=service"), "true true"),
        (("{.status.disruptionsAllowed}", "poddisruptionbudget", "budget"), "1"),
        (("{.status.used.configmaps}", "resourcequota", "quota"), "1"),  # kube-root-ca.crt, by the publisher of the root authority
        (("{.status.phase} {.spec.volumeName}", "persistentvolumeclaim", "claim"), f"Bound {name}-volume"),
        (("{.status.conditions[?(@.type=='ScalingActive')].reason}", "hpa", "autoscaler"), "FailedGetResourceMetric"),  # for want of a metrics server
        (("{.metadata.name}", "serviceaccount", "default"), "default"),
        (("{.rules[0].resources[0]}", "clusterrole", f"{name}-whole"), "pods"),
    ):
        eventually(lambda look=look: path(*look), lambda seen, wanted=wanted: seen == wanted, 40, " ".join(look))  # type: ignore[misc]
    eventually(lambda: path("{.data.token}", "secret", "robot-token"), what="a token for robot")
    eventually(lambda: path("{.status.certificate}", "csr", name), what="a signed certificate")
    eventually(lambda: kubectl.run("get", "job", "job-with-ttl").returncode, lambda code: code != 0, what="the finished job goes")
    networks = [ip_network(path("{.spec.podCIDR}", "node", machine)) for machine in MACHINES]  # node IPAM: for each its own part of the cluster's
    assert len(set(networks)) == len(MACHINES)
    assert all(each.prefixlen == 24 and each.subnet_of(ip_network("10.244.0.0/16")) for each in networks)
    # The garbage collector: what belongs to something that went, goes.
    kubectl("delete", "deployment", "deployment")
    kubectl.wait("delete", "pod", "-l", "app=deployment")
    assert path("{.items[*].metadata.name}", "replicasets", "-l", "app=deployment") == ""
    # The binder: a volume that is deleted with its claim.
    kubectl("delete", "pvc", "claim")
    kubectl.wait("delete", f"pv/{name}-volume")
    admin("delete", "clusterrole", f"{name}-part", f"{name}-whole")
    admin("delete", "csr", name)
    # The namespace controller empties a namespace that is deleted.
    admin("create", "namespace", f"{name}-2")
    admin("create", "configmap", "c", "-n", f"{name}-2")
    admin("delete", "namespace", f"{name}-2", "--timeout=30s")
    if style == "kubeadm":  # the bootstrap signer, and the cleaner of expired tokens
        token = cluster.typed("controlplane", "kubeadm token create").strip()
        key = f"jws-kubeconfig-{token.partition('.')[0]}"
        eventually(lambda: key in admin.json("get", "configmap", "cluster-info", "-n", "kube-public")["data"], what="cluster-info signed")
        secret = f"bootstrap-token-{token.partition('.')[0]}"
        admin("patch", "secret", secret, "-n", "kube-system", "-p", '{"stringData": {"expiration": "2020-01-01T00:00:00Z"}}')
        eventually(lambda: admin.run("get", "secret", secret, "-n", "kube-system").returncode, lambda code: code != 0, what="the token goes")


@pytest.mark.long
def test_c06_cron_jobs_and_pods_of_no_node(cluster: Cluster, kubectl: Kubectl) -> None:
    """What takes its time: the next minute, and the 40 s for which a node may be missing."""
    del cluster
    kubectl("create", "cronjob", "cronjob", "--image=busybox", "--schedule=*/1 * * * *", "--", "true")
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orphan"}, "spec": {"nodeName": "gone", **container()}})
    eventually(lambda: kubectl.jsonpath("{.items[*].metadata.name}", "jobs"), lambda seen: "cronjob-" in seen, 70, "the minute of the cron job")
    eventually(lambda: kubectl.run("get", "pod", "orphan").returncode, lambda code: code != 0, 90, "the orphan goes")


def test_c01_nodes_are_looked_at_every_five_seconds(style: str, cluster: Cluster) -> None:
    """The time between two looks, by the manager's own metric; a second more or less. From scratch it knows nobody but by certificate: there the flag is read."""
    if style == "systemd":
        assert "--node-monitor-period=5s" in control_plane.process(cluster, "kube-controller-manager")
        return
    admin = cluster.kubectl
    admin("create", "clusterrolebinding", "c01", "--clusterrole=system:monitoring", "--serviceaccount=default:default")
    try:
        token = admin("create", "token", "default").strip()
        line = f"curl -sk -H 'Authorization: Bearer {token}' https://127.0.0.1:10257/metrics | grep {LOOKS}"

        def looks() -> int:
            return int(float(cluster.typed("controlplane", line).split()[-1]))

        first = looks()
        eventually(looks, lambda count: count > first, 10)
        began = time.monotonic()
        eventually(looks, lambda count: count > first + 1, 10)
        assert 4 < time.monotonic() - began < 7
    finally:
        admin("delete", "clusterrolebinding", "c01")


def test_c08_c09_controllers_are_chosen_in_its_file(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    """Both views of the flag, the file and `ps`, agree before and after; a controller that is switched off does nothing."""
    component = "kube-controller-manager"
    text = cluster.typed("controlplane", f"cat {control_plane.file_of(style, component)}")
    options = re.findall(r"^ +(?:- )?(--[a-z-]+=[^$\n]*?)(?: \\)?$", text, re.MULTILINE)
    assert len(options) > 10
    line = control_plane.process(cluster, component)
    assert all(f" {option}" in line for option in options)
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=1")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    flags = "--controllers=*,-replicaset"  # the name it had before v1.28
    if style == "kubeadm":
        script = f"s/- --controllers=.*/- {flags}/; s/--leader-elect=true/--leader-elect=false/"
    else:
        script = f"s/--leader-elect=true/--leader-elect=false {flags}/"
    with control_plane.edited(cluster, style, component, script):
        assert flags in control_plane.process(cluster, component)
        kubectl("scale", "deployment", "web", "--replicas=3")
        # The deployment controller is at work (its replica set wants three), the one of replica sets is not.
        eventually(lambda: kubectl.jsonpath("{.items[0].spec.replicas}", "replicasets"), lambda count: count == "3")
        kubectl("create", "configmap", "a-moment")
        assert len(kubectl("get", "pods", "--no-headers").splitlines()) == 1
    assert flags not in control_plane.process(cluster, component)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    assert len(kubectl("get", "pods", "--no-headers").splitlines()) == 3


def test_s03_the_scheduler_reads_its_configuration(style: str, cluster: Cluster) -> None:
    if style == "systemd":
        unit = cluster.typed("controlplane", "systemctl cat kube-scheduler")
        assert "--config=/etc/kubernetes/config/kube-scheduler.yaml" in unit
        assert "--v=2" in unit
        assert "kind: KubeSchedulerConfiguration" in cluster.typed("controlplane", "cat /etc/kubernetes/config/kube-scheduler.yaml")
        assert cluster.typed("controlplane", "systemctl is-active kube-scheduler") == "active\n"
    else:
        assert "--kubeconfig=/etc/kubernetes/scheduler.conf" in cluster.typed("controlplane", "cat /etc/kubernetes/manifests/kube-scheduler.yaml")


def test_s04_without_its_file_pods_wait(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    with control_plane.stopped(cluster, style, "kube-scheduler"):
        kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
        kubectl.wait("create", "pod", "-l", "app=web")
        eventually(lambda: kubectl("get", "pods", "--no-headers").splitlines(), lambda lines: len(lines) == 2)
        assert {line.split()[2] for line in kubectl("get", "pods", "--no-headers").splitlines()} == {"Pending"}
    kubectl("rollout", "status", "deployment/web", "--timeout=40s")


@pytest.mark.parametrize(
    ("component", "machines"),
    [
        *((name, {"controlplane"}) for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")),
        ("kubelet", MACHINES),
        ("kube-proxy", MACHINES),
    ],
)
def test_s05_ps_shows_each_with_its_flags(component: str, machines: set[str], cluster: Cluster) -> None:
    lines = {machine: control_plane.process(cluster, component, machine) for machine in MACHINES}
    assert {machine for machine, line in lines.items() if line} == machines
    assert all(" --" in lines[machine] for machine in machines)
