"""Which component failed first, read off the machines' own files: the answer to a cluster that does not come up.

Components depend on each other in the order they are asked about; the first one that is missing, restarting or silent is named.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from kubette.cli import hard_way_files, journal
from kubette.cli.errors import PhaseError
from kubette.cli.machine_commands import tail
from kubette.machines import client, layout, spec
from kubette.stdx.clock import SYSTEM_CLOCK

# A program that was killed may have died with its machine, whose PID 1 ends a moment later.
DEATH_SEEN_S = 1.0
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def first_failure(place: layout.Layout, cluster: spec.Cluster) -> tuple[str, list[str]]:
    """The component, and its last log lines; ("", []) when nothing looks broken."""
    try:
        with client.Control(place) as control:
            states = {m["name"]: m for m in control.status()["machines"]}
    except client.ControlError as error:
        return f"the cluster's supervisor ({error})", tail(place.supervisor_log)
    for machine in cluster.machines:
        state = states[machine.name]
        if state["state"] not in ("running", "starting"):
            return f"machine {machine.name} is {state['state']} ({state['reason']})", tail(place.console_log(machine.name))
    for machine in cluster.machines:
        root = place.machine_root(machine.name)
        if cluster.style == "systemd":
            for unit in hard_way_files.units_of(machine):
                lines = journal.tail(root, unit)
                if has_failed(lines):
                    return f"{unit} on {machine.name}", lines
            continue
        if machine.role == "etcd":
            lines = journal.tail(root, "etcd")
            if has_failed(lines):
                return f"etcd.service on {machine.name}", lines
            continue
        logs = {component: path for component, path in restarted(root) if path is not None}
        for component in (*CONTROL_PLANE, *sorted(logs.keys() - set(CONTROL_PLANE))):
            if component in logs:
                return f"{component} on {machine.name}", [content(line) for line in tail(logs[component])]
        if machine.role == "control-plane" and (root / "etc/kubernetes/manifests").is_dir():
            started = {path.parent.name for path in (root / "var/log/pods").glob("*/*/*.log")}
            for component in CONTROL_PLANE:
                if (root / f"etc/kubernetes/manifests/{component}.yaml").exists() and component not in started:
                    return f"kubelet on {machine.name} (it has not started {component})", journal.tail(root, "kubelet")
    return "", []


def explain(place: layout.Layout, cluster: spec.Cluster, error: PhaseError) -> PhaseError:
    """The error with the first failed component in it, where one is found."""
    if any("[ERROR " in line for line in error.tail):
        return error  # kubeadm's preflight checks: nothing has been started yet that could have failed
    component, lines = first_failure(place, cluster)
    deadline = SYSTEM_CLOCK.monotonic() + DEATH_SEEN_S
    while not component and error.killed and SYSTEM_CLOCK.monotonic() < deadline:
        time.sleep(DEATH_SEEN_S / 10)
        component, lines = first_failure(place, cluster)
    if not component:
        return error
    return PhaseError(component, f"{error}; the first component that failed is {component}", lines or error.tail)


def has_failed(lines: list[str]) -> bool:
    """Whether init said so of a unit in the last lines of its journal."""
    return any(re.search(r" systemd\[1\]: \S+: (Failed with result|Scheduled restart job)| systemd\[1\]: Failed to start ", line) for line in lines)


def restarted(root: Path) -> Iterator[tuple[str, Path | None]]:
    """Containers that have been started again (`…/<container>/<restarts>.log`), with the last log that says something."""
    for folder in sorted((root / "var/log/pods").glob("*/*")):
        runs = sorted((int(log.stem), log) for log in folder.glob("*.log") if log.stem.isdigit())
        if runs and runs[-1][0] > 0:
            filled = [log for _, log in runs if log.stat().st_size > 0]
            yield folder.name, filled[-1] if filled else runs[-1][1]


def content(line: str) -> str:
    """A line of the CRI log format without its time, stream and tag."""
    match = re.match(r"\S+ (?:stdout|stderr) [FP] (.*)", line)
    return match[1] if match else line
