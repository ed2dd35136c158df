"""Deletes pods from nodes with NoExecute taints when their toleration ends."""

from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.rest import PatchType
from kubette.client.store import by_node, key_of
from kubette.component_base import logs
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.taint_eviction import plan

Object = dict[str, Any]

log = logs.logger(__name__)


class TaintEvictionController:
    """One key a pod. When it was first seen to be unwelcome is remembered; the taint's removal cancels."""

    def __init__(self, context: Context) -> None:
        self._client = context.client_of("node-controller")
        self._recorder = context.recorder("taint-eviction-controller", self._client)
        self._clock = context.clock
        self._nodes = context.informer(resources.NODES)
        self._pods = context.informer(resources.PODS, {"node": by_node})
        self._since: dict[str, tuple[str, float]] = {}  # key -> (uid, monotonic time)
        self._controller = context.controller("taint_eviction", self.reconcile, (self._nodes, self._pods), workers=8)
        self._pods.add_handler(Handler(self._pod_changed, lambda _, new: self._pod_changed(new), self._pod_deleted))
        self._nodes.add_handler(Handler(self._node_added, self._node_updated))

    async def run(self) -> None:
        await self._controller.run()

    def _pod_changed(self, pod: Object) -> None:
        node = self._nodes.get(objects.spec(pod).get("nodeName") or "")
        if key_of(pod) in self._since or (node is not None and plan.no_execute(objects.spec(node).get("taints") or [])):
            self._controller.enqueue(pod)

    def _pod_deleted(self, pod: Object) -> None:
        self._since.pop(key_of(pod), None)

    def _node_added(self, node: Object) -> None:
        if plan.no_execute(objects.spec(node).get("taints") or []):
            self._enqueue_pods(node)

    def _node_updated(self, old: Object, new: Object) -> None:
        if plan.no_execute(objects.spec(old).get("taints") or []) != plan.no_execute(objects.spec(new).get("taints") or []):
            self._enqueue_pods(new)

    def _enqueue_pods(self, node: Object) -> None:
        for pod in self._pods.store.by_index("node", meta.name(node)):
            self._controller.enqueue(pod)

    async def reconcile(self, key: str) -> Result:
        pod = self._pods.get(key)
        node = self._nodes.get(objects.spec(pod).get("nodeName") or "") if pod is not None else None
        if pod is None or node is None or pods.is_terminal(pod) or meta.is_being_deleted(pod):
            self._since.pop(key, None)
            return DONE
        taints = plan.no_execute(objects.spec(node).get("taints") or [])
        stay_s = plan.stay_s(taints, objects.spec(pod).get("tolerations") or []) if taints else None
        reference = {**pod, "apiVersion": "v1", "kind": "Pod"}
        if stay_s is None:
            if self._since.pop(key, None) is not None:
                self._recorder.event(reference, events.NORMAL, "TaintManagerEviction", f"Cancelling deletion of Pod {key}")
            return DONE
        now = self._clock.monotonic()
        uid, since = self._since.get(key, ("", now))
        if uid != meta.uid(pod):
            since = now
        self._since[key] = (meta.uid(pod), since)
        if since + stay_s > now:
            return Result(since + stay_s - now)
        self._recorder.event(reference, events.NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {key}")
        await self._evict(pod)
        self._since.pop(key, None)
        return DONE

    async def _evict(self, pod: Object) -> None:
        namespace, name = meta.namespace(pod), meta.name(pod)
        log.info("Deleting pod", pod=key_of(pod))
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": timestamps.format_time(self._clock.wall()),
        }
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(resources.PODS, namespace, name, patch, PatchType.STRATEGIC, "status")
            await self._client.delete(resources.PODS, namespace, name, uid=meta.uid(pod))
        except status.ApiError as error:
            if error.code not in (404, 409):
                raise
