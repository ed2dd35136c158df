"""RBAC's default roles and bindings, from `default_roles.txt`, and how a start reconciles them.

Reconciliation adds what is missing and leaves what an administrator added; an object with the annotation
`rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone (upstream: the "Auto-reconciliation" part of the RBAC reference).
"""

from collections.abc import Iterator
from importlib import resources
from typing import Any

_GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_VERBS = {
    "READ": "get,list,watch",
    "WRITE": "create,delete,deletecollection,patch,update",
    "ALL": "create,delete,deletecollection,get,list,patch,update,watch",
}
_EVENTS = {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]}

Object = dict[str, Any]


def load() -> list[Object]:
    """Every default object, roles before the bindings that name them."""
    text = resources.files("kubette.kube_apiserver.auth").joinpath("default_roles.txt").read_text()
    return list(parse(text))


def parse(text: str) -> Iterator[Object]:
    """Pure: the objects of a table in the format that the head of `default_roles.txt` describes."""
    role: Object | None = None
    bindings: list[Object] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith(" "):
            assert role is not None, f"a rule without a role: {line}"
            role["rules"].append(_rule(line.strip()))
            continue
        if role is not None:
            yield role
            role = None
        if "Binding " in line:
            bindings.append(_binding(line))
            continue
        role = _role(line)
        name = role["metadata"]["name"]
        if role["kind"] == "ClusterRole" and name.startswith("system:controller:"):
            account = name.removeprefix("system:controller:")
            bindings.append(_binding(f"ClusterRoleBinding {name} = C:{name} <- ServiceAccount:kube-system/{account}"))
    if role is not None:
        yield role
    yield from bindings


def _metadata(qualified: str) -> Object:
    namespace, slash, name = qualified.rpartition("/")
    metadata: Object = {"name": name, "labels": dict(_BOOTSTRAPPING), "annotations": {AUTOUPDATE: "true"}}
    return metadata | {"namespace": namespace} if slash else metadata


def _role(line: str) -> Object:
    kind, name, *rest = line.split()
    role: Object = {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": _metadata(name), "rules": []}
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    if "labels" in options:
        role["metadata"]["labels"][f"{_GROUP}/aggregate-to-{options['labels']}"] = "true"
    if "aggregates" in options:
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {f"{_GROUP}/aggregate-to-{options['aggregates']}": "true"}}]}
    return role


def _rule(line: str) -> Object:
    if line == "EVENTS":
        return _EVENTS
    verbs, groups, what, *names = (part.strip() for part in line.split("|"))
    rule: Object = {"verbs": [verb for word in verbs.split(",") for verb in _VERBS.get(word, word).split(",")]}
    if groups == "url":
        return rule | {"nonResourceURLs": what.split(",")}
    rule |= {"apiGroups": ["" if g == "core" else g for g in groups.split(",")], "resources": what.split(",")}
    return rule | {"resourceNames": names[0].split(",")} if names else rule


def _binding(line: str) -> Object:
    head, _, tail = line.partition(" = ")
    kind, name = head.split()
    reference, _, subjects = tail.partition(" <-")
    role_kind, _, role = reference.partition(":")
    binding: Object = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": kind,
        "metadata": _metadata(name),
        "roleRef": {"apiGroup": _GROUP, "kind": {"C": "ClusterRole", "R": "Role"}[role_kind], "name": role},
        "subjects": [_subject(text) for text in subjects.strip().split(",") if text],
    }
    if not binding["subjects"]:
        del binding["subjects"]
    return binding


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "ServiceAccount":
        namespace, _, account = name.partition("/")
        return {"kind": kind, "name": account, "namespace": namespace}
    return {"apiGroup": _GROUP, "kind": kind, "name": name}


def reconciled(wanted: Object, current: Object | None) -> Object | None:
    """Pure: what must be written so that `current` grants at least `wanted`; None when nothing must be."""
    if current is None:
        return wanted
    if (current["metadata"].get("annotations") or {}).get(AUTOUPDATE) != "true":
        return None
    changed = {**current}
    if "roleRef" in wanted:
        have = current.get("subjects") or []
        missing = [s for s in wanted.get("subjects") or [] if s not in have]
        if not missing:
            return None
        changed["subjects"] = [*have, *missing]
        return changed
    if "aggregationRule" in wanted:
        # The rules of an aggregated role belong to the aggregation controller.
        if current.get("aggregationRule"):
            return None
        return changed | {"aggregationRule": wanted["aggregationRule"]}
    have = current.get("rules") or []
    missing = [rule for rule in wanted["rules"] if rule not in have]
    labels = current["metadata"].get("labels") or {}
    missing_labels = {k: v for k, v in wanted["metadata"]["labels"].items() if k not in labels}
    if not missing and not missing_labels:
        return None
    changed["metadata"] = {**current["metadata"], "labels": {**labels, **missing_labels}}
    changed["rules"] = [*have, *missing]
    return changed
