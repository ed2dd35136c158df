"""Carries out the plans for Deployments."""

from typing import Any

from kubette.apimachinery import meta, selectors, status
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.store import by_namespace
from kubette.kube_controller_manager import objects, pod_control
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.deployment import conditions, plan, replica_sets

Object = dict[str, Any]

PODS_BY_OWNER = "controller-uid"
NAMESPACE = "namespace"
_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def _by_owner(obj: Object) -> tuple[str, ...]:
    ref = meta.controller_of(obj)
    return (ref["uid"],) if ref else ()


class DeploymentController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("deployment-controller")
        self._recorder = context.recorder("deployment-controller", self._client)
        self._clock = context.clock
        self._deployments = context.informer(resources.DEPLOYMENTS, {NAMESPACE: by_namespace})
        self._replica_sets = context.informer(resources.REPLICASETS, {NAMESPACE: by_namespace})
        self._pods = context.informer(resources.PODS, {PODS_BY_OWNER: _by_owner})
        caches = (self._deployments, self._replica_sets, self._pods)
        self._controller = context.controller("deployment", self.reconcile, caches, context.options.concurrent_deployment_syncs)
        self._deployments.on_change(self._controller.enqueue)
        self._replica_sets.on_change(self._replica_set_changed)
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        await self._controller.run()

    def _replica_set_changed(self, rs: Object) -> None:
        ref = meta.controller_of(rs)
        if ref is not None:
            if ref.get("kind") == "Deployment":
                self._controller.enqueue_key(f"{meta.namespace(rs)}/{ref['name']}")
            return
        for deployment in self._deployments.store.by_index(NAMESPACE, meta.namespace(rs)):
            if selectors.from_label_selector(objects.spec(deployment).get("selector")).matches(meta.labels(rs)):
                self._controller.enqueue(deployment)

    def _pod_changed(self, pod: Object) -> None:
        """Only a Recreate rollout waits for pods themselves: for the old ones to end."""
        ref = meta.controller_of(pod)
        if ref is None or ref.get("kind") != "ReplicaSet":
            return
        rs = self._replica_sets.get(f"{meta.namespace(pod)}/{ref['name']}")
        owner = meta.controller_of(rs) if rs is not None else None
        if owner is None or owner.get("kind") != "Deployment":
            return
        deployment = self._deployments.get(f"{meta.namespace(pod)}/{owner['name']}")
        if deployment is not None and (objects.spec(deployment).get("strategy") or {}).get("type") == "Recreate":
            self._controller.enqueue(deployment)

    async def reconcile(self, key: str) -> Result:
        deployment = self._deployments.get(key)
        if deployment is None:
            return DONE
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", **deployment}
        selector = selectors.from_label_selector(objects.spec(deployment).get("selector"))
        if selector.empty:
            self._recorder.event(
                deployment, events.WARNING, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required."
            )
            return DONE
        candidates = self._replica_sets.store.by_index(NAMESPACE, meta.namespace(deployment))
        owned = await pod_control.claim(self._client, resources.REPLICASETS, resources.DEPLOYMENTS, deployment, selector, candidates)
        pods = [p for rs in owned for p in self._pods.store.by_index(PODS_BY_OWNER, meta.uid(rs))]
        decided = plan.plan_deployment(deployment, owned, pods, self._clock.wall())
        await self._carry_out(deployment, decided)
        return Result(decided.check_after_s)

    async def _carry_out(self, deployment: Object, decided: plan.Plan) -> None:
        if decided.create is not None:
            await self._create(deployment, decided)
        for change in decided.resize:
            await self._resize(deployment, change)
        for rs in decided.delete:
            try:
                await self._client.delete(resources.REPLICASETS, meta.namespace(rs), meta.name(rs), uid=meta.uid(rs))
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise
        if decided.revision:
            annotations = {**meta.annotations(deployment), replica_sets.REVISION: decided.revision}
            body = {**deployment, "metadata": {**deployment["metadata"], "annotations": annotations}}
            deployment = {"apiVersion": "apps/v1", "kind": "Deployment", **await self._client.update(resources.DEPLOYMENTS, body)}
        if decided.status is not None and objects.without_zeros(decided.status, *_COUNTS) != objects.status(deployment):
            await self._update_status(deployment, decided.status)

    async def _update_status(self, deployment: Object, new_status: Object) -> None:
        new_status = objects.without_zeros(new_status, *_COUNTS)
        await self._client.update(resources.DEPLOYMENTS, objects.with_status(deployment, new_status), "status")

    async def _create(self, deployment: Object, decided: plan.Plan) -> None:
        rs = decided.create
        assert rs is not None
        assert decided.status is not None
        name, now = meta.name(rs), self._clock.wall()
        try:
            await self._client.create(resources.REPLICASETS, meta.namespace(rs), rs)
        except status.ApiError as error:
            if not status.is_already_exists(error):
                if not any(c.get("reason") == "NamespaceTerminating" for c in error.details.get("causes") or ()):
                    message = f'Failed to create new replica set "{name}": {error}'
                    self._recorder.event(deployment, events.WARNING, conditions.FAILED_CREATE, message)
                    if conditions.has_deadline(deployment):
                        failed = conditions.make(conditions.PROGRESSING, "False", conditions.FAILED_CREATE, message, now)
                        decided.status["conditions"] = objects.set_condition(decided.status["conditions"], failed)
                        await self._update_status(deployment, decided.status)
                raise
            await self._resolve_collision(deployment, rs, decided)
            return
        count = replica_sets.replicas(rs)
        if count > 0:
            self._recorder.event(deployment, events.NORMAL, "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {count}")
        if conditions.has_deadline(deployment):
            created = conditions.make(conditions.PROGRESSING, "True", conditions.NEW_REPLICA_SET_CREATED, f'Created new replica set "{name}"', now)
            decided.status["conditions"] = objects.set_condition(decided.status["conditions"], created)

    async def _resolve_collision(self, deployment: Object, rs: Object, decided: plan.Plan) -> None:
        """The name is taken: by our own earlier attempt that the cache does not show yet, or by a stranger (then another hash)."""
        existing = await self._client.get(resources.REPLICASETS, meta.namespace(rs), meta.name(rs))
        same = replica_sets.same_template(existing["spec"]["template"], deployment["spec"]["template"])
        if meta.is_controlled_by(existing, deployment) and same:
            return
        count = int(objects.status(deployment).get("collisionCount") or 0) + 1
        await self._update_status(deployment, {**objects.status(deployment), "collisionCount": count})
        raise status.already_exists("replicasets.apps", meta.name(rs))

    async def _resize(self, deployment: Object, change: plan.Resize) -> None:
        rs = change.replica_set
        before = replica_sets.replicas(rs)
        body = {**rs, "metadata": {**rs["metadata"], "annotations": change.annotations}, "spec": {**rs["spec"], "replicas": change.replicas}}
        if change.min_ready_s is not None:
            body["spec"]["minReadySeconds"] = change.min_ready_s
        await self._client.update(resources.REPLICASETS, body)
        if change.replicas != before:
            direction = "up" if change.replicas > before else "down"
            message = f"Scaled {direction} replica set {meta.name(rs)} from {before} to {change.replicas}"
            self._recorder.event(deployment, events.NORMAL, "ScalingReplicaSet", message)
