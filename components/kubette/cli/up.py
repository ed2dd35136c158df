"""`kubette up`: create a cluster, or boot the machines of one that exists; ends when every node is Ready."""

import dataclasses
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from kubette.cli import common_flags, diagnosis, down, host_checks, kubeconfig_file
from kubette.cli.bring_up import BringUp
from kubette.cli.errors import CommandError, PhaseError
from kubette.cli.hard_way import HardWay
from kubette.cli.progress import Progress
from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.machines import layout, spec

STYLES: dict[str, type[BringUp]] = {"kubeadm": BringUp, "systemd": HardWay}


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("up", "Start a cluster. The first time it is created; later its machines are booted.")
    flag_set.int("control-planes", 1, "Machines that run the control plane, etcd included.")
    flag_set.int("workers", 2, "Machines that run pods alone.")
    flag_set.string("kubernetes-version", version.DEFAULT_VERSION, "The Kubernetes release of a new cluster.")
    flag_set.int("api-port", spec.API_PORT, "The host's loopback port of the API.")
    flag_set.string("style", "kubeadm", "How the cluster is set up: kubeadm, or systemd (all processes are units, as in Kubernetes The Hard Way).")
    flag_set.bool("machines-only", False, "Give the machines power and leave kubeadm init and kubeadm join to you.")
    flag_set.string("etcd", "stacked", f"Where etcd is: stacked (on the control planes) or external (on a machine of its own, {spec.ETCD_MACHINE}).")
    flag_set.bool("retain", False, "Keep a new cluster that failed to start, for inspection.")
    return flag_set


def run(options: Any) -> int:
    # Ctrl-C, a closed terminal and a polite kill all mean: stop, and leave nothing half done.
    for which in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, _interrupt)
    wanted = spec.plan(
        options.name, options.control_planes, options.workers, options.kubernetes_version, options.style, options.api_port, options.etcd
    )
    wanted = dataclasses.replace(wanted, by_hand=options.machines_only)
    if wanted.by_hand and wanted.style != "kubeadm":
        raise CommandError("--machines-only is for --style kubeadm")
    if wanted.by_hand and wanted.external_etcd:
        raise CommandError("--machines-only leaves everything to you, also an external etcd")
    place = layout.of(options.name)
    host_checks.check_folder(layout.home())
    config = kubeconfig_file.default_path(dict(os.environ))
    kubeconfig_file.check_writable(config)
    if place.is_running():
        raise CommandError(
            f'cluster "{options.name}" is already running (kubette status shows it); kubette down stops it, --name starts another beside it'
        )
    is_new = not place.exists()
    cluster = wanted if is_new else _existing(place, wanted, options.changed)
    host_checks.check_rights()
    chosen = options.api_port if "api-port" in options.changed else cluster.api_port
    api_socket = host_checks.reserve_api_port(options.name, chosen, "api-port" in options.changed)
    cluster = dataclasses.replace(cluster, api_port=api_socket.getsockname()[1])
    place.root.mkdir(mode=0o700, exist_ok=True)
    lock = _lock(place)
    progress = Progress()
    progress.say(f'{"Creating" if is_new else "Starting"} cluster "{cluster.name}" ({cluster.kubernetes_version}) ...')
    bring_up = STYLES[cluster.style](place, cluster, progress)
    try:
        place.save(cluster)
        bring_up.run(api_socket)
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, PhaseError):
            error = diagnosis.explain(place, bring_up.cluster, error)
        _clean_up(place, is_new and not options.retain, progress)
        raise error from None
    finally:
        os.close(lock)
    if cluster.by_hand:
        _say_what_to_type(cluster, progress)
        return 0
    kubeconfig_file.add(config, kubeconfig_file.read(place.kubeconfig))
    _say_what_next(cluster, config, progress)
    return 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _lock(place: layout.Layout) -> int:
    """Two `kubette up` of one cluster at the same moment: the second is refused."""
    fd = os.open(place.root / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise CommandError(f'cluster "{place.root.name}" is being started by another kubette up') from None
    return fd


def _existing(place: layout.Layout, wanted: spec.Cluster, changed: set[str]) -> spec.Cluster:
    """The cluster as it was created. A flag that asks for another one is refused, not ignored."""
    cluster = place.load()
    differences = [
        ("control-planes", len(wanted.control_planes), len(cluster.control_planes)),
        ("workers", len(wanted.workers), len(cluster.workers)),
        ("kubernetes-version", wanted.kubernetes_version, cluster.kubernetes_version),
        ("style", wanted.style, cluster.style),
        ("machines-only", wanted.by_hand, cluster.by_hand),
        ("etcd", *("external" if each.external_etcd else "stacked" for each in (wanted, cluster))),
    ]
    for flag, asked, is_now in differences:
        if flag in changed and asked != is_now:
            raise CommandError(
                f'cluster "{cluster.name}" exists with --{flag}={is_now}, not {asked}; remove it with "kubette down --purge", or start another with --name'
            )
    return cluster


def _clean_up(place: layout.Layout, purge: bool, progress: Progress) -> None:
    """After a failure or Ctrl-C. A second Ctrl-C does not interrupt it."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with progress.phase("Cleaning up"):
            down.stop(place, timeout_s=0.0 if purge else None)
            if purge:
                down.purge(place)
    finally:
        signal.signal(signal.SIGINT, previous)


def _say_what_to_type(cluster: spec.Cluster, progress: Progress) -> None:
    name = "" if cluster.name == common_flags.DEFAULT_NAME else f" --name {cluster.name}"
    first = cluster.control_planes[0].name
    several = f" --control-plane-endpoint={cluster.endpoint} --upload-certs" if len(cluster.control_planes) > 1 else ""
    progress.say(f'\nThe machines of cluster "{cluster.name}" are up: {", ".join(m.name for m in cluster.machines)}.\nTry next:\n')
    print(
        f"  kubette ssh{name} {first}",
        f"    kubeadm init --pod-network-cidr={spec.POD_NETWORK} --kubernetes-version={cluster.kubernetes_version}{several}",
        "  and on the other machines the line that kubeadm join begins; then on the host",
        f"  kubette kubeconfig{name} > config && kubectl --kubeconfig=config get nodes",
        sep="\n",
    )


def _say_what_next(cluster: spec.Cluster, config: Path, progress: Progress) -> None:
    name = "" if cluster.name == common_flags.DEFAULT_NAME else f" --name {cluster.name}"
    worker = (cluster.workers or cluster.control_planes)[0].name
    bin_folder = Path(sys.executable).parent
    on_path = str(bin_folder) in os.environ.get("PATH", "").split(os.pathsep)
    progress.say(
        f'\nCluster "{cluster.name}" is up: https://127.0.0.1:{cluster.api_port}. kubectl context "{cluster.context}" is in {config}.\nTry next:\n'
    )
    prefix = "" if on_path else f"{bin_folder}/"
    print(
        f"  {prefix}kubectl get nodes",
        f"  {prefix}kubectl create deployment web --image=nginx --replicas=3 && {prefix}kubectl expose deployment web --port=80",
        f"  {prefix}kubectl get pods -o wide",
        f"  {prefix}kubette ssh{name} {worker}",
        f"  {prefix}kubette status{name}",
        f"  {prefix}kubette down{name}",
        sep="\n",
    )
