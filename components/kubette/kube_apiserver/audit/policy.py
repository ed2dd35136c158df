"""Pure: an audit.k8s.io Policy, and what it says of a request: at which level it is recorded, and which stages are left out.

Counterpart upstream: apis/audit/validation and audit/policy. Rules are in order and the first that matches decides; without one nothing is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from kubette.apimachinery import field_errors, names, validation
from kubette.apimachinery.field_errors import FieldError, child
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes

GROUP = "audit.k8s.io"
API_VERSION = f"{GROUP}/v1"
REQUEST_RECEIVED, RESPONSE_STARTED, RESPONSE_COMPLETE, PANIC = "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"
STAGES = (REQUEST_RECEIVED, RESPONSE_STARTED, RESPONSE_COMPLETE, PANIC)


class Level(IntEnum):
    """How much of a request is written down; the names are the API's."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def text(self) -> str:
        return _LEVEL_NAMES[self]


_LEVEL_NAMES = ("None", "Metadata", "Request", "RequestResponse")
_LEVELS = {name: Level(number) for number, name in enumerate(_LEVEL_NAMES)}
_LISTS = ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs", "omitStages")
_POLICY_FIELDS = frozenset({"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"})
_RULE_FIELDS = frozenset({"level", "resources", "omitManagedFields", *_LISTS})
_RESOURCE_FIELDS = ("group", "resources", "resourceNames")


class PolicyError(ValueError):
    """The policy cannot be used; the text is upstream's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policy decides about one request."""

    level: Level
    omit_stages: frozenset[str]
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class GroupResources:
    group: str
    resources: tuple[str, ...]
    names: tuple[str, ...]

    def matches(self, attrs: AuthzAttributes) -> bool:
        if self.group != attrs.group:
            return False
        if not self.resources:
            return True
        if self.names and attrs.name not in self.names:
            return False
        combined = f"{attrs.resource}/{attrs.subresource}" if attrs.subresource else attrs.resource
        return any(
            pattern in ("*", combined, f"{attrs.resource}/*") or (attrs.subresource and pattern == f"*/{attrs.subresource}")
            for pattern in self.resources
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """An empty collection means: whatever it is."""

    outcome: Outcome
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[GroupResources, ...]
    urls: tuple[str, ...]

    def matches(self, attrs: AuthzAttributes, is_known: bool) -> bool:
        """Whether the request is this rule's. Who is not known (`is_known`: it was authenticated) is none of the rule's users."""
        if self.verbs and attrs.verb not in self.verbs:
            return False
        if self.users and not (is_known and attrs.user.name in self.users):
            return False
        if self.groups and not (is_known and not self.groups.isdisjoint(attrs.user.groups)):
            return False
        if self.namespaces or self.resources:
            if not attrs.is_resource or (self.namespaces and attrs.namespace not in self.namespaces):
                return False
            return not self.resources or any(one.matches(attrs) for one in self.resources)
        if self.urls:
            return not attrs.is_resource and any(_path_matches(attrs.path, pattern) for pattern in self.urls)
        return True


@dataclass(frozen=True, slots=True)
class Policy:
    rules: tuple[Rule, ...]
    otherwise: Outcome

    def evaluate(self, attrs: AuthzAttributes, is_known: bool = True) -> Outcome:
        """The first rule that matches; without one: not recorded."""
        for rule in self.rules:
            if rule.matches(attrs, is_known):
                return rule.outcome
        return self.otherwise


def _path_matches(path: str, pattern: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def load(document: Any) -> tuple[Policy, list[str]]:
    """The policy that a file's document is, and the fields in it that nobody knows. Raises PolicyError."""
    if not isinstance(document, dict):
        raise PolicyError("loaded illegal policy with 0 rules")
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if not (api_version and kind):
        raise PolicyError(f"unknown group version field {GROUP}/__internal, Kind=Policy in policy")
    if api_version != API_VERSION or kind != "Policy":
        raise PolicyError(
            f'failed decoding: no kind "{kind}" is registered for version "{api_version}" in scheme "k8s.io/apiserver/pkg/audit/scheme.go"'
        )
    unknown = _check_types(document)
    errors = [error for number, rule in enumerate(document.get("rules") or ()) for error in _validate(rule, child("rules", number))]
    if errors:
        texts = [str(error) for error in errors]
        raise PolicyError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    if not document.get("rules"):
        raise PolicyError("loaded illegal policy with 0 rules")
    omitted = frozenset(document.get("omitStages") or ())
    no_managed = bool(document.get("omitManagedFields"))
    rules = tuple(_rule(rule, omitted, no_managed) for rule in document["rules"])
    return Policy(rules, Outcome(Level.NONE, omitted)), unknown


def _rule(rule: dict[str, Any], omitted: frozenset[str], no_managed: bool) -> Rule:
    own = rule.get("omitManagedFields")
    outcome = Outcome(_LEVELS[rule["level"]], omitted | frozenset(rule.get("omitStages") or ()), no_managed if own is None else own)
    resources = tuple(
        GroupResources(one.get("group") or "", tuple(one.get("resources") or ()), tuple(one.get("resourceNames") or ()))
        for one in rule.get("resources") or ()
    )
    users, groups, verbs, namespaces = (frozenset(rule.get(name) or ()) for name in ("users", "userGroups", "verbs", "namespaces"))
    return Rule(outcome, users, groups, verbs, namespaces, resources, tuple(rule.get("nonResourceURLs") or ()))


def _check_types(document: dict[str, Any]) -> list[str]:
    """Go's decoder would refuse another type; a field it does not know it only complains about. Answers the latter."""
    unknown = [name for name in document if name not in _POLICY_FIELDS]
    _expect(document, "Policy", ("omitManagedFields",), bool)
    _expect_strings(document, "Policy", ("omitStages",))
    for number, rule in enumerate(_objects(document, "rules", "Policy")):
        unknown += [f"rules[{number}].{name}" for name in rule if name not in _RULE_FIELDS]
        _expect(rule, "PolicyRule", ("omitManagedFields",), bool)
        _expect(rule, "PolicyRule", ("level",), str)
        _expect_strings(rule, "PolicyRule", _LISTS)
        for position, one in enumerate(_objects(rule, "resources", "PolicyRule")):
            unknown += [f"rules[{number}].resources[{position}].{name}" for name in one if name not in _RESOURCE_FIELDS]
            _expect(one, "GroupResources", ("group",), str)
            _expect_strings(one, "GroupResources", _RESOURCE_FIELDS[1:])
    return unknown


def _cannot(value: Any, owner: str, name: str, wanted: str) -> PolicyError:
    found = {"str": "string", "int": "number", "float": "number", "list": "array", "dict": "object"}.get(type(value).__name__, "bool")
    return PolicyError(f"failed decoding: json: cannot unmarshal {found} into Go struct field {owner}.{name} of type {wanted}")


def _expect(owner: dict[str, Any], kind: str, fields: Sequence[str], wanted: type) -> None:
    for name in fields:
        value = owner.get(name)
        if value is not None and not isinstance(value, wanted):
            raise _cannot(value, kind, name, "bool" if wanted is bool else "string")


def _expect_strings(owner: dict[str, Any], kind: str, fields: Sequence[str]) -> None:
    for name in fields:
        value = owner.get(name)
        if value is not None and not isinstance(value, list):
            raise _cannot(value, kind, name, "[]string")
        for one in value or ():
            if not isinstance(one, str):
                raise _cannot(one, kind, name, "string")


def _objects(owner: dict[str, Any], name: str, kind: str) -> list[dict[str, Any]]:
    found = owner.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise _cannot(found, kind, name, "[]object")
    for one in found:
        if not isinstance(one, dict):
            raise _cannot(one, kind, name, "object")
    return found


def _validate(rule: dict[str, Any], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    level = rule.get("level") or ""
    if not level:
        errors.append(field_errors.required(child(path, "level")))
    elif level not in _LEVELS:
        errors.append(field_errors.not_supported(child(path, "level"), level, _LEVEL_NAMES))
    urls = rule.get("nonResourceURLs") or []
    errors += _validate_urls(urls, child(path, "nonResourceURLs"))
    errors += _validate_resources(rule.get("resources") or [], child(path, "resources"))
    stages = child(path, "omitStages")
    for number, stage in enumerate(rule.get("omitStages") or ()):
        if stage not in STAGES:
            errors.append(field_errors.invalid(child(stages, number), stage, "allowed stages are " + ",".join(STAGES)))
    if urls and (rule.get("resources") or rule.get("namespaces")):
        errors.append(
            field_errors.invalid(child(path, "nonResourceURLs"), urls, "rules cannot apply to both regular resources and non-resource URLs")
        )
    return errors


def _validate_urls(urls: Sequence[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for number, url in enumerate(urls):
        if url == "*":
            continue
        if not url.startswith("/"):
            errors.append(field_errors.invalid(child(path, number), url, "non-resource URL rules must begin with a '/' character"))
        if "*" in url[:-1]:
            errors.append(field_errors.invalid(child(path, number), url, "non-resource URL wildcards '*' must be the final character of the rule"))
    return errors


def _validate_resources(resources: Sequence[dict[str, Any]], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for one in resources:  # upstream names the field without the number of its entry
        group = one.get("group") or ""
        complaints = names.dns1123_subdomain(group) if group else []
        if complaints:
            errors.append(field_errors.invalid(child(path, "group"), group, ",".join(complaints)))
        if one.get("resourceNames") and not one.get("resources"):
            errors.append(
                field_errors.invalid(child(path, "resourceNames"), one["resourceNames"], "using resourceNames requires at least one resource")
            )
    return errors


def lenient_warning(unknown: Sequence[str]) -> str:
    """What is said of fields that nobody knows; the policy is used without them."""
    text = validation.strict_decoding_error(validation.strict_errors(list(unknown)))
    return f"Audit policy contains errors, falling back to lenient decoding: {text}"
