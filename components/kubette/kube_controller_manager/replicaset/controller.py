"""Carries out the plans for ReplicaSets, and for ReplicationControllers, which differ in their selector only."""

from typing import Any

from kubette.apimachinery import meta, selectors
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.resources import Resource
from kubette.client.store import by_namespace, key_of
from kubette.kube_controller_manager import expectations, objects, pod_control, pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.replicaset import plan

Object = dict[str, Any]

NAMESPACE = "namespace"


class ReplicaSetController:
    resource: Resource = resources.REPLICASETS
    name = "replicaset"
    account = "replicaset-controller"

    def __init__(self, context: Context) -> None:
        self._client = context.client_of(self.account)
        self._control = pod_control.PodControl(self._client, context.recorder(self.account, self._client))
        self._clock = context.clock
        self._expectations = expectations.Expectations()
        self._sets = context.informer(self.resource, {NAMESPACE: by_namespace})
        self._pods = context.informer(resources.PODS, {NAMESPACE: by_namespace})
        self._controller = context.controller(self.name, self.reconcile, (self._sets, self._pods), self._workers(context.options))
        self._sets.add_handler(Handler(self._controller.enqueue, lambda _, new: self._controller.enqueue(new), self._set_deleted))
        self._pods.add_handler(Handler(self._pod_added, self._pod_updated, self._pod_deleted))

    def _workers(self, options: Any) -> int:
        return int(options.concurrent_replicaset_syncs)

    def selector(self, rs: Object) -> selectors.Selector:
        return selectors.from_label_selector(objects.spec(rs).get("selector"))

    async def run(self) -> None:
        await self._controller.run()

    # Events, translated to keys

    def _set_deleted(self, rs: Object) -> None:
        self._expectations.forget(key_of(rs))
        self._controller.enqueue(rs)

    def _owner_key(self, pod: Object) -> str | None:
        """The key of the owning set, if the reference's uid is that of the set of that name."""
        ref = meta.controller_of(pod)
        if ref is None or ref.get("kind") != self.resource.kind:
            return None
        key = f"{meta.namespace(pod)}/{ref['name']}"
        rs = self._sets.get(key)
        return key if rs is not None and meta.uid(rs) == ref.get("uid") else None

    def _pod_added(self, pod: Object) -> None:
        if meta.is_being_deleted(pod):
            self._pod_deleted(pod)
            return
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_observed(key)
            self._controller.enqueue_key(key)
        elif meta.controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if meta.is_being_deleted(new):
            # Going is as good as gone: it counts no longer, and a grace period may be long.
            self._pod_deleted(new)
        old_key, key = self._owner_key(old), self._owner_key(new)
        for changed in {k for k in (old_key, key) if k is not None}:
            self._controller.enqueue_key(changed)
        if key is None and meta.controller_of(new) is None:
            self._enqueue_matching(new)

    def _pod_deleted(self, pod: Object) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.deletion_observed(key, key_of(pod))
            self._controller.enqueue_key(key)

    def _enqueue_matching(self, pod: Object) -> None:
        if not meta.labels(pod):
            return
        for rs in self._sets.store.by_index(NAMESPACE, meta.namespace(pod)):
            if self.selector(rs).matches(meta.labels(pod)):
                self._controller.enqueue(rs)

    # Reconciling

    async def reconcile(self, key: str) -> Result:
        rs = self._sets.get(key)
        if rs is None:
            self._expectations.forget(key)
            return DONE
        rs = {"apiVersion": self.resource.api_version, "kind": self.resource.kind, **rs}
        trusted = self._expectations.satisfied(key, self._clock.monotonic())
        siblings = self._pods.store.by_index(NAMESPACE, meta.namespace(rs))
        candidates = [p for p in siblings if pods.is_active(p)]
        active = await pod_control.claim(self._client, resources.PODS, self.resource, rs, self.selector(rs), candidates)
        failure: tuple[str, str] | None = None
        error: BaseException | None = None
        if trusted and not meta.is_being_deleted(rs):
            decided = plan.plan_replicas(rs, active, self._related(rs, siblings), self._clock.wall())
            failure, error = await self._carry_out(key, rs, decided)
        now = self._clock.wall()
        found = plan.new_status(rs, active, failure, now)
        if not plan.same_status(rs, found):
            shown = objects.without_zeros(found, "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
            await self._client.update(self.resource, objects.with_status(rs, shown), "status")
        if error is not None:
            raise error
        return Result(plan.next_availability_check_s(rs, active, now))

    def _related(self, rs: Object, siblings: list[Object]) -> list[Object]:
        """The pods of all sets with the same owner."""
        owner = meta.controller_of(rs)
        if owner is None:
            return [p for p in siblings if meta.is_controlled_by(p, rs)]
        family = {
            meta.uid(s)
            for s in self._sets.store.by_index(NAMESPACE, meta.namespace(rs))
            if (meta.controller_of(s) or {}).get("uid") == owner.get("uid")
        }
        return [p for p in siblings if pods.is_active(p) and (meta.controller_of(p) or {}).get("uid") in family]

    async def _carry_out(self, key: str, rs: Object, decided: plan.Plan) -> tuple[tuple[str, str] | None, BaseException | None]:
        if decided.create:
            error = await self._create(key, rs, decided.create)
            return (("FailedCreate", str(error)) if error is not None else None), error
        if decided.delete:
            error = await self._delete(key, rs, decided.delete)
            return (("FailedDelete", str(error)) if error is not None else None), error
        return None, None

    async def _create(self, key: str, rs: Object, count: int) -> BaseException | None:
        self._expectations.expect_creations(key, count, self._clock.monotonic())
        reference = meta.controller_reference(rs, self.resource.api_version, self.resource.kind)
        pod = pods.from_template(rs["spec"]["template"], reference, meta.name(rs) + "-")
        remaining = count
        for size in expectations.slow_start_batches(count):
            outcomes = await pod_control.gather(self._control.create(rs, meta.namespace(rs), pod) for _ in range(size))
            errors = [o for o in outcomes if isinstance(o, BaseException)]
            remaining -= size
            for _ in errors:
                self._expectations.creation_observed(key)
            if errors:
                # What will not even be tried will not be seen either.
                for _ in range(remaining):
                    self._expectations.creation_observed(key)
                return errors[0]
        return None

    async def _delete(self, key: str, rs: Object, doomed: list[Object]) -> BaseException | None:
        self._expectations.expect_deletions(key, [key_of(p) for p in doomed], self._clock.monotonic())
        outcomes = await pod_control.gather(self._control.delete(rs, p) for p in doomed)
        first: BaseException | None = None
        for pod, outcome in zip(doomed, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                self._expectations.deletion_observed(key, key_of(pod))
                first = first or outcome
        return first


class ReplicationControllerController(ReplicaSetController):
    """The same for the older kind: its selector is a plain map of labels."""

    resource = resources.REPLICATIONCONTROLLERS
    name = "replicationcontroller"
    account = "replication-controller"

    def _workers(self, options: Any) -> int:
        return int(options.concurrent_rc_syncs)

    def selector(self, rs: Object) -> selectors.Selector:
        return selectors.from_label_selector({"matchLabels": objects.spec(rs).get("selector") or {}})
