"""hostPath volumes: the type is checked, or made, as the pod asks (volume/hostpath)."""

import os
import stat
from pathlib import Path
from typing import Any

from kubette.kubelet.volumes.payloads import VolumeError

_CHECKS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def prepare(source: dict[str, Any]) -> Path:
    """The path to bind. Raises VolumeError, OSError."""
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        kind = "Directory"
    elif kind == "FileOrCreate":
        if not path.exists():
            path.touch(mode=0o644)
        kind = "File"
    if not kind:
        return path
    if kind not in _CHECKS:
        raise VolumeError(f"{kind} is an invalid volume type")
    check, noun = _CHECKS[kind]
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise VolumeError(f"hostPath type check failed: {path} is not a {noun}") from None
    if not check(mode):
        raise VolumeError(f"hostPath type check failed: {path} is not a {noun}")
    return path
