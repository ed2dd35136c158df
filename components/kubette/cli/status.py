"""`kubette status`: the machines of a cluster and what stands around them."""

import json
from collections.abc import Sequence
from typing import Any

from kubette.cli import common_flags
from kubette.component_base.flags import FlagError, FlagSet
from kubette.machines import client, layout, spec
from kubette.stdx.clock import SYSTEM_CLOCK


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("status", "Show the machines of a cluster.")
    flag_set.string("output", "", "Output format: json.", shorthand="o")
    return flag_set


def run(options: Any) -> int:
    if options.output not in ("", "json"):
        raise FlagError(f'unable to match a printer suitable for the output format "{options.output}", allowed formats are: json')
    spec.check_name(options.name)
    place = layout.of(options.name)
    cluster = place.load()
    status = {"running": False, **_stopped(cluster)}
    if place.is_running():
        with client.Control(place) as control:
            status = {"running": True, **control.status()}
    if options.output == "json":
        print(json.dumps(status, indent=2))
        return 0
    print(
        f'Cluster "{cluster.name}" {cluster.kubernetes_version} is {"running" if status["running"] else "stopped"}; API https://127.0.0.1:{cluster.api_port}'
    )
    rows = [("MACHINE", "ROLE", "ADDRESS", "STATE", "UPTIME", "REASON")]
    for machine in status["machines"]:
        uptime = age(SYSTEM_CLOCK.wall() - machine["startedAt"]) if machine["startedAt"] else "-"
        rows.append((machine["name"], machine["role"], machine["address"], machine["state"], uptime, machine["reason"] or "-"))
    print(table(rows))
    for port in status.get("gateway", {}).get("failedNodePorts", []):
        print(f"node port {port['port']}/{port['protocol']} cannot be opened on the host: {port['error']}")
    return 0


def _stopped(cluster: spec.Cluster) -> dict[str, Any]:
    machines = [
        {"name": m.name, "role": m.role, "address": m.address, "state": "off", "pid": 0, "startedAt": 0.0, "reason": ""} for m in cluster.machines
    ]
    return {"name": cluster.name, "pid": 0, "apiPort": cluster.api_port, "kubernetesVersion": cluster.kubernetes_version, "machines": machines}


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as kubectl prints them: three spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def age(seconds: float) -> str:
    """kubectl's short ages: 42s, 5m, 3h, 2d."""
    for size, unit, until in ((1, "s", 120), (60, "m", 7200), (3600, "h", 172800)):
        if seconds < until:
            return f"{max(0, int(seconds // size))}{unit}"
    return f"{int(seconds // 86400)}d"
