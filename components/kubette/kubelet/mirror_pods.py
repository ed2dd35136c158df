"""Shows the static pods in the API server: creates and deletes their mirrors (kubelet/pod's mirror client).

Runs beside the workers: static pods do not wait for an API server, because one of them is it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from kubette.apimachinery import status
from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import logs
from kubette.kubelet import pod_spec, static_pods
from kubette.kubelet.pod_manager import PodManager

log = logs.logger(__name__)

RETRY_S = 1.0


class MirrorPods:
    """`node` answers this node's API object; `ready` whether all sources were read, so that a mirror without a static pod is an orphan."""

    def __init__(self, client: Client, pods: PodManager, node: Callable[[], dict[str, Any] | None], ready: Callable[[], bool]) -> None:
        self._client, self._pods, self._node, self._ready = client, pods, node, ready
        self._wake = asyncio.Event()

    def poke(self) -> None:
        """A static pod, a mirror or the node changed."""
        self._wake.set()

    async def run(self) -> None:
        """Keep them equal until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._sync():
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def _sync(self) -> bool:
        node = self._node()
        if node is None or not self._ready():
            # Both poke us when they are there.
            return True
        done = True
        for pod in [p for p in self._pods.pods() if pod_spec.is_static(p)]:
            mirror = self._pods.mirror_of(pod)
            try:
                if mirror is None:
                    await self._create(pod, node)
                elif pod_spec.is_deleted(mirror) or not static_pods.is_mirror_of(mirror, pod):
                    log.v(2, "Trying to delete mirror pod", pod=pod_spec.key(mirror))
                    await self._delete(mirror)
                    # Its deletion is told by the watch, and the new one is made then.
            except (ApiError, TransportError) as error:
                log.v(2, "Failed to sync mirror pod", pod=pod_spec.key(pod), err=error)
                done = False
        for mirror in self._pods.mirrors():
            if self._pods.static_of(mirror) is None:
                try:
                    await self._delete(mirror)
                except (ApiError, TransportError) as error:
                    log.v(2, "Failed to delete orphaned mirror pod", pod=pod_spec.key(mirror), err=error)
                    done = False
        return done

    async def _create(self, pod: pod_spec.Pod, node: dict[str, Any]) -> None:
        try:
            await self._client.create(resources.PODS, pod_spec.namespace(pod), static_pods.mirror_of(pod, node))
            log.v(2, "Created mirror pod", pod=pod_spec.key(pod))
        except ApiError as error:
            if not status.is_already_exists(error):
                raise

    async def _delete(self, mirror: pod_spec.Pod) -> None:
        try:
            namespace, name = pod_spec.namespace(mirror), pod_spec.name(mirror)
            await self._client.delete(resources.PODS, namespace, name, grace_period_s=0, uid=pod_spec.uid(mirror))
        except ApiError as error:
            if not status.is_not_found(error) and not status.is_conflict(error):
                raise
