"""A claim in use by a pod, and a volume bound to a claim, are deleted only after that: their finalizer is taken away here (KEP-498, KEP-499)."""

from typing import Any

from kubette.apimachinery import meta
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.persistent_volumes.controller import by_claim

Object = dict[str, Any]

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"


def with_finalizer(obj: Object, finalizer: str, wanted: bool) -> Object:
    """Pure: the object with the finalizer there, or not."""
    left = [one for one in meta.finalizers(obj) if one != finalizer]
    return {**obj, "metadata": {**obj["metadata"], "finalizers": [*left, finalizer] if wanted else left}}


class ClaimProtection:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("pvc-protection-controller")
        self._claims = context.informer(resources.PERSISTENTVOLUMECLAIMS)
        self._pods = context.informer(resources.PODS, {"claim": by_claim})
        self._controller = context.controller("pvcprotection", self.reconcile, (self._claims, self._pods))
        enqueue = self._controller.enqueue
        self._claims.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))
        self._pods.add_handler(Handler(on_delete=self._pod_gone))

    def _pod_gone(self, pod: Object) -> None:
        for key in by_claim(pod):
            self._controller.enqueue_key(key)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        claim = self._claims.get(key)
        if claim is None:
            return DONE
        protected = CLAIM_FINALIZER in meta.finalizers(claim)
        if meta.is_being_deleted(claim):
            if protected and not await self._is_used(claim):
                await self._client.update(resources.PERSISTENTVOLUMECLAIMS, with_finalizer(claim, CLAIM_FINALIZER, False))
        elif not protected:
            await self._client.update(resources.PERSISTENTVOLUMECLAIMS, with_finalizer(claim, CLAIM_FINALIZER, True))
        return DONE

    async def _is_used(self, claim: Object) -> bool:
        """By a pod that has a node: no kubelet starts one with a claim that is going. The server is asked when the cache knows of none."""
        key = meta.key(claim)
        if any(objects.spec(pod).get("nodeName") for pod in self._pods.store.by_index("claim", key)):
            return True
        pods, _ = await self._client.list_all(resources.PODS, meta.namespace(claim))
        return any(key in by_claim(pod) and objects.spec(pod).get("nodeName") for pod in pods)


class VolumeProtection:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("pv-protection-controller")
        self._volumes = context.informer(resources.PERSISTENTVOLUMES)
        self._controller = context.controller("pvprotection", self.reconcile, (self._volumes,))
        enqueue = self._controller.enqueue
        self._volumes.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        volume = self._volumes.get(name)
        if volume is None:
            return DONE
        protected = VOLUME_FINALIZER in meta.finalizers(volume)
        if meta.is_being_deleted(volume):
            if protected and objects.status(volume).get("phase") != "Bound":
                await self._client.update(resources.PERSISTENTVOLUMES, with_finalizer(volume, VOLUME_FINALIZER, False))
        elif not protected:
            await self._client.update(resources.PERSISTENTVOLUMES, with_finalizer(volume, VOLUME_FINALIZER, True))
        return DONE
