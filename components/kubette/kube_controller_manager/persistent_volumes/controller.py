"""The binder: does what `plan.py` decides, for claims and volumes by one worker, so that two claims never reach for one volume at once."""

import asyncio
import shutil
from typing import Any

from kubette.api import volumes
from kubette.apimachinery import meta, status, timestamps
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.component_base import logs
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.persistent_volumes import plan, recycler

Object = dict[str, Any]

log = logs.logger(__name__)

_CLAIM, _VOLUME = "claim:", "volume:"


def by_claim(pod: Object) -> list[str]:
    return [f"{meta.namespace(pod)}/{name}" for name in volumes.claims_of(pod)]


class PersistentVolumeBinder:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("persistent-volume-binder")
        self._recorder = context.recorder("persistentvolume-controller", self._client)
        self._clock = context.clock
        self._sync_period_s = context.options.pvclaimbinder_sync_period
        self._claims = context.informer(resources.PERSISTENTVOLUMECLAIMS)
        self._volumes = context.informer(resources.PERSISTENTVOLUMES)
        self._classes = context.informer(resources.STORAGECLASSES)
        self._pods = context.informer(resources.PODS, {"claim": by_claim})
        caches = (self._claims, self._volumes, self._classes, self._pods)
        self._controller = context.controller("persistentvolume_binder", self.reconcile, caches, workers=1)
        self._claims.on_change(self._claim_changed)
        self._volumes.on_change(self._volume_changed)
        self._classes.on_change(lambda _: self._ask_pending())
        self._pods.add_handler(Handler(self._pod_added))

    def _claim_changed(self, claim: Object) -> None:
        self._controller.enqueue_key(_CLAIM + meta.key(claim))
        name = objects.spec(claim).get("volumeName")
        if name:
            self._controller.enqueue_key(_VOLUME + name)

    def _volume_changed(self, volume: Object) -> None:
        self._controller.enqueue_key(_VOLUME + meta.name(volume))
        reference = objects.spec(volume).get("claimRef")
        if reference:
            self._controller.enqueue_key(f"{_CLAIM}{reference.get('namespace')}/{reference.get('name')}")
        elif objects.status(volume).get("phase") == "Available":
            self._ask_pending()

    def _pod_added(self, pod: Object) -> None:
        for key in by_claim(pod):
            claim = self._claims.get(key)
            if claim is not None and not objects.spec(claim).get("volumeName"):
                self._controller.enqueue_key(_CLAIM + key)

    def _ask_pending(self) -> None:
        for claim in self._claims.list():
            if volumes.BIND_COMPLETED not in meta.annotations(claim):
                self._controller.enqueue_key(_CLAIM + meta.key(claim))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        if key.startswith(_CLAIM):
            return await self._reconcile_claim(key.removeprefix(_CLAIM))
        return await self._reconcile_volume(key.removeprefix(_VOLUME))

    # Claims

    async def _reconcile_claim(self, key: str) -> Result:
        claim = self._claims.get(key)
        if claim is None or meta.is_being_deleted(claim):
            return DONE
        classes = {meta.name(one): one for one in self._classes.list()}
        world = plan.World(self._volumes.list(), classes, self._pods.store.by_index("claim", key))
        step = plan.for_claim(claim, world)
        if step.phase == "Bound" and step.volume is not None:
            await self._bind(claim, step.volume)
            return DONE
        if step.told is not None and not (step.phase == "Lost" and objects.status(claim).get("phase") == "Lost"):
            self._tell(claim, "PersistentVolumeClaim", step.told)
        if step.provisioner:
            claim = await self._call(claim, step.provisioner)
        await self._set_claim_status(claim, {**objects.status(claim), "phase": step.phase})
        # What is wanted in vain is said again from time to time, as a person who asks later sees no old events.
        return DONE if step.phase == "Lost" else Result(self._sync_period_s)

    async def _bind(self, claim: Object, volume: Object) -> None:
        """In the order that survives a crash between any two writes: the volume first, which then waits for its claim."""
        if (volume["spec"].get("claimRef") or {}).get("uid") != meta.uid(claim):
            volume = await self._client.update(resources.PERSISTENTVOLUMES, volumes.reserved_for(volume, claim))
        await self._set_volume_phase(volume, "Bound")
        wanted = plan.claim_bound_to(claim, volume)
        if wanted["spec"] != claim["spec"] or meta.annotations(wanted) != meta.annotations(claim):
            claim = await self._client.update(resources.PERSISTENTVOLUMECLAIMS, wanted)
            log.info("Claim bound to volume", claim=meta.key(claim), volume=meta.name(volume))
        await self._set_claim_status(claim, plan.claim_status(claim, volume))

    async def _call(self, claim: Object, provisioner: str) -> Object:
        marks = dict.fromkeys(volumes.STORAGE_PROVISIONERS, provisioner)
        if all(meta.annotations(claim).get(k) == v for k, v in marks.items()):
            return claim
        metadata = {**claim["metadata"], "annotations": {**meta.annotations(claim), **marks}}
        return await self._client.update(resources.PERSISTENTVOLUMECLAIMS, {**claim, "metadata": metadata})

    async def _set_claim_status(self, claim: Object, wanted: Object) -> None:
        if wanted != objects.status(claim):
            await self._client.update(resources.PERSISTENTVOLUMECLAIMS, objects.with_status(claim, wanted), "status")

    # Volumes

    async def _reconcile_volume(self, name: str) -> Result:
        volume = self._volumes.get(name)
        if volume is None:
            return DONE
        reference = objects.spec(volume).get("claimRef") or {}
        key = f"{reference.get('namespace')}/{reference.get('name')}"
        claim = self._claims.get(key) if reference else None
        step = plan.for_volume(volume, claim)
        if step.reclaims and not await self._is_gone(reference):
            return Result(1.0)
        if step.unreserved is not None:
            volume = await self._client.update(resources.PERSISTENTVOLUMES, step.unreserved)
        volume = await self._set_volume_phase(volume, step.phase)
        if step.asks:
            self._controller.enqueue_key(_CLAIM + step.asks)
        if step.reclaims:
            await self._reclaim(volume)
        return DONE

    async def _is_gone(self, reference: Object) -> bool:
        """Data hangs on it: the cache may be behind, so the server is asked."""
        try:
            found = await self._client.get(resources.PERSISTENTVOLUMECLAIMS, reference["namespace"], reference["name"])
        except status.ApiError as error:
            if status.is_not_found(error):
                return True
            raise
        return bool(meta.uid(found) != reference["uid"])

    async def _set_volume_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        current = objects.status(volume)
        if current.get("phase") == phase and (current.get("message") or "") == message:
            return volume
        wanted: Object = {"phase": phase, "lastPhaseTransitionTime": self._now()}
        if message:
            wanted["message"] = message
        return await self._client.update(resources.PERSISTENTVOLUMES, objects.with_status(volume, wanted), "status")

    def _now(self) -> str:
        return timestamps.format_time(self._clock.wall())

    async def _reclaim(self, volume: Object) -> None:
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if meta.is_being_deleted(volume) or volumes.PROVISIONED_BY in meta.annotations(volume):
            return  # Its provisioner deletes it.
        if policy == "Delete":
            try:
                await asyncio.to_thread(shutil.rmtree, plan.disposal(volume), ignore_errors=True)
            except ValueError as error:
                await self._failed(volume, "VolumeFailedDelete", str(error))
                return
            await self._client.delete(resources.PERSISTENTVOLUMES, "", meta.name(volume), uid=meta.uid(volume))
        elif policy == "Recycle":
            await self._recycle(volume)

    async def _recycle(self, volume: Object) -> None:
        outcome = await recycler.step(self._client, volume)
        if outcome == recycler.RUNNING:
            self._controller.enqueue_after(_VOLUME + meta.name(volume), recycler.LOOK_AGAIN_S)
        elif outcome == recycler.DONE:
            self._tell(volume, "PersistentVolume", plan.Told("Normal", "VolumeRecycled", "Volume recycled"))
            await self._client.update(resources.PERSISTENTVOLUMES, plan.unreserved(volume))
        else:
            await self._failed(volume, "VolumeFailedRecycle", outcome)

    async def _failed(self, volume: Object, reason: str, message: str) -> None:
        if objects.status(volume).get("phase") != "Failed":
            self._tell(volume, "PersistentVolume", plan.Told("Warning", reason, message))
        await self._set_volume_phase(volume, "Failed", message)

    def _tell(self, obj: Object, kind: str, told: plan.Told) -> None:
        self._recorder.event({**obj, "apiVersion": "v1", "kind": kind}, told.type, told.reason, told.message)
