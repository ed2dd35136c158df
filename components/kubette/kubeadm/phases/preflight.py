"""Phase preflight: what would make the rest fail is said before anything is written (upstream: cmd/kubeadm/app/preflight)."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from kubette.api import releases
from kubette.component_base import version
from kubette.kubeadm import config, container_runtime, images
from kubette.kubeadm.config import ConfigError
from kubette.kubeadm.phases.context import Context, PhaseError

_CONTROL_PLANE_PORTS = (config.API_PORT, 10259, 10257)
_KUBELET_PORT = 10250
_ETCD_PORTS = (2379, 2380)
_MANIFESTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")


def _port_in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("::", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _file_check(path: str) -> Iterator[tuple[str, str]]:
    if Path(path).exists():
        yield f"FileAvailable-{path.replace('/', '-')}", f"{path} already exists"


def _port_checks(ports: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    for port in ports:
        if _port_in_use(port):
            yield f"Port-{port}", f"Port {port} is in use"


def root() -> list[tuple[str, str]]:
    return [("IsPrivilegedUser", "user is not running as root")] if os.geteuid() != 0 else []


def _machine_checks(context: Context) -> Iterator[tuple[str, str]]:
    yield from root()
    socket_path = Path(context.local.cri_socket.removeprefix("unix://"))
    if not socket_path.is_socket():
        yield (
            "CRI",
            "could not connect to the container runtime: failed to create new CRI runtime service: validate service connection: "
            f'validate CRI v1 runtime API for endpoint "{context.local.cri_socket}": dial unix {socket_path}: connect: no such file or directory',
        )


def _kubelet_version(context: Context) -> Iterator[tuple[str, str]]:
    """The skew between this machine's kubelet and the control plane it is for."""
    kubelet, control_plane = releases.parse(version.installed("kubelet")), releases.parse(context.cluster.kubernetes_version)
    if kubelet < releases.oldest_kubelet(control_plane):
        yield "KubeletVersion", f'Kubelet version "{str(kubelet)[1:]}" is lower than kubeadm can support. Please upgrade kubelet'
    if releases.is_newer_line(kubelet, control_plane):
        yield (
            "KubeletVersion",
            "the kubelet version is higher than the control plane version. This is not a supported version skew and may lead to a malfunctional "
            f'cluster. Kubelet version: "{str(kubelet)[1:]}" Control plane version: "{str(control_plane)[1:]}"',
        )


def _kubernetes_version(context: Context) -> Iterator[str]:
    """A warning: upstream lets an older kubeadm try."""
    wanted, own = releases.parse(context.cluster.kubernetes_version), releases.parse(version.git_version())
    if wanted.minor > own.minor:
        yield (
            "Kubernetes version is greater than kubeadm version. Please consider to upgrade kubeadm. "
            f"Kubernetes version: {str(wanted)[1:]}. Kubeadm version: {own.major}.{own.minor}.x"
        )


def _control_plane_checks(context: Context) -> Iterator[tuple[str, str]]:
    yield from _port_checks(_CONTROL_PLANE_PORTS)
    for name in _MANIFESTS:
        yield from _file_check(f"{config.MANIFESTS_DIR}/{name}.yaml")
    if context.cluster.etcd_external:
        yield from _port_checks((_KUBELET_PORT,))
        for path in context.cluster.external_etcd_files():
            if not Path(path).exists():
                yield "ExternalEtcdClientCertificates", f"{path} doesn't exist"
        return
    yield from _port_checks((_KUBELET_PORT, *_ETCD_PORTS))
    data = Path(context.cluster.etcd_data_dir)
    if data.is_dir() and any(data.iterdir()):
        yield f"DirAvailable-{str(data).replace('/', '-')}", f"{data} is not empty"


def _worker_checks() -> Iterator[tuple[str, str]]:
    yield from _file_check(f"{config.KUBERNETES_DIR}/kubelet.conf")
    yield from _file_check(f"{config.KUBERNETES_DIR}/bootstrap-kubelet.conf")
    yield from _port_checks((_KUBELET_PORT,))
    yield from _file_check(f"{config.PKI_DIR}/ca.crt")


def run(context: Context, *, joining: bool) -> None:
    """Raises PhaseError that lists every fatal finding that is not ignored."""
    context.say("[preflight] Running pre-flight checks")
    findings = list(_machine_checks(context))
    if context.control_plane:
        findings += _control_plane_checks(context)
    if joining:
        findings += _worker_checks() if not context.control_plane else _file_check(f"{config.KUBERNETES_DIR}/kubelet.conf")
    else:
        findings += _kubelet_version(context)
        for text in _kubernetes_version(context):
            context.say(f"\t[WARNING KubernetesVersion]: {text}")
    judge(findings, context.local.ignore_preflight_errors, context.say)


async def pull_images(context: Context) -> None:
    """On the machine before the kubelet needs them. Raises PhaseError through `judge`."""
    if context.dry_run:
        context.say("[preflight] Would pull the required images (like 'kubeadm config images pull')")
        return
    context.say("[preflight] Pulling images required for setting up a Kubernetes cluster")
    context.say("[preflight] This might take a minute or two, depending on the speed of your internet connection")
    context.say("[preflight] You can also perform this action beforehand using 'kubeadm config images pull'")
    findings = []
    for image in images.required(context.cluster.kubernetes_version, context.cluster.image_repository, not context.cluster.etcd_external):
        try:
            await container_runtime.pull(context.local.cri_socket, image)
        except ConfigError as error:
            findings.append(("ImagePull", str(error)))
    judge(findings, context.local.ignore_preflight_errors, context.say)


def run_with_cluster(context: Context) -> None:
    """What a joining machine can check only when it knows the cluster. Raises PhaseError."""
    judge(list(_kubelet_version(context)), context.local.ignore_preflight_errors, context.say)


def judge(findings: list[tuple[str, str]], ignored: frozenset[str], say: Callable[[str], None]) -> None:
    """Raises PhaseError that lists every finding that is not ignored."""
    fatal = []
    for name, text in findings:
        if "all" in ignored or name.lower() in ignored:
            say(f"\t[WARNING {name}]: {text}")
        else:
            fatal.append(f"\t[ERROR {name}]: {text}")
    if fatal:
        hint = "[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`"
        raise PhaseError("preflight", "preflight checks failed", "\n".join(["[preflight] Some fatal errors occurred:", *fatal, hint]))
