"""Pure: the health of nodes: when one counts as silent, which taints its conditions mean, how fast a zone may be evicted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

PREFIX = "node.kubernetes.io/"
NOT_READY, UNREACHABLE, UNSCHEDULABLE = PREFIX + "not-ready", PREFIX + "unreachable", PREFIX + "unschedulable"

# Which condition, with which status, means which NoSchedule taint.
CONDITION_TAINTS = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): PREFIX + "memory-pressure",
    ("DiskPressure", "True"): PREFIX + "disk-pressure",
    ("NetworkUnavailable", "True"): PREFIX + "network-unavailable",
    ("PIDPressure", "True"): PREFIX + "pid-pressure",
}
_NO_SCHEDULE_KEYS = frozenset(CONDITION_TAINTS.values()) | {UNSCHEDULABLE}
_NO_EXECUTE_KEYS = frozenset({NOT_READY, UNREACHABLE})
_MONITORED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(slots=True)
class Health:
    """What was last heard of a node: its signs of life, and when we saw them change (on our own clock)."""

    ready_heartbeat: str = ""
    lease_renewed: str = ""
    probed_at: float = 0.0


def observe(health: Health | None, node: Object, lease: Object | None, now: float, wall: float) -> Health:
    """Any change of the Ready condition or the lease is a sign of life. `now` is monotonic."""
    ready = meta.condition(node, "Ready")
    heartbeat = (ready.get("lastHeartbeatTime") or "") + str(ready.get("status")) if ready else ""
    renewed = str(((lease or {}).get("spec") or {}).get("renewTime") or "")
    if health is None:
        # A node that never posted anything has its grace from its creation, one we do not know yet from now.
        created = meta.creation_timestamp(node)
        age_s = max(0.0, wall - timestamps.parse_time(created)) if ready is None and created else 0.0
        return Health(heartbeat, renewed, now - age_s)
    if heartbeat != health.ready_heartbeat or renewed != health.lease_renewed:
        return Health(heartbeat, renewed, now)
    return health


def silent_conditions(node: Object, wall: float) -> list[Object]:
    """The conditions of a node that went silent: Unknown, all that the kubelet would have to say."""
    stamp = timestamps.format_time(wall)
    found = []
    existing = {c["type"]: c for c in (node.get("status") or {}).get("conditions") or []}
    for kind in _MONITORED:
        condition = existing.pop(kind, None)
        if condition is None:
            found.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                    "lastHeartbeatTime": meta.creation_timestamp(node) or stamp,
                    "lastTransitionTime": stamp,
                }
            )
        elif condition.get("status") == "Unknown":
            found.append(condition)
        else:
            message = "Kubelet stopped posting node status."
            found.append({**condition, "status": "Unknown", "reason": "NodeStatusUnknown", "message": message, "lastTransitionTime": stamp})
    return [*existing.values(), *found]


def is_silent(node: Object, health: Health, grace_s: float, startup_grace_s: float, now: float) -> bool:
    grace = grace_s if meta.condition(node, "Ready") is not None else startup_grace_s
    return now > health.probed_at + grace


def ready_status(node: Object) -> str:
    """True, False or Unknown; a node without the condition is Unknown."""
    ready = meta.condition(node, "Ready")
    return str(ready.get("status")) if ready else "Unknown"


def no_schedule_keys(node: Object) -> list[str]:
    """The NoSchedule taints the node should have of us."""
    keys = [
        CONDITION_TAINTS[c["type"], c["status"]]
        for c in (node.get("status") or {}).get("conditions") or []
        if (c["type"], c.get("status")) in CONDITION_TAINTS
    ]
    if spec(node).get("unschedulable"):
        keys.append(UNSCHEDULABLE)
    return keys


def no_execute_key(node: Object) -> str | None:
    """The NoExecute taint it should have."""
    return {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready_status(node))


def with_taints(node: Object, no_schedule: Sequence[str], no_execute: str | None, wall: float) -> list[Object] | None:
    """The node's taints with ours brought up to date; None when they are already. Taints of others stay as they are."""
    stamp = timestamps.format_time(wall)
    current = spec(node).get("taints") or []
    wanted = {(key, "NoSchedule") for key in no_schedule} | ({(no_execute, "NoExecute")} if no_execute else set())
    kept = [t for t in current if not _is_ours(t) or (t["key"], t["effect"]) in wanted]
    present = {(t["key"], t["effect"]) for t in kept}
    added = [{"key": k, "effect": e, "timeAdded": stamp} for k, e in sorted(wanted - present)]
    return [*kept, *added] if added or len(kept) != len(current) else None


def has_no_execute(node: Object, key: str) -> bool:
    return any(t["key"] == key and t.get("effect") == "NoExecute" for t in spec(node).get("taints") or [])


def _is_ours(taint: Object) -> bool:
    effect = taint.get("effect")
    return (effect == "NoSchedule" and taint["key"] in _NO_SCHEDULE_KEYS) or (effect == "NoExecute" and taint["key"] in _NO_EXECUTE_KEYS)


class ZoneState(StrEnum):
    """How a zone is doing; it decides how fast its nodes may be tainted."""

    INITIAL = "Initial"
    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


def zone_of(node: Object) -> str:
    labels = meta.labels(node)
    region = labels.get("topology.kubernetes.io/region") or labels.get("failure-domain.beta.kubernetes.io/region") or ""
    zone = labels.get("topology.kubernetes.io/zone") or labels.get("failure-domain.beta.kubernetes.io/zone") or ""
    return f"{region}:\0:{zone}" if region or zone else ""


def zone_state(ready: Sequence[bool], unhealthy_threshold: float) -> ZoneState:
    """`ready` of each node of the zone."""
    not_ready = sum(1 for r in ready if not r)
    if ready and not_ready == len(ready):
        return ZoneState.FULL
    if not_ready > 2 and not_ready / len(ready) >= unhealthy_threshold:
        return ZoneState.PARTIAL
    return ZoneState.NORMAL


@dataclass(frozen=True, slots=True)
class Rates:
    """Nodes per second, as flags give them."""

    normal: float
    secondary: float
    large_cluster_size: int

    def of(self, state: ZoneState, size: int, all_full: bool) -> float:
        """The rate for a zone of `size` nodes. When every zone is down, it is us who are cut off: nobody is evicted."""
        if all_full:
            return 0.0
        if state is ZoneState.PARTIAL:
            return self.secondary if size > self.large_cluster_size else 0.0
        return self.normal


@dataclass(slots=True)
class Limiter:
    """A token bucket of one: the first goes at once, the next after 1/rate seconds."""

    rate: float = 0.1
    ready_at: float = field(default=float("-inf"))

    def try_take(self, now: float) -> float:
        """0 when taken, else the seconds to wait."""
        if self.rate <= 0:
            return 10.0
        if now >= self.ready_at:
            self.ready_at = now + 1 / self.rate
            return 0.0
        return self.ready_at - now
