"""The programs that no one here wrote and that decide whether ours are right: the machine's etcd, etcdctl, iptables, curl, ...

The virtual environment holds programs of the same names that are ours, so they are looked for everywhere but there. kubectl alone is taken from it: that
one is upstream's, as a wheel.
"""

import os
import shutil
import sys
from pathlib import Path

_OURS = Path(sys.executable).parent
PACKAGES = {
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "iptables-restore": "iptables",
    "curl": "curl",
    "ip": "iproute2",
    "openssl": "openssl",
    "ps": "procps",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "systemd-analyze": "systemd",
    "useradd": "passwd",
    "zsh": "zsh",
    "fish": "fish",
}


def find(name: str) -> str | None:
    """The program's path, or None."""
    if name == "kubectl":
        return shutil.which(name, path=str(_OURS)) or shutil.which(name)
    folders = [folder for folder in os.get_exec_path() if Path(folder).resolve() != _OURS.resolve()]
    return shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin", "/sbin"]))


def missing(*names: str) -> str:
    """Why a test that needs these programs cannot run; the empty string when it can."""
    absent = [f"{name} (Debian: {PACKAGES[name]})" if name in PACKAGES else name for name in names if find(name) is None]
    return f"not on this machine: {', '.join(absent)}" if absent else ""
