"""What piles up on a node: unused images when the disk fills, or when they are old (kubelet/images' GC).

Dead containers are pruned where they arise, by the pod's own stream; containers, logs and volumes of pods that are gone by housekeeping.
"""

import asyncio
import os

from kubette.component_base import logs
from kubette.cri import api_pb2
from kubette.kubelet.agent import Agent
from kubette.kubelet.config import Config
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

PERIOD_S = 300.0  # upstream's ImageGCPeriod


class GarbageCollector:
    """Removes images nobody uses, oldest first."""

    def __init__(self, config: Config, cri: CriClient, agent: Agent, clock: Clock) -> None:
        self._config, self._cri, self._agent, self._clock = config, cri, agent, clock
        self._first_seen: dict[str, float] = {}
        self._last_used: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self._collect()
            except CriError as error:
                log.error("Image garbage collection failed", err=error)

    async def _collect(self) -> None:
        now = self._clock.monotonic()
        images, containers = await asyncio.gather(self._cri.images(), self._cri.list_containers())
        used = {c.image_ref for c in containers} | {c.image_id for c in containers} | {c.image.image for c in containers}
        unused = []
        for image in images:
            first = self._first_seen.setdefault(image.id, now)
            if used & {image.id, *image.repo_tags, *image.repo_digests}:
                self._last_used[image.id] = now
            elif not image.pinned and now - first >= self._config.image_minimum_age_s:
                unused.append(image)
        present = {image.id for image in images}
        for table in (self._first_seen, self._last_used):
            for gone in table.keys() - present:
                del table[gone]
        unused.sort(key=lambda image: self._last_used.get(image.id, self._first_seen[image.id]))
        if self._config.image_maximum_age_s:
            for image in [i for i in unused if now - self._last_used.get(i.id, self._first_seen[i.id]) > self._config.image_maximum_age_s]:
                await self._remove(image)
                unused.remove(image)
        disk = os.statvfs(self._config.root_dir)
        capacity, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        if capacity == 0 or 100 - available * 100 // capacity < self._config.image_high_percent:
            return
        to_free = capacity * (100 - self._config.image_low_percent) // 100 - available
        for image in unused:
            if to_free <= 0:
                return
            await self._remove(image)
            to_free -= int(image.size)

    async def _remove(self, image: api_pb2.Image) -> None:
        log.info("Removing image to free bytes", imageID=image.id, size=int(image.size))
        await self._cri.remove_image(image.id)
