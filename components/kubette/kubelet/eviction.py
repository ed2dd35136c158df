"""Pure: pressure of the node: which signals are below their threshold, and which pod goes first (upstream's eviction, its hard thresholds).

A condition set by pressure stays for `transition_s` after the signal is good again, so that it does not flap.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubette.apimachinery import quantity
from kubette.kubelet import pod_spec, quality_of_service
from kubette.kubelet.pod_spec import Pod

HARD_DEFAULTS = {"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%"}
CONDITION_OF = {
    "memory.available": "MemoryPressure",
    "nodefs.available": "DiskPressure",
    "nodefs.inodesFree": "DiskPressure",
    "imagefs.available": "DiskPressure",
    "imagefs.inodesFree": "DiskPressure",
    "pid.available": "PIDPressure",
}
RESOURCE_OF = {"MemoryPressure": "memory", "DiskPressure": "ephemeral-storage", "PIDPressure": "pids"}
EVICTED = "Evicted"


@dataclass(frozen=True, slots=True)
class Signal:
    """What is left of what there is."""

    available: int
    capacity: int


def threshold_value(text: str, capacity: int) -> int:
    """`100Mi` or a percentage of the capacity."""
    if text.endswith("%"):
        return int(capacity * float(text[:-1]) / 100)
    return quantity.parse(text).value


def thresholds_met(thresholds: Mapping[str, str], signals: Mapping[str, Signal]) -> list[str]:
    """The names of the signals below their threshold, memory first."""
    met = [name for name, text in thresholds.items() if name in signals and signals[name].available < threshold_value(text, signals[name].capacity)]
    return sorted(met, key=lambda name: (name != "memory.available", name))


@dataclass(slots=True)
class PressureState:
    """Remembers when each condition was last seen."""

    transition_s: float
    last_seen: dict[str, float] = field(default_factory=dict)

    def observe(self, met: list[str], now: float) -> None:
        for name in met:
            self.last_seen[CONDITION_OF[name]] = now

    def has(self, condition: str, now: float) -> bool:
        seen = self.last_seen.get(condition)
        return seen is not None and now - seen < self.transition_s


def rank_for_memory(pods: list[Pod], usage: Mapping[str, int]) -> list[Pod]:
    """Whom to evict first: those above their request, then by priority, then by how much they are above it. Critical pods never."""

    def order(pod: Pod) -> tuple[bool, int, int]:
        requests = quality_of_service.pod_requests(pod)
        above = usage.get(pod_spec.uid(pod), 0) - (requests["memory"].value if "memory" in requests else 0)
        return above <= 0, int(pod["spec"].get("priority") or 0), -above

    return sorted((p for p in pods if not pod_spec.is_critical(p)), key=order)


def message(resource: str, threshold: str, available: int) -> str:
    """The message of the evicted pod's status."""
    return f"The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {quantity.of(available, quantity.BINARY_SI)}. "
