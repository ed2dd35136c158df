"""The phases of `kubette up`: machines, then `kubeadm init` and `kubeadm join` on them, through the same door as `kubette ssh`."""

import dataclasses
import datetime
import hashlib
import secrets
import socket
import string

import yaml

from kubette.cli import external_etcd, journal, kubeadm_config, kubeconfig_file, readiness, tree_writer
from kubette.cli.errors import PhaseError
from kubette.cli.hard_way_files import Tree
from kubette.cli.machine_commands import Batch
from kubette.cli.progress import Progress
from kubette.machines import client, launch, layout, spec

READY_TIMEOUT_S = 240.0
API_TIMEOUT_S = 120.0
ROOT_KUBECONFIG = "kubeconfig of root"
KUBECTL_FOR_ROOT = "mkdir -p /root/.kube && cp /etc/kubernetes/admin.conf /root/.kube/config"  # what kubeadm tells its user to do


def new_token() -> str:
    """A bootstrap token: six characters and sixteen."""
    letters = string.ascii_lowercase + string.digits
    return "".join(secrets.choice(letters) for _ in range(6)) + "." + "".join(secrets.choice(letters) for _ in range(16))


def ca_hash(ca_pem: bytes) -> str:
    """The pin of the cluster's CA (RFC 7469: its public key)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(ca_pem).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def init_command(cluster: spec.Cluster) -> list[str]:
    """`kubeadm init` for the first control plane."""
    return ["kubeadm", "init", f"--config=/{kubeadm_config.CONFIG}", *(["--upload-certs"] if len(cluster.control_planes) > 1 else [])]


def join_command(cluster: spec.Cluster, machine: spec.Machine, token: str, pin: str, certificate_key: str) -> list[str]:
    """`kubeadm join` for any other machine."""
    command = ["kubeadm", "join", cluster.endpoint, f"--token={token}", f"--discovery-token-ca-cert-hash={pin}", f"--node-name={machine.name}"]
    if machine.role == "control-plane":
        command += ["--control-plane", f"--certificate-key={certificate_key}", f"--apiserver-advertise-address={machine.address}"]
    return command


class BringUp:
    """One run of `kubette up`. Each phase can be told to go on where an earlier run stopped."""

    def __init__(self, place: layout.Layout, cluster: spec.Cluster, progress: Progress) -> None:
        self._place, self.cluster, self._progress = place, cluster, progress
        self._token, self._certificate_key = new_token(), secrets.token_hex(32)
        self._token_is_known = False
        self._pids: dict[str, int] = {}
        self._started: dict[str, float] = {}

    def run(self, api_socket: socket.socket) -> None:
        """Everything up to Ready nodes. Raises PhaseError."""
        names = ", ".join(m.name for m in self.cluster.machines)
        if not (self.cluster.initialized or self.cluster.by_hand):
            self._write_configuration()
        if self.cluster.external_etcd and not self.cluster.initialized:
            with self._progress.phase(f"Writing certificates and the unit of etcd for {self.cluster.external_etcd.name}"):
                self._write_external_etcd(self.cluster.external_etcd)
        with self._progress.phase(f"Starting machines: {names}"):
            launch.start(self._place, self.cluster, api_socket)
            api_socket.close()
            self._start_machines()
            self._wait_runtimes()
        if self.cluster.by_hand:
            return
        if self.cluster.initialized:
            self._write_kubeconfig()
            self._wait_api()
        else:
            self._initialize()
        self._join()
        self._wait_ready()

    def _write_configuration(self) -> None:
        """What kubeadm and the API servers read; the policy is on every machine, since any may become a control plane."""
        for machine in self.cluster.machines:
            made = Tree()
            made.add(kubeadm_config.AUDIT_POLICY, kubeadm_config.audit_policy())
            if machine == self.cluster.control_planes[0]:
                documents = kubeadm_config.configuration(self.cluster, self._token, self._certificate_key)
                made.add(kubeadm_config.CONFIG, yaml.safe_dump_all(documents, sort_keys=False), 0o600)
            tree_writer.write(self._place.machine_root(machine.name), made)

    def _write_external_etcd(self, machine: spec.Machine) -> None:
        """Before they have power: then its first boot is a boot like any other, and kubeadm finds what it asks for."""
        root = self._place.machine_root(machine.name)
        pairs = external_etcd.issue(machine, datetime.datetime.now(datetime.UTC))
        for each in self.cluster.control_planes:
            tree_writer.write(self._place.machine_root(each.name), external_etcd.control_plane_tree(pairs))
        tree_writer.write(root, external_etcd.etcd_tree(machine, pairs, external_etcd.unit_text()))
        external_etcd.give_to_etcd(root)

    def _start_machines(self) -> None:
        with client.Control(self._place) as control:
            for machine in self.cluster.machines:
                control.send("StartMachine", name=machine.name)
            for _ in self.cluster.machines:
                try:
                    status = control.result(control.receive())
                except client.ControlError as error:
                    raise PhaseError("machine", str(error), []) from error
                self._pids[status["name"]] = status["pid"]
                self._started[status["name"]] = status["startedAt"]

    def _wait_api(self) -> None:
        with self._progress.phase("Starting the control plane"):
            failure = readiness.wait_api(self._place.kubeconfig, API_TIMEOUT_S)
            if failure:
                raise PhaseError("kube-apiserver", f"the API server did not answer within {API_TIMEOUT_S:.0f} s: {failure}", [])

    def _wait_runtimes(self) -> None:
        """kubeadm's preflight asks the container runtime: the machines are up when theirs is."""
        with Batch() as batch:
            for machine in self.cluster.nodes:
                command = ["systemctl", "start", "containerd.service"]
                batch.start(machine.name, self._pids[machine.name], "containerd", command, self._place.root / "logs" / "up.log")
            batch.wait_all()

    def _batch_start(self, batch: Batch, machine: spec.Machine, command: list[str]) -> None:
        log = self._place.root / "logs" / f"kubeadm-{machine.name}.log"
        batch.start(machine.name, self._pids[machine.name], " ".join(command[:2]), command, log)

    def _initialize(self) -> None:
        first = self.cluster.control_planes[0]
        with self._progress.phase(f"Starting the control plane: kubeadm init on {first.name}"), Batch() as batch:
            self._batch_start(batch, first, init_command(self.cluster))
            batch.wait_all()
            self._token_is_known = True
            self._prepare_root(batch, first)
            batch.wait_all()
            self.cluster = dataclasses.replace(self.cluster, initialized=True, joined=(first.name,))
            self._place.save(self.cluster)
            self._write_kubeconfig()
            with client.Control(self._place) as control:
                control.call("ReloadGateway")

    def _prepare_root(self, batch: Batch, machine: spec.Machine) -> None:
        """kubectl works for root on a control plane."""
        batch.start(machine.name, self._pids[machine.name], ROOT_KUBECONFIG, [KUBECTL_FOR_ROOT], self._place.root / "logs" / "up.log")

    def _join(self) -> None:
        """All at once. The control planes agree among themselves on who joins etcd next: it takes one learner at a time."""
        missing = [m for m in self.cluster.nodes if m.name not in self.cluster.joined]
        if not missing:
            return
        with self._progress.phase(f"Joining: {', '.join(m.name for m in missing)}"), Batch() as batch:
            pin = ca_hash(kubeconfig_file.ca_certificate(yaml.safe_load(self._place.kubeconfig.read_text())))
            self._make_token_known(batch)
            for machine in missing:
                self._batch_start(batch, machine, join_command(self.cluster, machine, self._token, pin, self._certificate_key))
            while one := batch.wait_any():
                if one.title == ROOT_KUBECONFIG:
                    continue
                machine = self.cluster.machine(one.machine)
                self._has_joined(machine)
                if machine.role == "control-plane":
                    self._prepare_root(batch, machine)

    def _has_joined(self, machine: spec.Machine) -> None:
        joined = {*self.cluster.joined, machine.name}
        self.cluster = dataclasses.replace(self.cluster, joined=tuple(m.name for m in self.cluster.machines if m.name in joined))
        self._place.save(self.cluster)

    def _make_token_known(self, batch: Batch) -> None:
        """An `up` that goes on where an interrupted one stopped has a token that the cluster does not know yet."""
        if self._token_is_known:
            return
        first = self.cluster.control_planes[0]
        command = ["kubeadm", "token", "create", self._token]
        batch.start(first.name, self._pids[first.name], "kubeadm token create", command, self._place.root / "logs" / "up.log")
        batch.wait_all()

    def _wait_ready(self) -> None:
        with self._progress.phase("Waiting for the nodes to be Ready"):
            missing = readiness.wait_nodes(self._place.kubeconfig, {m.name: self._started[m.name] for m in self.cluster.nodes}, READY_TIMEOUT_S)
            if missing:
                raise PhaseError(
                    f"kubelet on {missing[0]}",
                    f"nodes not Ready within {READY_TIMEOUT_S:.0f} s: {', '.join(missing)}",
                    journal.tail(self._place.machine_root(missing[0]), "kubelet"),
                )

    def _write_kubeconfig(self) -> None:
        kubeconfig_file.of_cluster(self._place, self.cluster)
