"""Collects the facts: from the machines' files as the host sees them, from one script on each machine that has power, from the API server if it answers.

Everything that cannot be had is left out; nothing here judges.
"""

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubette.cli.doctor import machine_report, manifests, pki
from kubette.cli.doctor.facts import MANIFESTS, Facts, File, Machine, Object
from kubette.client import kubeconfig, resources, rest
from kubette.client.resources import Resource
from kubette.machines import client, layout, spec
from kubette.stdx.clock import SYSTEM_CLOCK

SCRIPT_TIMEOUT_S = 30.0
API_TIMEOUT_S = 5.0
FILE_BYTES_MAX = 1 << 20
# Read whole, by pattern below a machine's root; units may be replaced in /etc.
PATTERNS = (
    *(
        "etc/kubernetes/*",
        "etc/kubernetes/manifests/*",
        "etc/kubernetes/kubette-restore/*",
        "etc/kubernetes/pki/*",
        "etc/kubernetes/pki/etcd/*",
        "etc/kubernetes/config/*",
    ),
    *("var/lib/kubelet/*.yaml", "var/lib/kubelet/*.env", "var/lib/kubelet/*.crt", "var/lib/kubelet/*.key", "var/lib/kubelet/kubeconfig"),
    *("var/lib/kubelet/pki/*", "var/lib/kubernetes/*", "var/lib/kube-proxy/*", "etc/etcd/*"),
    *("etc/systemd/system/*.service", "etc/systemd/system/*.service.d/*.conf", "usr/lib/systemd/system/kube*.service"),
    *("usr/lib/systemd/system/kubelet.service.d/*.conf", "etc/default/kubelet", "root/.kube/config"),
)
LISTED: tuple[Resource, ...] = (
    resources.NODES,
    resources.PODS,
    resources.SERVICES,
    resources.ENDPOINTSLICES,
    resources.DEPLOYMENTS,
    resources.REPLICASETS,
    resources.DAEMONSETS,
    resources.EVENTS,
    resources.LEASES,
    resources.NAMESPACES,
    resources.SERVICEACCOUNTS,
    resources.CONFIGMAPS,
    resources.SECRETS,
    resources.PERSISTENTVOLUMECLAIMS,
    resources.RESOURCEQUOTAS,
    resources.PODDISRUPTIONBUDGETS,
    resources.CERTIFICATESIGNINGREQUESTS,
    Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False),
    Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", namespaced=False),
    Resource("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False),
)


def gather(place: layout.Layout, cluster: spec.Cluster) -> Facts:
    """Everything about a cluster, in a second or two."""
    states: dict[str, dict[str, Any]] = {}
    if place.is_running():
        with client.Control(place) as control:
            states = {each["name"]: each for each in control.status()["machines"]}
    wanted = {m.name: machine_report.Wanted(cluster.style, m.role == "control-plane") for m in cluster.nodes}
    reports = machine_report.of_all(
        {name: each["pid"] for name, each in states.items() if each["state"] == "running" and name in wanted},
        wanted,
        SCRIPT_TIMEOUT_S,
    )
    objects, version, error = _api(place.kubeconfig) if states else (None, "", "the cluster is stopped")
    machines = tuple(_machine(place.machine_root(m.name), m, states.get(m.name), reports.get(m.name)) for m in cluster.nodes)
    return Facts(SYSTEM_CLOCK.wall(), cluster.style, version, cluster.endpoint, bool(states), machines, objects, error)


def _machine(root: Path, machine: spec.Machine, state: Mapping[str, Any] | None, report: machine_report.Report | None) -> Machine:
    files = files_of(root)
    certificates, keys = pki.read({path: file.text for path, file in files.items() if file.text})
    report = report or machine_report.Report()
    return Machine(
        machine.name,
        machine.role,
        machine.address,
        str(state["state"]) if state else "off",
        str(state["reason"] or "") if state else "",
        files,
        _folders(root),
        tuple(manifests.read(path, file.text) for path, file in sorted(files.items()) if path.startswith(MANIFESTS + "/") and "/." not in path),
        certificates,
        keys,
        report.units,
        report.journals,
        report.containers,
        manifests.commands(files, report.command_lines),
        report.programs,
        report.etcd,
    )


def files_of(root: Path) -> dict[str, File]:
    """By the machine's own absolute paths; a link of the machine is followed within the machine."""
    found: dict[str, File] = {}
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            inside = "/" + path.relative_to(root).as_posix()
            real = _within(root, path)
            try:
                status = real.stat()
                if stat.S_ISREG(status.st_mode):
                    text = real.read_bytes()[:FILE_BYTES_MAX].decode(errors="replace")
                    found[inside] = File(text, stat.S_IMODE(status.st_mode), status.st_uid)
            except OSError:
                continue
    return found


def _folders(root: Path) -> dict[str, File]:
    """Folders whose owner, mode or absence matters; `text` lists what is in them."""
    found = {}
    for path in (root / "etc/kubernetes/manifests", *root.glob("var/lib/etcd*"), *root.glob("opt/etcd*")):
        try:
            status = path.stat()
            found["/" + path.relative_to(root).as_posix()] = File("\n".join(sorted(os.listdir(path))), stat.S_IMODE(status.st_mode), status.st_uid)
        except OSError:
            continue
    return found


def _within(root: Path, path: Path) -> Path:
    for _ in range(8):
        if not path.is_symlink():
            return path
        target = os.readlink(path)
        path = root / target.lstrip("/") if target.startswith("/") else path.parent / target
    return path


def _api(path: Path) -> tuple[dict[str, list[Object]] | None, str, str]:
    """Every list, the API server's version, or why there is none."""
    try:
        return asyncio.run(_ask(path))
    except rest.FAILURES as error:
        return None, "", str(error)
    except (OSError, ValueError, LookupError) as error:
        return None, "", f"cannot use {path.name}: {error}"


async def _ask(path: Path) -> tuple[dict[str, list[Object]], str, str]:
    async with rest.Client(kubeconfig.from_file(str(path)), user_agent="kubette", timeout_s=API_TIMEOUT_S) as api:
        version = await api.request("GET", "/version", {})
        listed: dict[str, list[Object]] = {}
        async with asyncio.TaskGroup() as group:
            tasks = {resource.resource: group.create_task(_list(api, resource)) for resource in LISTED}
        for name, task in tasks.items():
            listed[name] = task.result()
        return listed, str(version.get("gitVersion", "")), ""


async def _list(api: rest.Client, resource: Resource) -> list[Object]:
    try:
        return (await api.list_all(resource))[0]
    except rest.FAILURES:
        return []
