"""The phases of `kubette up --style systemd`: the cluster that kubeadm would make, set up "the hard way", where every process is a unit.

What a reader of "Kubernetes The Hard Way" types is written on the machines before they have power (`hard_way_files`); then a first boot is a boot like any
other: PID 1 starts the enabled units. Only the objects that live in the API are made when it answers.
"""

import asyncio
import dataclasses
import datetime
import functools
import socket
from string import Template
from typing import Any

import yaml

from kubette.cli import hard_way_files, kubeadm_config, tree_writer
from kubette.cli.bring_up import READY_TIMEOUT_S, BringUp
from kubette.cli.errors import PhaseError
from kubette.client import resources, rest
from kubette.kubeadm import cluster_api, images
from kubette.machines import client, interpreter, launch, spec

LABELS = dict.fromkeys(("node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"), "")


def unit_texts() -> dict[str, str]:
    """The units of `systemd/hard-way/`, by name."""
    return {path.name: path.read_text() for path in (interpreter.source_root() / "systemd" / "hard-way").glob("*.service")}


def addon(name: str, values: dict[str, str]) -> list[dict[str, Any]]:
    """The objects of `manifests/addons/<name>.yaml` with `values` filled in."""
    text = (interpreter.source_root() / "manifests" / "addons" / f"{name}.yaml").read_text()
    return [document for document in yaml.safe_load_all(Template(text).substitute(values)) if document]


class HardWay(BringUp):
    """One run of `kubette up --style systemd`."""

    def run(self, api_socket: socket.socket) -> None:
        """Everything up to Ready nodes. Raises PhaseError."""
        if not self.cluster.initialized:
            with self._progress.phase("Writing certificates, kubeconfigs and units"):
                self._write_machines()
        self._link_programs()
        with self._progress.phase(f"Starting machines: {', '.join(m.name for m in self.cluster.machines)}"):
            launch.start(self._place, self.cluster, api_socket)
            api_socket.close()
            self._start_machines()
        self._write_kubeconfig()
        self._wait_api()
        with client.Control(self._place) as control:
            control.call("ReloadGateway")
        if len(self.cluster.joined) < len(self.cluster.machines):
            with self._progress.phase("Applying RBAC for the API server, CoreDNS, labels of the control plane"):
                self._apply()
        self._wait_ready()

    def _write_machines(self) -> None:
        from kubette.cli import hard_way_certificates

        pairs = hard_way_certificates.issue(self.cluster, datetime.datetime.now(datetime.UTC))
        units = unit_texts()
        for machine in self.cluster.machines:
            tree = hard_way_files.tree(self.cluster, machine, pairs, units, kubeadm_config.audit_policy())
            tree_writer.write(self._place.machine_root(machine.name), tree)
        self._remember(initialized=True)

    def _link_programs(self) -> None:
        """The programs where the units look for them; anew at each start, since our own may have moved."""
        for machine in self.cluster.machines:
            links = {f"usr/local/bin/{name}": str(interpreter.scripts() / name) for name in hard_way_files.programs_of(machine)}
            tree_writer.write(self._place.machine_root(machine.name), hard_way_files.Tree(links=links))

    def _apply(self) -> None:
        try:
            asyncio.run(self._apply_objects())
        except rest.FAILURES as error:
            raise PhaseError("kube-apiserver", f"cannot write the cluster's first objects: {error or type(error).__name__}", []) from error
        self._remember(joined=tuple(m.name for m in self.cluster.machines))

    async def _apply_objects(self) -> None:
        coredns = {"image": images.coredns(self.cluster.kubernetes_version), "dns_domain": spec.DNS_DOMAIN, "dns_ip": spec.DNS_ADDRESS}
        objects = [*addon("kube-apiserver-to-kubelet", {}), *addon("coredns", coredns)]
        async with cluster_api.connect(self._place.kubeconfig) as api:
            await cluster_api.retried(lambda: cluster_api.ensure_all(api, objects))
            # A kubelet may not give itself these labels (NodeRestriction).
            for machine in self.cluster.control_planes:
                await cluster_api.retried(functools.partial(_label, api, machine.name), READY_TIMEOUT_S)

    def _remember(self, **changes: Any) -> None:
        self.cluster = dataclasses.replace(self.cluster, **changes)
        self._place.save(self.cluster)


async def _label(api: rest.Client, node: str) -> None:
    await api.patch(resources.NODES, "", node, {"metadata": {"labels": LABELS}}, rest.PatchType.MERGE)
