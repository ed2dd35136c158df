"""Pure: the pods and claims of a StatefulSet: their names, identity and storage (stateful_set_utils.go)."""

import re
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import objects, pods, revisions
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

POD_NAME, POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-([0-9]+)")


def ordinal(pod: Object) -> int:
    """The number at the end of the name; -1 if it has none."""
    found = _NAME.fullmatch(meta.name(pod))
    return int(found[2]) if found else -1


def is_member(stateful_set: Object, pod: Object) -> bool:
    found = _NAME.fullmatch(meta.name(pod))
    return found is not None and found[1] == meta.name(stateful_set)


def start_ordinal(stateful_set: Object) -> int:
    return int((spec(stateful_set).get("ordinals") or {}).get("start") or 0)


def replicas(stateful_set: Object) -> int:
    value = spec(stateful_set).get("replicas")
    return 1 if value is None else int(value)


def claim_name(template: Object, stateful_set: Object, number: int) -> str:
    return f"{meta.name(template)}-{meta.name(stateful_set)}-{number}"


def claims(stateful_set: Object, number: int) -> list[Object]:
    """The PersistentVolumeClaims of one ordinal; they outlive the pod, that is the point."""
    labels = (spec(stateful_set).get("selector") or {}).get("matchLabels") or {}
    found = []
    for template in spec(stateful_set).get("volumeClaimTemplates") or []:
        claim = objects.copy(template)
        claim.pop("status", None)
        metadata = claim["metadata"]
        metadata.pop("creationTimestamp", None)
        metadata["name"] = claim_name(template, stateful_set, number)
        metadata["namespace"] = meta.namespace(stateful_set)
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
        found.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    return found


def new_pod(stateful_set: Object, template: Object, revision_name: str, number: int) -> Object:
    name = f"{meta.name(stateful_set)}-{number}"
    pod = objects.copy(pods.from_template(template, meta.controller_reference(stateful_set, "apps/v1", "StatefulSet"), ""))
    metadata = pod["metadata"]
    del metadata["generateName"]
    metadata["name"], metadata["namespace"] = name, meta.namespace(stateful_set)
    labels = metadata.setdefault("labels", {})
    labels |= {POD_NAME: name, POD_INDEX: str(number), revisions.HASH_LABEL: revision_name}
    pod["spec"]["hostname"] = name
    pod["spec"]["subdomain"] = spec(stateful_set).get("serviceName") or ""
    templates = spec(stateful_set).get("volumeClaimTemplates") or []
    if templates:
        claimed = {meta.name(t) for t in templates}
        volumes = [v for v in pod["spec"].get("volumes") or [] if v["name"] not in claimed]
        volumes += [{"name": meta.name(t), "persistentVolumeClaim": {"claimName": claim_name(t, stateful_set, number)}} for t in templates]
        pod["spec"]["volumes"] = volumes
    return pod  # type: ignore[no-any-return]


def revision_of(pod: Object) -> str:
    return meta.labels(pod).get(revisions.HASH_LABEL, "")


def is_healthy(pod: Object) -> bool:
    """Running, ready, and not going."""
    return pods.phase(pod) == "Running" and pods.is_ready(pod) and not meta.is_being_deleted(pod)
