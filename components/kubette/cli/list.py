"""`kubette list`: the clusters of this user."""

from typing import Any

from kubette.cli.status import table
from kubette.component_base.flags import FlagSet
from kubette.machines import layout


def flags() -> FlagSet:
    return FlagSet("kubette list", "List the clusters.")


def run(options: Any) -> int:
    rows = [("NAME", "STATUS", "CONTROL-PLANES", "WORKERS", "VERSION", "API")]
    for place in layout.clusters():
        cluster = place.load()
        state = "Running" if place.is_running() else "Stopped"
        counts = str(len(cluster.control_planes)), str(len(cluster.workers))
        rows.append((cluster.name, state, *counts, cluster.kubernetes_version, f"https://127.0.0.1:{cluster.api_port}"))
    print(table(rows) if len(rows) > 1 else "No clusters found; start one with: kubette up")
    return 0
