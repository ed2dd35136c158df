"""Pure: whether a DaemonSet's pod belongs on a node, and the pod itself (daemon_controller.go's Predicates, daemonset_util.go)."""

from typing import Any

from kubette.apimachinery import meta, selectors
from kubette.kube_controller_manager import objects, pods, revisions
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_NODE = "node.kubernetes.io/"


def tolerations(template_spec: Object) -> list[Object]:
    """The template's tolerations and those of every daemon: it runs on nodes in trouble, it is what helps them out."""
    found = list(template_spec.get("tolerations") or [])
    wanted = [(_NODE + "not-ready", "NoExecute"), (_NODE + "unreachable", "NoExecute")]
    wanted += [(_NODE + k, "NoSchedule") for k in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")]
    if template_spec.get("hostNetwork"):
        wanted.append((_NODE + "network-unavailable", "NoSchedule"))
    for key, effect in wanted:
        one = {"key": key, "operator": "Exists", "effect": effect}
        if one not in found:
            found.append(one)
    return found


def _tolerated(taint: Object, found: list[Object]) -> bool:
    for toleration in found:
        if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
            continue
        if toleration.get("key") and toleration["key"] != taint["key"]:
            continue
        if toleration.get("operator", "Equal") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _matches_term(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False  # an empty term matches nothing
    labels = meta.labels(node)
    return all(selectors.requirement_of(e).matches(labels) for e in expressions) and all(
        selectors.requirement_of(f).matches({"metadata.name": meta.name(node)}) for f in fields
    )


def fits_affinity(template_spec: Object, node: Object) -> bool:
    """nodeName, nodeSelector and required node affinity."""
    if template_spec.get("nodeName") and template_spec["nodeName"] != meta.name(node):
        return False
    labels = meta.labels(node)
    if any(labels.get(k) != v for k, v in (template_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (template_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_matches_term(t, node) for t in required.get("nodeSelectorTerms") or [])


def should_run(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """(a pod should be started there, a pod already there may stay)."""
    template_spec = objects.spec(daemon_set)["template"]["spec"]
    if not fits_affinity(template_spec, node):
        return False, False
    found = tolerations(template_spec)
    untolerated = {t.get("effect") for t in spec(node).get("taints") or [] if not _tolerated(t, found)}
    if "NoExecute" in untolerated:
        return False, False
    return "NoSchedule" not in untolerated, True


def node_of(pod: Object) -> str:
    """Where a daemon pod is, or will be: it is bound by the scheduler, but made for one node."""
    if spec(pod).get("nodeName"):
        return str(spec(pod)["nodeName"])
    affinity = ((spec(pod).get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in affinity.get("nodeSelectorTerms") or []:
        for one in term.get("matchFields") or []:
            if one.get("key") == "metadata.name" and one.get("operator") == "In" and len(one.get("values") or []) == 1:
                return str(one["values"][0])
    return ""


def _pinned(affinity: Object | None, node_name: str) -> Object:
    """The affinity with the node's name in every required term: the template's other requirements are met already."""
    found = objects.copy(affinity or {})
    node_affinity = found.setdefault("nodeAffinity", {})
    field = {"key": "metadata.name", "operator": "In", "values": [node_name]}
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return found  # type: ignore[no-any-return]


def new_pod(daemon_set: Object, node_name: str, revision_hash: str) -> Object:
    reference = meta.controller_reference(daemon_set, "apps/v1", "DaemonSet")
    pod = objects.copy(pods.from_template(objects.spec(daemon_set)["template"], reference, meta.name(daemon_set) + "-"))
    labels = pod["metadata"].setdefault("labels", {})
    generation = meta.annotations(daemon_set).get(TEMPLATE_GENERATION)
    if generation:
        labels["pod-template-generation"] = generation
    labels[revisions.HASH_LABEL] = revision_hash
    pod["spec"]["affinity"] = _pinned(pod["spec"].get("affinity"), node_name)
    pod["spec"]["tolerations"] = tolerations(pod["spec"])
    return pod  # type: ignore[no-any-return]


def is_updated(pod: Object, daemon_set: Object, revision_hash: str) -> bool:
    """The pod is of the current template, by its hash or (very old ones) by the template's generation."""
    labels = meta.labels(pod)
    generation = meta.annotations(daemon_set).get(TEMPLATE_GENERATION)
    by_generation = generation is not None and labels.get("pod-template-generation") == generation
    return by_generation or (bool(revision_hash) and labels.get(revisions.HASH_LABEL) == revision_hash)
