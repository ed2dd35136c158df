"""Pure: every built-in kind, as a table: names, scope, verbs, subresources, categories, storage, releases.

One row is one group-version of one resource. Discovery, routing, storage keys, printing and RBAC mapping all read this table.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubette.apimachinery import gvk
from kubette.apimachinery.gvk import GroupVersion, GroupVersionKind, GroupVersionResource

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_NO_COLLECTION = ("create", "delete", "get", "list", "patch", "update", "watch")
_CREATE = ("create",)
_READ = ("get", "list")
_STATUS = ("get", "patch", "update")
_EVERY = (0, 99)


@dataclass(frozen=True, slots=True)
class Subresource:
    """`pods/status`. An empty group, version and kind is the parent's own."""

    name: str
    verbs: tuple[str, ...] = _STATUS
    group: str = ""
    version: str = ""
    kind: str = ""
    since: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of one group-version."""

    group: str
    version: str
    kind: str
    resource: str
    singular: str
    namespaced: bool
    storage_prefix: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = field(default_factory=tuple)
    # The group-version objects are stored in; others are converted (see `conversions`).
    stored_group: str = ""
    stored_version: str = ""
    # Minor releases: served from `since` (inclusive) to `until` (exclusive).
    since: int = 0
    until: int = 99
    # Deleting it may wait for a grace period (pods alone, of the built-in kinds).
    graceful: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def gv(self) -> GroupVersion:
        return GroupVersion(self.group, self.version)

    @property
    def gvk(self) -> GroupVersionKind:
        return GroupVersionKind(self.group, self.version, self.kind)

    @property
    def gvr(self) -> GroupVersionResource:
        return GroupVersionResource(self.group, self.version, self.resource)

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, as error messages name it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def group_kind(self) -> str:
        """`Deployment.apps`, as validation messages name it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def stored(self) -> bool:
        """False for kinds that are only ever answered (reviews, componentstatuses)."""
        return bool(self.storage_prefix)

    @property
    def stored_gv(self) -> GroupVersion:
        return GroupVersion(self.stored_group, self.stored_version) if self.stored_version else self.gv

    def subresource(self, name: str) -> Subresource | None:
        return next((one for one in self.subresources if one.name == name), None)

    def has_status(self) -> bool:
        return self.subresource("status") is not None

    def storage_key(self, namespace: str, name: str) -> str:
        """etcd's key of an object."""
        return "/".join(part for part in (self.storage_prefix, namespace if self.namespaced else "", name) if part)


def _row(
    api_version: str,
    kind: str,
    resource: str,
    short: str = "",
    *,
    cluster: bool = False,
    storage: str | None = None,
    categories: tuple[str, ...] = (),
    status: bool = False,
    sub: tuple[Subresource, ...] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
    releases: tuple[int, int] = _EVERY,
    stored_as: str = "",
    graceful: bool = False,
) -> Kind:
    group, _, version = api_version.rpartition("/")
    stored_group, _, stored_version = stored_as.rpartition("/")
    subresources = (*((Subresource("status"),) if status else ()), *sub)
    return Kind(
        group=group,
        version=version,
        kind=kind,
        resource=resource,
        singular=kind.lower(),
        namespaced=not cluster,
        storage_prefix="/registry/" + resource if storage is None else storage,
        short_names=tuple(short.split()),
        categories=categories,
        verbs=verbs,
        subresources=tuple(sorted(subresources, key=lambda one: one.name)),
        stored_group=stored_group,
        stored_version=stored_version,
        since=releases[0],
        until=releases[1],
        graceful=graceful,
    )


_ALL = ("all",)
_SCALE = Subresource("scale", _STATUS, "autoscaling", "v1", "Scale")
_PROXY = Subresource("proxy", ("create", "delete", "get", "patch", "update"))
_CONNECT = ("create", "get")

_CORE = (
    _row("v1", "Binding", "bindings", storage="", verbs=_CREATE),
    _row("v1", "ComponentStatus", "componentstatuses", "cs", cluster=True, storage="", verbs=_READ),
    _row("v1", "ConfigMap", "configmaps", "cm"),
    _row("v1", "Endpoints", "endpoints", "ep", storage="/registry/services/endpoints"),
    _row("v1", "Event", "events", "ev"),
    _row("v1", "LimitRange", "limitranges", "limits"),
    _row("v1", "Namespace", "namespaces", "ns", cluster=True, status=True, verbs=_NO_COLLECTION, sub=(Subresource("finalize", ("update",)),)),
    _row("v1", "Node", "nodes", "no", cluster=True, status=True, storage="/registry/minions", sub=(
        Subresource("proxy", _PROXY.verbs, kind="NodeProxyOptions"),
    )),
    _row("v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", status=True),
    _row("v1", "PersistentVolume", "persistentvolumes", "pv", cluster=True, status=True),
    _row("v1", "Pod", "pods", "po", categories=_ALL, status=True, graceful=True, sub=(
        Subresource("attach", _CONNECT, kind="PodAttachOptions"),
        Subresource("binding", _CREATE, kind="Binding"),
        Subresource("ephemeralcontainers"),
        Subresource("eviction", _CREATE, "policy", "v1", "Eviction"),
        Subresource("exec", _CONNECT, kind="PodExecOptions"),
        Subresource("log", ("get",)),
        Subresource("portforward", _CONNECT, kind="PodPortForwardOptions"),
        Subresource("proxy", _PROXY.verbs, kind="PodProxyOptions"),
        Subresource("resize", since=33),
    )),
    _row("v1", "PodTemplate", "podtemplates"),
    _row("v1", "ReplicationController", "replicationcontrollers", "rc", storage="/registry/controllers", categories=_ALL, status=True, sub=(_SCALE,)),
    _row("v1", "ResourceQuota", "resourcequotas", "quota", status=True),
    _row("v1", "Secret", "secrets"),
    _row("v1", "ServiceAccount", "serviceaccounts", "sa", sub=(Subresource("token", _CREATE, "authentication.k8s.io", "v1", "TokenRequest"),)),
    _row("v1", "Service", "services", "svc", storage="/registry/services/specs", categories=_ALL, status=True, sub=(
        Subresource("proxy", _PROXY.verbs, kind="ServiceProxyOptions"),
    )),
)  # fmt: skip

_WORKLOADS = (
    _row("apps/v1", "ControllerRevision", "controllerrevisions"),
    _row("apps/v1", "DaemonSet", "daemonsets", "ds", categories=_ALL, status=True),
    _row("apps/v1", "Deployment", "deployments", "deploy", categories=_ALL, status=True, sub=(_SCALE,)),
    _row("apps/v1", "ReplicaSet", "replicasets", "rs", categories=_ALL, status=True, sub=(_SCALE,)),
    _row("apps/v1", "StatefulSet", "statefulsets", "sts", categories=_ALL, status=True, sub=(_SCALE,)),
    _row("batch/v1", "CronJob", "cronjobs", "cj", categories=_ALL, status=True),
    _row("batch/v1", "Job", "jobs", categories=_ALL, status=True),
    _row("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", categories=_ALL, status=True, stored_as="autoscaling/v2"),
    _row("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", categories=_ALL, status=True),
    _row("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", status=True),
)

_ACCESS = (
    _row("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", cluster=True, storage="", verbs=_CREATE),
    _row("authentication.k8s.io/v1", "TokenReview", "tokenreviews", cluster=True, storage="", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", storage="", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", cluster=True, storage="", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", cluster=True, storage="", verbs=_CREATE),
    _row("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", cluster=True, storage="", verbs=_CREATE),
    _row("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests", "csr", cluster=True, status=True, sub=(
        Subresource("approval"),
    )),
    _row("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", cluster=True),
    _row("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", cluster=True),
    _row("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    _row("rbac.authorization.k8s.io/v1", "Role", "roles"),
)  # fmt: skip

_OTHERS = (
    _row(
        "apiregistration.k8s.io/v1",
        "APIService",
        "apiservices",
        cluster=True,
        storage="/registry/apiregistration.k8s.io/apiservices",
        status=True,
        categories=("api-extensions",),
    ),
    _row("coordination.k8s.io/v1", "Lease", "leases"),
    _row("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    _row("events.k8s.io/v1", "Event", "events", "ev", stored_as="v1"),
    _row("networking.k8s.io/v1", "IngressClass", "ingressclasses", cluster=True),
    _row("networking.k8s.io/v1", "Ingress", "ingresses", "ing", status=True, storage="/registry/ingress"),
    _row("networking.k8s.io/v1", "IPAddress", "ipaddresses", "ip", cluster=True, releases=(33, 99)),
    _row("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", "netpol"),
    _row("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", cluster=True, status=True, releases=(33, 99)),
    _row("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "pc", cluster=True),
    _row("storage.k8s.io/v1", "CSIDriver", "csidrivers", cluster=True),
    _row("storage.k8s.io/v1", "CSINode", "csinodes", cluster=True),
    _row("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities"),
    _row("storage.k8s.io/v1", "StorageClass", "storageclasses", "sc", cluster=True),
    _row("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", cluster=True, status=True),
    _row("storage.k8s.io/v1", "VolumeAttributesClass", "volumeattributesclasses", "vac", cluster=True, releases=(34, 99)),
)

KINDS: tuple[Kind, ...] = (*_CORE, *_WORKLOADS, *_ACCESS, *_OTHERS)

# The order of /apis: what kubectl searches first when a name is ambiguous (upstream's group priorities, highest first).
_GROUP_ORDER = (
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
)

# Upstream's APIService priorities: the group's minimum and the version's, as `kubectl get apiservices -o yaml` shows them.
GROUP_PRIORITY_MINIMUM: dict[str, int] = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "discovery.k8s.io": 16200,
}
VERSION_PRIORITY: dict[tuple[str, str], int] = {("", "v1"): 1, ("autoscaling", "v2"): 30}


def version_priority(group: str, version: str) -> int:
    """`spec.versionPriority` of the group-version's APIService."""
    return VERSION_PRIORITY.get((group, version), 15)


class KindTable:
    """The kinds one release serves, found by resource, kind, or short name."""

    def __init__(self, minor: int, kinds: Iterable[Kind] = KINDS) -> None:
        self.minor = minor
        self.kinds = tuple(kind for kind in kinds if kind.since <= minor < kind.until)
        self._by_gvr = {kind.gvr: kind for kind in self.kinds}
        self._by_gvk = {kind.gvk: kind for kind in self.kinds}

    def by_resource(self, group: str, version: str, resource: str) -> Kind | None:
        return self._by_gvr.get(GroupVersionResource(group, version, resource))

    def by_kind(self, group: str, version: str, kind: str) -> Kind | None:
        return self._by_gvk.get(GroupVersionKind(group, version, kind))

    def subresources(self, kind: Kind) -> tuple[Subresource, ...]:
        return tuple(one for one in kind.subresources if one.since <= self.minor)

    def groups(self) -> tuple[str, ...]:
        """Served groups in upstream's order of priority, the core group first."""
        served = {kind.group for kind in self.kinds}
        known = [group for group in _GROUP_ORDER if group in served]
        return (*known, *sorted(served.difference(known)))

    def versions(self, group: str) -> tuple[str, ...]:
        """Served versions of a group, the preferred one first."""
        return tuple(sorted({kind.version for kind in self.kinds if kind.group == group}, key=gvk.version_priority, reverse=True))

    def of_group_version(self, group: str, version: str) -> tuple[Kind, ...]:
        """Sorted by resource, as discovery lists them."""
        return tuple(sorted((kind for kind in self.kinds if (kind.group, kind.version) == (group, version)), key=lambda kind: kind.resource))

    def storage_kinds(self) -> tuple[Kind, ...]:
        """One row for each stored resource: the row of the version it is stored in."""
        return tuple(kind for kind in self.kinds if kind.stored and kind.gv == kind.stored_gv)

    def find(self, name: str) -> Kind | None:
        """By plural, singular, short name, kind or `resource.group`, as a user types it."""
        lowered = name.lower()
        resource, _, group = lowered.partition(".")
        for kind in self.kinds:
            if group and kind.group != group and not kind.group.startswith(group + "."):
                continue
            if resource in (kind.resource, kind.singular, *kind.short_names):
                return kind
        return None
