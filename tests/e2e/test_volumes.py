"""Volumes that outlive pods: claims, local volumes, and pods that go where their data is."""

from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

Object = dict[str, Any]


def local_volume(name: str, node: str, storage_class: str) -> Object:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": storage_class,
        "local": {"path": "/srv/data"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def claim(name: str, storage_class: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": storage_class}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def storage_class(kubectl: Kubectl) -> Any:
    """One whose volumes are local, and chosen when the pod is."""
    name = kubectl.namespace
    kubectl.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    yield name
    kubectl("delete", "storageclass", name)
    kubectl("delete", "persistentvolumes", "-l", f"test={name}", "--wait=false")


def test_a_pod_goes_where_its_data_is_and_finds_it_again(cluster: Cluster, kubectl: Kubectl, storage_class: str) -> None:
    cluster.on("node02", "mkdir", "-p", "/srv/data")
    volume = local_volume(storage_class, "node02", storage_class)
    volume["metadata"]["labels"] = {"test": storage_class}
    kubectl.apply(volume, claim("data", storage_class))
    eventually(lambda: "waiting for first consumer to be created before binding" in kubectl("describe", "pvc", "data"))
    mounts = [{"name": "data", "mountPath": "/data"}]
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", "date +%s%N >> /data/starts; sleep 1000"], "volumeMounts": mounts}
    template = {"spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}, "metadata": {"labels": {"app": "db"}}}
    template["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    kubectl.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "db"},
            "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": template},
        }
    )
    kubectl("rollout", "status", "deployment/db", "--timeout=60s")
    assert kubectl.jsonpath("{.items[0].spec.nodeName}", "pods") == "node02"
    assert kubectl("get", "pvc", "data", "--no-headers").split()[1:3] == ["Bound", storage_class]
    first = kubectl.jsonpath("{.items[0].metadata.name}", "pods")
    kubectl("delete", "pod", first)
    kubectl("rollout", "status", "deployment/db", "--timeout=60s")
    eventually(lambda: kubectl("exec", "deployment/db", "--", "wc", "-l", "/data/starts"), lambda said: said.split()[0] == "2")
    assert kubectl.jsonpath("{.items[0].spec.nodeName}", "pods") == "node02"


def test_a_pod_without_its_volume_says_what_it_waits_for(kubectl: Kubectl, storage_class: str) -> None:
    container = {"name": "main", "image": "busybox", "command": ["sleep", "1000"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    pod["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    kubectl.apply(pod)
    eventually(lambda: kubectl("describe", "pod", "db"), lambda said: '0/3 nodes are available: persistentvolumeclaim "data" not found.' in said)
    kubectl.apply(claim("data", storage_class))
    eventually(
        lambda: kubectl("describe", "pod", "db"),
        lambda said: "1 node(s) had untolerated taint" in said and "2 node(s) didn't find available persistent volumes to bind" in said,
    )
    volume = local_volume(storage_class, "node01", storage_class)
    volume["metadata"]["labels"] = {"test": storage_class}
    volume["spec"]["hostPath"] = {"path": "/tmp", "type": "Directory"}
    del volume["spec"]["local"]
    kubectl.apply(volume)
    kubectl.wait("condition=Ready", "pod/db")
    assert kubectl.jsonpath("{.spec.nodeName}", "pod", "db") == "node01"
