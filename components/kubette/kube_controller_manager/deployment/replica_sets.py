"""Pure: a Deployment's ReplicaSets: which is new, their names, hashes, revisions and annotations (deployment_util.go)."""

from collections.abc import Sequence
from typing import Any

import orjson

from kubette.apimachinery import meta, names
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
POD_TEMPLATE_HASH = "pod-template-hash"

# Annotations of the Deployment that say something about itself and are not handed on.
_OWN_ANNOTATIONS = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)
_REVISION_HISTORY_BYTES_MAX = 2000


def replicas(obj: Object) -> int:
    """`spec.replicas`, 1 when unset."""
    value = spec(obj).get("replicas")
    return 1 if value is None else int(value)


def total_replicas(replica_sets: Sequence[Object]) -> int:
    return sum(replicas(rs) for rs in replica_sets)


def available(rs: Object) -> int:
    return int(status(rs).get("availableReplicas") or 0)


def resolve_fenceposts(deployment: Object) -> tuple[int, int]:
    """`(max_surge, max_unavailable)` as numbers of pods; never both zero, or nothing could ever move."""
    strategy = spec(deployment).get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    desired = replicas(deployment)
    surge = _scaled(rolling.get("maxSurge", "25%"), desired, round_up=True)
    unavailable = _scaled(rolling.get("maxUnavailable", "25%"), desired, round_up=False)
    return (surge, 1) if surge == 0 and unavailable == 0 else (surge, unavailable)


def max_surge(deployment: Object) -> int:
    return resolve_fenceposts(deployment)[0]


def max_unavailable(deployment: Object) -> int:
    """At most all of them."""
    if (spec(deployment).get("strategy") or {}).get("type") == "Recreate" or replicas(deployment) == 0:
        return 0
    return min(resolve_fenceposts(deployment)[1], replicas(deployment))


def _scaled(value: int | str, total: int, round_up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value.rstrip("%"))
    return -(-percent * total // 100) if round_up else percent * total // 100


def template_hash(template: Object, collision_count: int | None) -> str:
    """The `pod-template-hash`: FNV-1a over the template, salted when a name was taken by a stranger. Opaque, as upstream's."""
    data = orjson.dumps(template, option=orjson.OPT_SORT_KEYS)
    if collision_count is not None:
        data += collision_count.to_bytes(8, "little")
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return names.safe_suffix(str(value))


def _without_hash(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != POD_TEMPLATE_HASH}
    metadata["labels"] = labels
    metadata.pop("creationTimestamp", None)
    return {**template, "metadata": metadata}


def same_template(one: Object, other: Object) -> bool:
    """Equal but for the hash label."""
    return _without_hash(one) == _without_hash(other)


def sort_oldest_first(replica_sets: Sequence[Object]) -> list[Object]:
    return sorted(replica_sets, key=lambda rs: (meta.creation_timestamp(rs), meta.name(rs)))


def find_new(deployment: Object, replica_sets: Sequence[Object]) -> Object | None:
    """The ReplicaSet of the current template; the oldest if there were ever several."""
    template = spec(deployment).get("template") or {}
    return next((rs for rs in sort_oldest_first(replica_sets) if same_template(spec(rs).get("template") or {}, template)), None)


def find_old(new: Object | None, replica_sets: Sequence[Object]) -> list[Object]:
    return [rs for rs in replica_sets if new is None or meta.uid(rs) != meta.uid(new)]


def active(replica_sets: Sequence[Object]) -> list[Object]:
    return [rs for rs in replica_sets if replicas(rs) > 0]


def revision(obj: Object) -> int:
    """0 when it has none (or a broken one)."""
    try:
        return int(meta.annotations(obj).get(REVISION, "0"))
    except ValueError:
        return 0


def max_revision(replica_sets: Sequence[Object]) -> int:
    return max((revision(rs) for rs in replica_sets), default=0)


def annotations_of_new(deployment: Object, existing: dict[str, str], new_revision: int, exists: bool) -> dict[str, str]:
    """The annotations the new ReplicaSet should have: the Deployment's, its revision, and the revisions it had before."""
    found = dict(existing)
    # On an existing ReplicaSet what the Deployment lost stays; it may be a user's.
    found.update({k: v for k, v in meta.annotations(deployment).items() if k not in _OWN_ANNOTATIONS})
    try:
        old_revision = int(found.get(REVISION, "0"))
    except ValueError:
        return found
    if old_revision < new_revision:
        if REVISION in found and exists:
            history = [*filter(None, found.get(REVISION_HISTORY, "").split(",")), str(old_revision)]
            while len(",".join(history)) > _REVISION_HISTORY_BYTES_MAX:
                history.pop(0)
            found[REVISION_HISTORY] = ",".join(history)
        found[REVISION] = str(new_revision)
    if not exists:
        found |= size_annotations(deployment)
    return found


def size_annotations(deployment: Object) -> dict[str, str]:
    """What size the Deployment had when this ReplicaSet was last sized: the base of proportional scaling."""
    desired = replicas(deployment)
    return {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(desired + max_surge(deployment))}


def new_replica_set(deployment: Object, count: int, annotations: dict[str, str]) -> Object:
    """The ReplicaSet of the current template."""
    found = spec(deployment)
    collision_count = status(deployment).get("collisionCount")
    hash_value = template_hash(found["template"], collision_count)
    template = objects.copy(found["template"])
    template_metadata = template.setdefault("metadata", {})
    template_metadata["labels"] = {**(template_metadata.get("labels") or {}), POD_TEMPLATE_HASH: hash_value}
    selector = objects.copy(found["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), POD_TEMPLATE_HASH: hash_value}
    new_spec: Object = {"replicas": count, "selector": selector, "template": template}
    if found.get("minReadySeconds"):
        new_spec["minReadySeconds"] = found["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta.name(deployment)}-{hash_value}",
            "namespace": meta.namespace(deployment),
            "labels": template_metadata["labels"],
            "annotations": annotations,
            "ownerReferences": [meta.controller_reference(deployment, "apps/v1", "Deployment")],
        },
        "spec": new_spec,
    }
