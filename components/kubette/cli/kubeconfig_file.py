"""The user's kubeconfig: our context goes in and out without touching anybody else's entries (clientcmd's ModifyConfig, for one context)."""

import base64
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kubette.cli.errors import CommandError
from kubette.machines import layout, spec
from kubette.stdx import files

SECTIONS = ("clusters", "users", "contexts")
LOCK_ATTEMPTS, LOCK_PAUSE_S = 20, 0.1


def default_path(environ: dict[str, str]) -> Path:
    """Where a new context is written: the first file of $KUBECONFIG that exists, else its last, else ~/.kube/config."""
    named = [Path(p) for p in environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    if named:
        return next((p for p in named if p.exists()), named[-1])
    return Path.home() / ".kube" / "config"


def for_host(admin: dict[str, Any], context: str, api_port: int) -> dict[str, Any]:
    """kubeadm's admin.conf as the host uses it: through the loopback port, under the cluster's own names."""
    cluster = dict(admin["clusters"][0]["cluster"]) | {"server": f"https://127.0.0.1:{api_port}"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": context, "user": dict(admin["users"][0]["user"])}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
        "preferences": {},
    }


def of_cluster(place: layout.Layout, cluster: spec.Cluster) -> Path:
    """The cluster's own file for use on the host, made of what lies on its first control plane."""
    admin = place.machine_root(cluster.control_planes[0].name) / cluster.admin_kubeconfig
    config = for_host(read(admin), cluster.context, cluster.api_port)
    if cluster.by_hand:  # whoever typed `kubeadm init` had no reason to have 127.0.0.1 in the server's certificate
        config["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes"
    files.write_atomic(place.kubeconfig, yaml.safe_dump(config, sort_keys=False), 0o600)
    return place.kubeconfig


def merged(current: dict[str, Any], addition: dict[str, Any]) -> dict[str, Any]:
    """`current` with the entries of `addition` replaced or added, and its context made the current one."""
    result = {"apiVersion": "v1", "kind": "Config", **current}
    for section in SECTIONS:
        names = {entry["name"] for entry in addition[section]}
        result[section] = [e for e in current.get(section) or [] if e.get("name") not in names] + addition[section]
    return result | {"current-context": addition["current-context"]}


def without(current: dict[str, Any], context: str) -> dict[str, Any]:
    """`current` without our context, its cluster and its user. Was it the current one, then the only other cluster of ours becomes that; somebody else's never does."""
    result = dict(current)
    for section in SECTIONS:
        result[section] = [e for e in current.get(section) or [] if e.get("name") != context]
    if current.get("current-context") == context:
        ours = [e["name"] for e in result["contexts"] if e.get("name", "").partition("-")[0] == "kubette"]
        result["current-context"] = ours[0] if len(ours) == 1 else ""
    return result


def ca_certificate(config: dict[str, Any]) -> bytes:
    """The cluster's CA, PEM."""
    return base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])


def read(path: Path) -> dict[str, Any]:
    """A missing or empty file is an empty configuration. Raises CommandError for one we would destroy by writing it."""
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise CommandError(f"cannot read kubeconfig {path}: {' '.join(str(error).split())}") from error
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise CommandError(f"cannot read kubeconfig {path}: it is not a mapping")
    return config


def check_writable(path: Path) -> None:
    """Before a cluster is started: its context can be written in the end."""
    read(path)
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise CommandError(f"cannot write kubeconfig {path}: permission denied; KUBECONFIG names another file")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """kubectl's own lock, so that a `kubectl config` at the same moment loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    lock = path.with_name(path.name + ".lock")
    for attempt in range(LOCK_ATTEMPTS):
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if attempt == LOCK_ATTEMPTS - 1:
                raise CommandError(f"cannot write kubeconfig {path}: {lock} exists; remove it if no kubectl is running") from None
            time.sleep(LOCK_PAUSE_S)
        except OSError as error:
            raise CommandError(f"cannot write kubeconfig {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def write(path: Path, config: dict[str, Any]) -> None:
    """Atomically, for the owner alone; a symbolic link stays one."""
    files.write_atomic(path.resolve(), yaml.safe_dump(config, sort_keys=False), 0o600)


def add(path: Path, addition: dict[str, Any]) -> None:
    with locked(path):
        write(path, merged(read(path), addition))


def remove(path: Path, context: str) -> None:
    """Nothing is written when there is nothing of ours."""
    if not path.exists():
        return
    with locked(path):
        current = read(path)
        changed = without(current, context)
        if any(len(changed[s]) != len(current.get(s) or []) for s in SECTIONS):
            write(path, changed)
