"""Carries out the plans for DaemonSets."""

import asyncio
from typing import Any

from kubette.apimachinery import meta, selectors
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.store import by_namespace, key_of
from kubette.kube_controller_manager import expectations, objects, pod_control, revision_control, revisions
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.daemonset import nodes, plan
from kubette.stdx.backoff import Backoff

Object = dict[str, Any]

NAMESPACE = "namespace"
FAILED_POD_BACKOFF = Backoff(base_s=1.0, cap_s=900.0)


class DaemonSetController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("daemon-set-controller")
        self._recorder = context.recorder("daemonset-controller", self._client)
        self._control = pod_control.PodControl(self._client, self._recorder)
        self._clock = context.clock
        self._expectations = expectations.Expectations()
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (uid of the set, node) -> failures, next allowed kill
        self._sets = context.informer(resources.DAEMONSETS, {NAMESPACE: by_namespace})
        self._pods = context.informer(resources.PODS, {NAMESPACE: by_namespace})
        self._nodes = context.informer(resources.NODES)
        self._revisions = context.informer(resources.CONTROLLERREVISIONS, {NAMESPACE: by_namespace})
        caches = (self._sets, self._pods, self._nodes, self._revisions)
        self._controller = context.controller("daemonset", self.reconcile, caches, context.options.concurrent_daemonset_syncs)
        self._sets.on_change(self._controller.enqueue)
        self._pods.add_handler(Handler(self._pod_added, self._pod_updated, self._pod_deleted))
        self._nodes.add_handler(Handler(self._node_added, self._node_updated, lambda _: self._enqueue_all()))

    async def run(self) -> None:
        await self._controller.run()

    def _owner_key(self, pod: Object) -> str | None:
        ref = meta.controller_of(pod)
        if ref is None or ref.get("kind") != "DaemonSet":
            return None
        key = f"{meta.namespace(pod)}/{ref['name']}"
        daemon_set = self._sets.get(key)
        return key if daemon_set is not None and meta.uid(daemon_set) == ref.get("uid") else None

    def _pod_added(self, pod: Object) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_observed(key)
            self._controller.enqueue_key(key)

    def _pod_updated(self, old: Object, new: Object) -> None:
        for key in {k for k in (self._owner_key(old), self._owner_key(new)) if k is not None}:
            self._controller.enqueue_key(key)

    def _pod_deleted(self, pod: Object) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.deletion_observed(key, key_of(pod))
            self._controller.enqueue_key(key)

    def _enqueue_all(self) -> None:
        for daemon_set in self._sets.list():
            self._controller.enqueue(daemon_set)

    def _node_added(self, node: Object) -> None:
        for daemon_set in self._sets.list():
            if nodes.should_run(daemon_set, node)[0]:
                self._controller.enqueue(daemon_set)

    def _node_updated(self, old: Object, new: Object) -> None:
        # Heartbeats change neither labels nor taints, and come all the time.
        if meta.labels(old) == meta.labels(new) and objects.spec(old).get("taints") == objects.spec(new).get("taints"):
            return
        for daemon_set in self._sets.list():
            if nodes.should_run(daemon_set, old) != nodes.should_run(daemon_set, new):
                self._controller.enqueue(daemon_set)

    async def reconcile(self, key: str) -> Result:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            self._expectations.forget(key)
            return DONE
        daemon_set = {"apiVersion": "apps/v1", "kind": "DaemonSet", **daemon_set}
        selector = selectors.from_label_selector(objects.spec(daemon_set).get("selector"))
        if selector.empty:
            self._recorder.event(
                daemon_set, events.WARNING, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required."
            )
            return DONE
        if meta.is_being_deleted(daemon_set):
            return DONE
        known = [r for r in self._revisions.store.by_index(NAMESPACE, meta.namespace(daemon_set)) if meta.is_controlled_by(r, daemon_set)]
        current = await revision_control.current_revision(self._client, resources.DAEMONSETS, daemon_set, plan.template_data(daemon_set), known)
        revision_hash = meta.labels(current).get(revisions.HASH_LABEL, "")
        owned = await self._claim(daemon_set, selector)
        error: BaseException | None = None
        wait_s: float | None = None
        if self._expectations.satisfied(key, self._clock.monotonic()):
            decided = plan.plan_manage(daemon_set, self._nodes.list(), owned)
            wait_s = self._hold_back_failing(daemon_set, decided)
            error = await self._carry_out(key, daemon_set, decided, revision_hash)
            if error is None and not decided.create and not decided.delete:
                decided = plan.plan_update(daemon_set, self._nodes.list(), owned, revision_hash, self._clock.wall())
                error = await self._carry_out(key, daemon_set, decided, revision_hash)
                live = {meta.name(current)} | {self._revision_name(p, known) for p in owned}
                limit = int(objects.spec(daemon_set).get("revisionHistoryLimit", 10))
                await revision_control.forget(self._client, revisions.surplus(known, live, limit))
        found = plan.new_status(daemon_set, self._nodes.list(), owned, revision_hash, self._clock.wall())
        if not plan.same_status(daemon_set, found):
            shown = objects.without_zeros(found, "updatedNumberScheduled", "numberAvailable", "numberUnavailable")
            await self._client.update(resources.DAEMONSETS, objects.with_status(daemon_set, shown), "status")
        if error is not None:
            raise error
        min_ready_s = int(objects.spec(daemon_set).get("minReadySeconds") or 0)
        if min_ready_s and found["numberReady"] != found["numberAvailable"]:
            return Result(float(min_ready_s))
        return Result(wait_s)

    async def _claim(self, daemon_set: Object, selector: selectors.Selector) -> list[Object]:
        candidates = self._pods.store.by_index(NAMESPACE, meta.namespace(daemon_set))
        return await pod_control.claim(self._client, resources.PODS, resources.DAEMONSETS, daemon_set, selector, candidates)

    def _revision_name(self, pod: Object, known: list[Object]) -> str:
        wanted = meta.labels(pod).get(revisions.HASH_LABEL)
        return next((meta.name(r) for r in known if meta.labels(r).get(revisions.HASH_LABEL) == wanted), "")

    def _hold_back_failing(self, daemon_set: Object, decided: plan.Plan) -> float | None:
        """A daemon that fails at once is not killed and remade in a tight loop; answers how long the next has to wait."""
        wait_s: float | None = None
        now = self._clock.monotonic()
        for pod in decided.failed:
            node = nodes.node_of(pod)
            key = (meta.uid(daemon_set), node)
            failures, allowed_at = self._failures.get(key, (0, 0.0))
            if now < allowed_at:
                decided.delete.remove(pod)
                wait_s = min(wait_s or allowed_at - now, allowed_at - now)
                continue
            self._failures[key] = (failures + 1, now + FAILED_POD_BACKOFF.delay(failures))
            message = f"Found failed daemon pod {key_of(pod)} on node {node}, will try to kill it"
            self._recorder.event(daemon_set, events.WARNING, "FailedDaemonPod", message)
        return wait_s

    async def _carry_out(self, key: str, daemon_set: Object, decided: plan.Plan, revision_hash: str) -> BaseException | None:
        if not decided.create and not decided.delete:
            return None
        self._expectations.add(key, len(decided.create), [key_of(p) for p in decided.delete], self._clock.monotonic())
        first: BaseException | None = None
        remaining = list(decided.create)
        for size in expectations.slow_start_batches(len(decided.create)):
            batch, remaining = remaining[:size], remaining[size:]
            outcomes = await asyncio.gather(*(self._create(daemon_set, n, revision_hash) for n in batch), return_exceptions=True)
            errors = [o for o in outcomes if isinstance(o, BaseException)]
            for _ in errors:
                self._expectations.creation_observed(key)
            if errors:
                for _ in remaining:
                    self._expectations.creation_observed(key)
                first = errors[0]
                break
        outcomes = await pod_control.gather(self._control.delete(daemon_set, p) for p in decided.delete)
        for pod, outcome in zip(decided.delete, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                self._expectations.deletion_observed(key, key_of(pod))
                first = first or outcome
        return first

    async def _create(self, daemon_set: Object, node_name: str, revision_hash: str) -> None:
        await self._control.create(daemon_set, meta.namespace(daemon_set), nodes.new_pod(daemon_set, node_name, revision_hash))
