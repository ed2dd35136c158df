"""The answers to "who is this" and "may he": TokenReview, the access reviews, SelfSubjectReview (groups authentication and authorization).

Each takes the posted object and answers it with its status filled in.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kubette.apimachinery import field_errors, status
from kubette.kube_apiserver.auth.interfaces import Authorizer, AuthzAttributes, Credentials, Decision, Unauthorized, UserInfo, Verdict
from kubette.kube_apiserver.auth.rbac import Rbac
from kubette.kube_apiserver.auth.rbac_rules import Rule

Object = dict[str, Any]
Authenticate = Callable[[Credentials, Sequence[str]], Awaitable[tuple[UserInfo | None, list[str]]]]


async def token_review(obj: Object, authenticate: Authenticate, api_audiences: Sequence[str]) -> Object:
    """`authenticate(credentials, audiences)` answers the user and those of the audiences that the token is for."""
    token = (obj.get("spec") or {}).get("token") or ""
    audiences = (obj.get("spec") or {}).get("audiences") or []
    if not token:
        raise status.bad_request("token is required for TokenReview in authentication")
    try:
        user, shared = await authenticate(Credentials({"Authorization": f"Bearer {token}"}), audiences or api_audiences)
    except Unauthorized as error:
        return obj | {"status": {"user": {}, "error": f"[invalid bearer token, {error}]"}}
    if user is None or "system:unauthenticated" in user.groups:
        return obj | {"status": {"user": {}, "error": "invalid bearer token"}}
    return obj | {"status": {"authenticated": True, "user": user.as_dict(), "audiences": shared}}


def self_subject_review(obj: Object, user: UserInfo) -> Object:
    return obj | {"status": {"userInfo": user.as_dict()}}


def _attributes(user: UserInfo, spec: Object) -> AuthzAttributes:
    resource = spec.get("resourceAttributes")
    if resource is not None:
        return AuthzAttributes(
            user,
            resource.get("verb", ""),
            resource.get("group", ""),
            resource.get("version", ""),
            resource.get("resource", ""),
            resource.get("subresource", ""),
            resource.get("namespace", ""),
            resource.get("name", ""),
        )
    path = spec["nonResourceAttributes"]
    return AuthzAttributes(user, path.get("verb", ""), path=path.get("path", ""), is_resource=False)


def _status(decision: Decision) -> Object:
    answer: Object = {"allowed": decision.allowed}
    if decision.verdict is Verdict.deny:
        answer["denied"] = True
    return answer | ({"reason": decision.reason} if decision.reason else {})


def _check_spec(kind: str, spec: Object) -> None:
    both = [f for f in ("resourceAttributes", "nonResourceAttributes") if spec.get(f) is not None]
    if len(both) != 1:
        text = (
            "cannot be specified in combination with resourceAttributes"
            if both
            else "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        )
        raise status.invalid(
            f"{kind}.authorization.k8s.io", "", [field_errors.invalid("spec.nonResourceAttributes", spec.get("nonResourceAttributes"), text)]
        )


async def self_subject_access_review(obj: Object, user: UserInfo, authorizer: Authorizer) -> Object:
    spec = obj.get("spec") or {}
    _check_spec("SelfSubjectAccessReview", spec)
    return obj | {"status": _status(await authorizer.authorize(_attributes(user, spec)))}


async def subject_access_review(obj: Object, authorizer: Authorizer, namespace: str = "") -> Object:
    """SubjectAccessReview; with `namespace` a LocalSubjectAccessReview of that namespace."""
    spec = obj.get("spec") or {}
    kind = "LocalSubjectAccessReview" if namespace else "SubjectAccessReview"
    _check_spec(kind, spec)
    if not spec.get("user") and not spec.get("groups"):
        error = field_errors.invalid("spec.user", spec.get("user") or "", "at least one of user or group must be specified")
        raise status.invalid(f"{kind}.authorization.k8s.io", "", [error])
    if namespace and (spec.get("resourceAttributes") or {}).get("namespace") != namespace:
        error = field_errors.invalid(
            "spec.resourceAttributes.namespace", (spec.get("resourceAttributes") or {}).get("namespace"), "must match metadata.namespace"
        )
        raise status.invalid(f"{kind}.authorization.k8s.io", "", [error])
    extra = {k: tuple(v) for k, v in (spec.get("extra") or {}).items()}
    user = UserInfo(spec.get("user") or "", spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)
    return obj | {"status": _status(await authorizer.authorize(_attributes(user, spec)))}


async def self_subject_rules_review(obj: Object, user: UserInfo, rbac: Rbac | None) -> Object:
    """What `kubectl auth can-i --list` shows: the rules that RBAC gives the asker in a namespace."""
    namespace = (obj.get("spec") or {}).get("namespace") or ""
    if not namespace:
        raise status.bad_request("no namespace on request")
    rules: list[Rule] = await rbac.rules_of(user, namespace) if rbac is not None else []
    resource_rules = [_shown(rule, ("apiGroups", "resources", "resourceNames")) for rule in rules if rule.get("resources")]
    other_rules = [_shown(rule, ("nonResourceURLs",)) for rule in rules if rule.get("nonResourceURLs")]
    if "system:masters" in user.groups:
        resource_rules.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        other_rules.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    answer: Object = {"resourceRules": resource_rules, "nonResourceRules": other_rules, "incomplete": False}
    return obj | {"status": answer}


def _shown(rule: Rule, fields: Sequence[str]) -> Object:
    return {"verbs": rule["verbs"]} | {f: rule[f] for f in fields if rule.get(f)}
