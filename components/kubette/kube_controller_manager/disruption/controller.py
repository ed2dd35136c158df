"""Keeps the status of PodDisruptionBudgets: what the eviction API grants by."""

from typing import Any

from kubette.apimachinery import meta, selectors
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Informer
from kubette.client.store import by_namespace
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.disruption import plan

Object = dict[str, Any]

NAMESPACE = "namespace"


class DisruptionController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("disruption-controller")
        self._recorder = context.recorder("controllermanager", self._client)
        self._clock = context.clock
        self._budgets = context.informer(resources.PODDISRUPTIONBUDGETS, {NAMESPACE: by_namespace})
        self._pods = context.informer(resources.PODS, {NAMESPACE: by_namespace})
        self._scales: dict[str, Informer] = {
            r.kind: context.informer(r)
            for r in (resources.REPLICASETS, resources.DEPLOYMENTS, resources.STATEFULSETS, resources.REPLICATIONCONTROLLERS)
        }
        caches = (self._budgets, self._pods, *self._scales.values())
        self._controller = context.controller("disruption", self.reconcile, caches, workers=2)
        self._budgets.on_change(self._controller.enqueue)
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, pod: Object) -> None:
        for budget in self._budgets.store.by_index(NAMESPACE, meta.namespace(pod)):
            if selectors.from_label_selector(objects.spec(budget).get("selector")).matches(meta.labels(pod)):
                self._controller.enqueue(budget)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        budget = self._budgets.get(key)
        if budget is None:
            return DONE
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", **budget}
        selector = selectors.from_label_selector(objects.spec(budget).get("selector"))
        candidates = self._pods.store.by_index(NAMESPACE, meta.namespace(budget))
        members = [p for p in candidates if selector.matches(meta.labels(p)) and not pods.is_terminal(p)]
        if not members:
            self._recorder.event(budget, events.NORMAL, "NoPods", "No matching pods found")
        scale = self._expected_scale(budget, members) if plan.needs_scale(budget) else 0
        now = self._clock.wall()
        found, recheck = plan.new_status(budget, members, scale, now)
        if not plan.same(objects.status(budget), found):
            await self._client.update(resources.PODDISRUPTIONBUDGETS, objects.with_status(budget, found), "status")
        return Result(max(0.0, recheck - now)) if recheck is not None else DONE

    def _expected_scale(self, budget: Object, members: list[Object]) -> int:
        """The replicas of every controller that has a pod here; a pod without one counts for nothing, and is said."""
        scales: dict[str, int] = {}
        for pod in members:
            owner = self._scaled_owner(meta.namespace(pod), meta.controller_of(pod))
            if owner is None:
                message = f"Pods selected by this PodDisruptionBudget (selector: {objects.spec(budget).get('selector')}) were found to be unmanaged."
                self._recorder.event(budget, events.WARNING, "UnmanagedPods", message)
                continue
            scales[meta.uid(owner)] = int(objects.spec(owner).get("replicas", 1))
        return sum(scales.values())

    def _scaled_owner(self, namespace: str, ref: Object | None) -> Object | None:
        """The controller with a scale: of a Deployment's ReplicaSet it is the Deployment."""
        if ref is None or ref.get("kind") not in self._scales:
            return None
        owner = self._scales[ref["kind"]].get(f"{namespace}/{ref['name']}")
        if owner is None or meta.uid(owner) != ref.get("uid"):
            return None
        above = meta.controller_of(owner)
        if ref["kind"] == "ReplicaSet" and above is not None and above.get("kind") == "Deployment":
            return self._scaled_owner(namespace, above)
        return owner
