"""Pure: what a PolicyRule allows and covers (upstream: pkg/registry/rbac/validation)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo

Rule = dict[str, Any]
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


def allows(rule: Rule, attrs: AuthzAttributes) -> bool:
    """Whether this one rule allows the request."""
    verbs = rule.get("verbs") or ()
    if attrs.verb not in verbs and "*" not in verbs:
        return False
    if not attrs.is_resource:
        return any(_path_matches(pattern, attrs.path) for pattern in rule.get("nonResourceURLs") or ())
    groups = rule.get("apiGroups") or ()
    if attrs.group not in groups and "*" not in groups:
        return False
    if not _resource_matches(rule.get("resources") or (), attrs.resource, attrs.subresource):
        return False
    names = rule.get("resourceNames")
    return not names or attrs.name in names


def _resource_matches(resources: Sequence[str], resource: str, subresource: str) -> bool:
    if "*" in resources:
        return True
    if not subresource:
        return resource in resources
    return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def subject_matches(subject: dict[str, Any], user: UserInfo, binding_namespace: str) -> bool:
    """Whether a binding's subject names this user."""
    match subject["kind"]:
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            namespace = subject.get("namespace") or binding_namespace
            return bool(namespace) and user.name == f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{subject['name']}"
    return False


def describe_grant(binding: dict[str, Any], subject: dict[str, Any]) -> str:
    """A binding as the reason of an allowed request names it (namespaced names are name/namespace there)."""
    metadata, reference = binding["metadata"], binding["roleRef"]
    namespace = metadata.get("namespace", "")
    kind, name = ("RoleBinding", f"{metadata['name']}/{namespace}") if namespace else ("ClusterRoleBinding", metadata["name"])
    who = subject["name"]
    if subject["kind"] == "ServiceAccount":
        who = f"{who}/{subject.get('namespace') or namespace}"
    return f'{kind} "{name}" of {reference["kind"]} "{reference["name"]}" to {subject["kind"]} "{who}"'


def broken_down(rules: Iterable[Rule]) -> Iterator[Rule]:
    """Each rule as the single-valued rules that it means together."""
    for rule in rules:
        for verb in rule.get("verbs") or ():
            for url in rule.get("nonResourceURLs") or ():
                yield {"verbs": [verb], "nonResourceURLs": [url]}
            for group in rule.get("apiGroups") or ():
                for resource in rule.get("resources") or ():
                    single: Rule = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                    names = rule.get("resourceNames") or ()
                    if not names:
                        yield single
                    for name in names:
                        yield {**single, "resourceNames": [name]}


def uncovered(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The parts of `wanted` that `owned` does not grant: what makes a grant an escalation."""
    return [single for single in broken_down(wanted) if not any(_covers(rule, single) for rule in owned)]


def _covers(owner: Rule, single: Rule) -> bool:
    verbs = owner.get("verbs") or ()
    if "*" not in verbs and single["verbs"][0] not in verbs:
        return False
    if "nonResourceURLs" in single:
        url = single["nonResourceURLs"][0]
        return any(_path_matches(pattern, url) for pattern in owner.get("nonResourceURLs") or ())
    groups = owner.get("apiGroups") or ()
    if "*" not in groups and single["apiGroups"][0] not in groups:
        return False
    resources, resource = owner.get("resources") or (), single["resources"][0]
    base, _, sub = resource.partition("/")
    if not ("*" in resources or resource in resources or (sub and f"*/{sub}" in resources) or (not sub and base in resources)):
        return False
    names = owner.get("resourceNames")
    return not names or bool(single.get("resourceNames") and single["resourceNames"][0] in names)


def describe(rule: Rule) -> str:
    """As upstream's message shows a rule: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
    fields = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("Verbs", "verbs"),
    )

    def shown(values: Sequence[str]) -> str:
        return "[" + " ".join(f'"{value}"' for value in values) + "]"

    return "{" + ", ".join(f"{title}:{shown(rule[key])}" for title, key in fields if rule.get(key)) + "}"
