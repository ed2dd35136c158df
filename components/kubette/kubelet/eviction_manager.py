"""Watches memory and disk: sets the node's pressure conditions and, when memory runs out, evicts a pod (kubelet/eviction).

One pod a round, then it looks again. A full disk evicts nobody here: images are collected and the condition keeps new pods away.
"""

import asyncio

from kubette.component_base import logs
from kubette.kubelet import eviction, machine, pod_spec
from kubette.kubelet.agent import Agent
from kubette.kubelet.config import Config
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.node_agent import NodeAgent
from kubette.kubelet.pod_manager import PodManager
from kubette.kubelet.pod_workers import Termination
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

PERIOD_S = 10.0  # upstream's monitoringInterval
MEMORY = "memory.available"


class EvictionManager:
    """One look every ten seconds."""

    def __init__(self, config: Config, cri: CriClient, agent: Agent, pods: PodManager, node: NodeAgent, clock: Clock) -> None:
        self._config, self._cri, self._agent, self._pods, self._node, self._clock = config, cri, agent, pods, node, clock

    async def run(self) -> None:
        while True:
            try:
                await self._look()
            except (CriError, OSError) as error:
                log.error("Eviction manager: failed to get statistics", err=error)
            await asyncio.sleep(PERIOD_S)

    async def _look(self) -> None:
        signals = machine.signals(self._config.root_dir)
        met = eviction.thresholds_met(self._config.eviction_hard, signals)
        pressure, now = self._node.pressure, self._clock.monotonic()
        before = {c for c in eviction.RESOURCE_OF if pressure.has(c, now)}
        pressure.observe(met, now)
        if before != {c for c in eviction.RESOURCE_OF if pressure.has(c, now)}:
            log.warning("Eviction manager: thresholds were met", signals=",".join(met))
            self._node.poke()
        if MEMORY in met:
            await self._evict(signals[MEMORY])

    async def _evict(self, memory: eviction.Signal) -> None:
        usage: dict[str, int] = {}
        for stats in await self._cri.container_stats():
            uid = stats.attributes.labels.get("io.kubernetes.pod.uid", "")
            usage[uid] = usage.get(uid, 0) + stats.memory.working_set_bytes.value
        active = [p for p in self._pods.pods() if not self._agent.workers.is_terminating(pod_spec.uid(p)) and usage.get(pod_spec.uid(p))]
        for pod in eviction.rank_for_memory(active, usage)[:1]:
            text = eviction.message("memory", self._config.eviction_hard[MEMORY], memory.available)
            self._agent.evict(pod, Termination(grace_s=1, reason=(eviction.EVICTED, text)))
