"""The RBAC authorizer: roles and bindings from the watch cache, an answer per request (upstream: plugin/pkg/auth/authorizer/rbac)."""

from typing import Any

from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth import rbac_rules
from kubette.kube_apiserver.auth.interfaces import ALLOW, NO_OPINION, PRIVILEGED_GROUP, AuthzAttributes, Decision, UserInfo, Verdict
from kubette.kube_apiserver.auth.rbac_rules import Rule

Object = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"


class PrivilegedGroups:
    """system:masters may do everything; no role can take that away."""

    async def authorize(self, attrs: AuthzAttributes) -> Decision:
        return ALLOW if PRIVILEGED_GROUP in attrs.user.groups else NO_OPINION


class AlwaysAllow:
    async def authorize(self, attrs: AuthzAttributes) -> Decision:
        return ALLOW


class AlwaysDeny:
    async def authorize(self, attrs: AuthzAttributes) -> Decision:
        return Decision(NO_OPINION.verdict, "Everything is forbidden.")


class Rbac:
    """Purely additive: a request is allowed when some rule of some binding of its user allows it."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    async def authorize(self, attrs: AuthzAttributes) -> Decision:
        for binding, subject, rules in await self._grants(attrs.user, attrs.namespace if attrs.is_resource else ""):
            if any(rbac_rules.allows(rule, attrs) for rule in rules):
                return Decision(Verdict.allow, "RBAC: allowed by " + rbac_rules.describe_grant(binding, subject))
        return NO_OPINION

    async def rules_of(self, user: UserInfo, namespace: str) -> list[Rule]:
        """All rules that bindings give this user, cluster-wide ones first."""
        return [rule for _, _, rules in await self._grants(user, namespace) for rule in rules]

    async def _grants(self, user: UserInfo, namespace: str) -> list[tuple[Object, Object, list[Rule]]]:
        """Each binding of this user, the subject by which it is one, and the rules of its role: cluster-wide ones first."""
        found = []
        for binding in await self._lister.list(_GROUP, "clusterrolebindings"):
            subject = _subject(binding, user, "")
            if subject is not None:
                found.append((binding, subject, await self.role_rules(binding["roleRef"], "")))
        if namespace:
            for binding in await self._lister.list(_GROUP, "rolebindings", namespace):
                subject = _subject(binding, user, namespace)
                if subject is not None:
                    found.append((binding, subject, await self.role_rules(binding["roleRef"], namespace)))
        return found

    async def role_rules(self, reference: dict[str, Any], namespace: str) -> list[Rule]:
        """The rules of the role that a binding names; none when it does not exist."""
        if reference["kind"] == "ClusterRole":
            role = await self._lister.get(_GROUP, "clusterroles", "", reference["name"])
        else:
            role = await self._lister.get(_GROUP, "roles", namespace, reference["name"])
        return (role or {}).get("rules") or []


def _subject(binding: Object, user: UserInfo, namespace: str) -> Object | None:
    return next((subject for subject in binding.get("subjects") or () if rbac_rules.subject_matches(subject, user, namespace)), None)
