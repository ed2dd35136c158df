"""Fills the rules of ClusterRoles that have an aggregationRule."""

from typing import Any

from kubette.apimachinery import meta, selectors
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]


def aggregate(role: Object, all_roles: list[Object]) -> list[Object]:
    """Pure: the rules of every role that one of its selectors matches, each once, by the roles' names."""
    rules: list[Object] = []
    ordered = sorted(all_roles, key=meta.name)
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []:
        matching = selectors.from_label_selector(selector)
        for other in ordered:
            if meta.name(other) == meta.name(role) or not matching.matches(meta.labels(other)):
                continue
            rules += [r for r in other.get("rules") or [] if r not in rules]
    return rules


class ClusterRoleAggregationController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("clusterrole-aggregation-controller")
        self._roles = context.informer(resources.CLUSTERROLES)
        self._controller = context.controller("ClusterRoleAggregator", self.reconcile, (self._roles,))
        self._roles.on_change(lambda _: self._enqueue_all())

    def _enqueue_all(self) -> None:
        """Any role may be part of any aggregate; there are few of these."""
        for role in self._roles.list():
            if role.get("aggregationRule"):
                self._controller.enqueue(role)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        role = self._roles.get(name)
        if role is None or not role.get("aggregationRule"):
            return DONE
        rules = aggregate(role, self._roles.list())
        current = role.get("rules") or []
        if len(rules) == len(current) and all(r in current for r in rules):
            return DONE
        body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
        await self._client.apply(resources.CLUSTERROLES, body, field_manager="clusterrole-aggregation-controller", force=True)
        return DONE
