"""Pure: the table of all controllers: name, the alias older manifests use, where its class is, whether it runs by default.

A class is imported only when its controller runs. The names are upstream's (`kube-controller-manager --help`), v1.28 and later; the
aliases are those of before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_HERE = "kubette.kube_controller_manager"


@dataclass(frozen=True, slots=True)
class Entry:
    """One controller. `target` is `module:Class`, a class made from a Context with an async `run`."""

    name: str
    alias: str
    target: str
    by_default: bool = True


def _entry(name: str, alias: str, folder: str, class_name: str, by_default: bool = True) -> Entry:
    return Entry(name, alias, f"{_HERE}.{folder}:{class_name}", by_default)


CONTROLLERS = (
    _entry("serviceaccount-token-controller", "serviceaccount-token", "serviceaccount.tokens", "TokensController"),
    _entry("serviceaccount-controller", "serviceaccount", "serviceaccount.controller", "ServiceAccountController"),
    _entry("root-ca-certificate-publisher-controller", "root-ca-cert-publisher", "root_ca.controller", "RootCAPublisher"),
    _entry("node-ipam-controller", "nodeipam", "node_ipam.controller", "NodeIPAMController"),
    _entry("node-lifecycle-controller", "nodelifecycle", "node_lifecycle.controller", "NodeLifecycleController"),
    _entry("taint-eviction-controller", "taint-eviction-controller", "taint_eviction.controller", "TaintEvictionController"),
    _entry("certificatesigningrequest-approving-controller", "csrapproving", "certificates.approver", "CSRApprover"),
    _entry("certificatesigningrequest-signing-controller", "csrsigning", "certificates.signer", "CSRSigner"),
    _entry("certificatesigningrequest-cleaner-controller", "csrcleaner", "certificates.cleaner", "CSRCleaner"),
    _entry("bootstrap-signer-controller", "bootstrapsigner", "bootstrap.signer", "BootstrapSigner", False),
    _entry("token-cleaner-controller", "tokencleaner", "bootstrap.cleaner", "TokenCleaner", False),
    _entry("endpoints-controller", "endpoint", "endpoints.controller", "EndpointsController"),
    _entry("endpointslice-controller", "endpointslice", "endpointslice.controller", "EndpointSliceController"),
    _entry("deployment-controller", "deployment", "deployment.controller", "DeploymentController"),
    _entry("replicaset-controller", "replicaset", "replicaset.controller", "ReplicaSetController"),
    _entry("replicationcontroller-controller", "replicationcontroller", "replicaset.controller", "ReplicationControllerController"),
    _entry("daemonset-controller", "daemonset", "daemonset.controller", "DaemonSetController"),
    _entry("statefulset-controller", "statefulset", "statefulset.controller", "StatefulSetController"),
    _entry("job-controller", "job", "job.controller", "JobController"),
    _entry("cronjob-controller", "cronjob", "cronjob.controller", "CronJobController"),
    _entry("ttl-after-finished-controller", "ttl-after-finished", "job.ttl", "TTLAfterFinishedController"),
    _entry("garbage-collector-controller", "garbagecollector", "garbage_collector.controller", "GarbageCollector"),
    _entry("namespace-controller", "namespace", "namespace.controller", "NamespaceController"),
    _entry("pod-garbage-collector-controller", "podgc", "podgc.controller", "PodGCController"),
    _entry("persistentvolume-binder-controller", "persistentvolume-binder", "persistent_volumes.controller", "PersistentVolumeBinder"),
    _entry("persistentvolumeclaim-protection-controller", "pvc-protection", "persistent_volumes.protection", "ClaimProtection"),
    _entry("persistentvolume-protection-controller", "pv-protection", "persistent_volumes.protection", "VolumeProtection"),
    _entry("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling", "horizontal.controller", "HorizontalController"),
    _entry("disruption-controller", "disruption", "disruption.controller", "DisruptionController"),
    _entry("resourcequota-controller", "resourcequota", "resource_quota.controller", "ResourceQuotaController"),
    _entry("clusterrole-aggregation-controller", "clusterrole-aggregation", "clusterrole_aggregation.controller", "ClusterRoleAggregationController"),
)


class UnknownController(ValueError):
    """`--controllers` names one that does not exist; the text is upstream's."""


def selected(flag: Sequence[str], table: Sequence[Entry] = CONTROLLERS) -> list[Entry]:
    """What `--controllers` means: `*` all that are on by default, `foo` that one, `-foo` not that one. Raises UnknownController."""
    names = {e.name: e.name for e in table} | {e.alias: e.name for e in table}
    on: set[str] = set()
    off: set[str] = set()
    star = False
    for word in flag:
        if word == "*":
            star = True
            continue
        name = names.get(word.removeprefix("-"))
        if name is None:
            raise UnknownController(f'"{word.removeprefix("-")}" is not in the list of known controllers')
        (off if word.startswith("-") else on).add(name)
    return [e for e in table if e.name in on or (star and e.by_default and e.name not in off)]
