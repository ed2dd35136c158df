"""Carries out the plans for StatefulSets."""

from typing import Any

from kubette.apimachinery import meta, selectors, status
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.rest import FAILURES
from kubette.client.store import by_namespace
from kubette.kube_controller_manager import objects, pod_control, revision_control, revisions
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.statefulset import plan, pods_of

Object = dict[str, Any]

NAMESPACE = "namespace"


class StatefulSetController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("statefulset-controller")
        self._recorder = context.recorder("statefulset-controller", self._client)
        self._clock = context.clock
        self._sets = context.informer(resources.STATEFULSETS, {NAMESPACE: by_namespace})
        self._pods = context.informer(resources.PODS, {NAMESPACE: by_namespace})
        self._revisions = context.informer(resources.CONTROLLERREVISIONS, {NAMESPACE: by_namespace})
        self._claims = context.informer(resources.PERSISTENTVOLUMECLAIMS)
        caches = (self._sets, self._pods, self._revisions, self._claims)
        self._controller = context.controller("statefulset", self.reconcile, caches, context.options.concurrent_statefulset_syncs)
        self._sets.on_change(self._controller.enqueue)
        self._pods.on_change(self._pod_changed)

    def _pod_changed(self, pod: Object) -> None:
        ref = meta.controller_of(pod)
        if ref is not None:
            if ref.get("kind") == "StatefulSet":
                self._controller.enqueue_key(f"{meta.namespace(pod)}/{ref['name']}")
            return
        for found in self._sets.store.by_index(NAMESPACE, meta.namespace(pod)):
            if pods_of.is_member(found, pod):
                self._controller.enqueue(found)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        stateful_set = self._sets.get(key)
        if stateful_set is None:
            return DONE
        stateful_set = {"apiVersion": "apps/v1", "kind": "StatefulSet", **stateful_set}
        selector = selectors.from_label_selector(objects.spec(stateful_set).get("selector"))
        candidates = [p for p in self._pods.store.by_index(NAMESPACE, meta.namespace(stateful_set)) if pods_of.is_member(stateful_set, p)]
        owned = await pod_control.claim(self._client, resources.PODS, resources.STATEFULSETS, stateful_set, selector, candidates)
        known = [r for r in self._revisions.store.by_index(NAMESPACE, meta.namespace(stateful_set)) if meta.is_controlled_by(r, stateful_set)]
        update = await revision_control.current_revision(self._client, resources.STATEFULSETS, stateful_set, plan.template_data(stateful_set), known)
        wanted = objects.status(stateful_set).get("currentRevision")
        current = next((r for r in known if meta.name(r) == wanted), update)
        decided = plan.plan_set(stateful_set, owned, meta.name(current), meta.name(update), self._clock.wall())
        for number, is_new in decided.create:
            await self._create(stateful_set, update if is_new else current, number)
        for pod in decided.delete:
            await self._delete(stateful_set, pod)
        shown = objects.without_zeros(decided.status or {}, "readyReplicas", "currentReplicas", "updatedReplicas")
        if shown != objects.status(stateful_set):
            await self._client.update(resources.STATEFULSETS, objects.with_status(stateful_set, shown), "status")
        live = {meta.name(current), meta.name(update)} | {pods_of.revision_of(p) for p in owned}
        limit = objects.spec(stateful_set).get("revisionHistoryLimit")
        await revision_control.forget(self._client, revisions.surplus(known, live, 10 if limit is None else int(limit)))
        return Result(decided.check_after_s)

    async def _create(self, stateful_set: Object, revision: Object, number: int) -> None:
        template = {k: v for k, v in revision["data"]["spec"]["template"].items() if k != "$patch"}
        pod = pods_of.new_pod(stateful_set, template, meta.name(revision), number)
        name, owner = meta.name(pod), meta.name(stateful_set)
        # Storage first: a pod whose claim is missing would only wait for it.
        for claim in pods_of.claims(stateful_set, number):
            await self._ensure_claim(stateful_set, claim, name)
        try:
            await self._client.create(resources.PODS, meta.namespace(stateful_set), pod)
        except FAILURES as error:
            if status.is_already_exists(error):
                return  # ours, not in the cache yet; or a predecessor that is still going
            self._recorder.event(stateful_set, events.WARNING, "FailedCreate", f"create Pod {name} in StatefulSet {owner} failed error: {error}")
            raise
        self._recorder.event(stateful_set, events.NORMAL, "SuccessfulCreate", f"create Pod {name} in StatefulSet {owner} successful")

    async def _ensure_claim(self, stateful_set: Object, claim: Object, pod_name: str) -> None:
        if self._claims.get(meta.key(claim)) is not None:
            return
        text = f"create Claim {meta.name(claim)} Pod {pod_name} in StatefulSet {meta.name(stateful_set)}"
        try:
            await self._client.create(resources.PERSISTENTVOLUMECLAIMS, meta.namespace(claim), claim)
        except FAILURES as error:
            if status.is_already_exists(error):
                return
            self._recorder.event(stateful_set, events.WARNING, "FailedCreate", f"{text} failed error: {error}")
            raise
        self._recorder.event(stateful_set, events.NORMAL, "SuccessfulCreate", f"{text} success")

    async def _delete(self, stateful_set: Object, pod: Object) -> None:
        text = f"delete Pod {meta.name(pod)} in StatefulSet {meta.name(stateful_set)}"
        try:
            await self._client.delete(resources.PODS, meta.namespace(pod), meta.name(pod), uid=meta.uid(pod))
        except FAILURES as error:
            if status.is_not_found(error):
                return
            self._recorder.event(stateful_set, events.WARNING, "FailedDelete", f"{text} failed error: {error}")
            raise
        self._recorder.event(stateful_set, events.NORMAL, "SuccessfulDelete", f"{text} successful")
