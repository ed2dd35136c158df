"""A network that loses, repeats, delays, reorders and cuts, between named hosts, as one seed decides.

Datagrams (Raft's messages: whatever connection carries them, Raft promises to bear all of this) suffer everything. Connections keep
their order and lose nothing until they break. A cut has a direction.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from simulation.virtual_time import Scheduler

LATENCY_S = 0.001


@dataclass
class Weather:
    """Which faults there are, and how often."""

    loss: float = 0.0
    repeat: float = 0.0
    late: float = 0.0  # of the datagrams, by up to `late_s`
    late_s: float = 0.5
    jitter_s: float = 0.001


class VirtualNetwork:
    """Hosts are known by name."""

    def __init__(self, scheduler: Scheduler, rng: random.Random) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self.weather = Weather()
        self._cut: dict[tuple[str, str], None] = {}

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._cut = dict.fromkeys(pairs)

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    def latency(self) -> float:
        return LATENCY_S + self._rng.random() * self.weather.jitter_s

    def datagram(self, source: str, target: str, deliver: Callable[[], object], once: bool = False) -> None:
        """It arrives not at all, once, or (unless `once`) twice, some time."""
        weather, rng = self.weather, self._rng
        for _ in range(2 if not once and weather.repeat and rng.random() < weather.repeat else 1):
            if weather.loss and rng.random() < weather.loss:
                continue
            delay = self.latency()
            if weather.late and rng.random() < weather.late:
                delay += rng.random() * weather.late_s
            self._scheduler.after(delay, self._arrive, source, target, deliver)

    def _arrive(self, source: str, target: str, deliver: Callable[[], object]) -> None:
        if (source, target) not in self._cut:
            deliver()

    def connect(self, source: str, target: str) -> "Pipe":
        return Pipe(self, self._scheduler, source, target)


class Pipe:
    """One direction of a connection: in order, until it breaks."""

    def __init__(self, network: VirtualNetwork, scheduler: Scheduler, source: str, target: str) -> None:
        self._network = network
        self._scheduler = scheduler
        self._ends = source, target
        self._last = 0.0
        self.broken = False
        self.when_broken: Callable[[], object] = lambda: None

    def send(self, deliver: Callable[[], object], extra_s: float = 0.0) -> None:
        if self.broken:
            return
        self._last = max(self._last, self._scheduler.now + self._network.latency() + extra_s)
        self._scheduler.at(self._last, None, self._arrive, deliver)

    def _arrive(self, deliver: Callable[[], object]) -> None:
        if self.broken:
            return
        if self._network.is_cut(*self._ends):
            self.break_off()
        else:
            deliver()

    def break_off(self) -> None:
        if not self.broken:
            self.broken = True
            self.when_broken()
