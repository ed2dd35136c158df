"""Tells the API server how the pods are, and that they are gone (kubelet/status).

The newest status of each pod is kept here, by the pod's own uid; a static pod's goes to its mirror. Writes are ordered a pod, repeated
until the server has them, and merged: only the newest is sent. A pod that has ended completely is deleted from the API, once and with
its uid as precondition.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from kubette.apimachinery import status as api_status
from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client, PatchType
from kubette.client.transport import TransportError
from kubette.component_base import logs
from kubette.kubelet import pod_spec, status_patch
from kubette.kubelet.pod_manager import PodManager
from kubette.kubelet.pod_spec import Pod
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

Object = dict[str, Any]

RETRY_S = 1.0
RECONCILE_S = 10.0  # upstream's syncPeriod of the status manager
CONCURRENT_WRITES = 8


class StatusManager:
    """`may_delete(uid)` answers whether nothing of the pod is left on the node."""

    def __init__(self, client: Client | None, pods: PodManager, clock: Clock, may_delete: Callable[[str], bool]) -> None:
        self._client, self._pods, self._clock, self._may_delete = client, pods, clock, may_delete
        self._statuses: dict[str, Object] = {}
        self._dirty: dict[str, None] = {}
        self._busy: set[str] = set()
        self._reconciled_at: dict[str, float] = {}
        self._wake = asyncio.Event()

    def get(self, uid: str) -> Object | None:
        """The newest status, written or not."""
        return self._statuses.get(uid)

    def set(self, pod: Pod, status: Object) -> None:
        """The pod is like this now."""
        uid = pod_spec.uid(pod)
        if self._statuses.get(uid) == status:
            return
        self._statuses[uid] = status
        self.mark(uid)

    def mark(self, uid: str) -> None:
        """Look again at what the server shows of this pod."""
        self._dirty[uid] = None
        self._wake.set()

    def forget(self, uid: str) -> None:
        """The pod is gone from the API."""
        for table in (self._statuses, self._dirty, self._reconciled_at):
            table.pop(uid, None)

    def observed(self, shown: Pod, uid: str) -> None:
        """The server shows the pod (or the mirror of `uid`) like this: if it is not as we know it (an old backup was restored), write again."""
        known = self._statuses.get(uid)
        if known is None or uid in self._dirty or uid in self._busy:
            return
        if pod_spec.is_deleted(shown) and self._may_delete(uid):
            self.mark(uid)
            return
        now = self._clock.monotonic()
        if now - self._reconciled_at.get(uid, -RECONCILE_S) >= RECONCILE_S and status_patch.status_patch(shown.get("status") or {}, known):
            # At most once in ten seconds: a server that does not keep a field must not make us write for ever.
            self._reconciled_at[uid] = now
            self.mark(uid)

    async def run(self) -> None:
        """Write until cancelled."""
        if self._client is None:
            return
        while True:
            if not self._dirty:
                self._wake.clear()
                await self._wake.wait()
            batch = list(self._dirty)[:CONCURRENT_WRITES]
            for uid in batch:
                del self._dirty[uid]
            self._busy.update(batch)
            try:
                failed = await asyncio.gather(*(self._sync(uid) for uid in batch))
            finally:
                self._busy.difference_update(batch)
            if any(failed):
                await asyncio.sleep(RETRY_S)

    async def _sync(self, uid: str) -> bool:
        """Write one pod's status; answers whether it must be tried again (it is then marked)."""
        assert self._client is not None
        pod, status = self._pods.get(uid), self._statuses.get(uid)
        if status is None:
            return False
        target = self._pods.api_pod(pod) if pod is not None else None
        if target is None:
            # A static pod without its mirror: it is written when the mirror appears.
            return False
        namespace, name, target_uid = pod_spec.namespace(target), pod_spec.name(target), pod_spec.uid(target)
        try:
            patch = status_patch.status_patch(target.get("status") or {}, status)
            if patch is not None:
                body = {"metadata": {"uid": target_uid}, "status": patch}
                await self._client.patch(resources.PODS, namespace, name, body, PatchType.STRATEGIC, "status")
                log.v(3, "Status for pod updated successfully", pod=f"{namespace}/{name}", phase=status.get("phase", ""))
            if pod_spec.is_deleted(target) and not pod_spec.is_mirror(target) and self._may_delete(uid):
                await self._client.delete(resources.PODS, namespace, name, grace_period_s=0, uid=target_uid)
                log.v(2, "Pod fully terminated and removed from etcd", pod=f"{namespace}/{name}")
        except ApiError as error:
            if api_status.is_not_found(error) or (api_status.is_conflict(error) and "uid" in error.message.lower()):
                return False
            log.warning("Failed to update status for pod", pod=f"{namespace}/{name}", err=error)
        except TransportError as error:
            log.v(2, "Failed to update status for pod", pod=f"{namespace}/{name}", err=error)
        else:
            return False
        self._dirty[uid] = None
        return True
