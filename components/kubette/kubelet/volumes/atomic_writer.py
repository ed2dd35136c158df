"""Writes a volume's files so that a reader sees all old ones or all new ones (volume/util's AtomicWriter).

The files live in a directory named by the time, `..data` is a symbolic link to it, and each visible name is a link through `..data`:
replacing that one link replaces all files at once.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from kubette.kubelet.volumes import ownership
from kubette.kubelet.volumes.file import File

DATA, NEW_DATA = "..data", "..data_tmp"
PATH_BYTES_MAX = 4096


def write(directory: Path, payload: Mapping[str, File], group: int | None = None) -> bool:
    """Make the directory show exactly `payload` (relative paths); answers whether anything changed. Raises OSError, ValueError."""
    for path in payload:
        if not path or path.startswith(("/", "..")) or ".." in path.split("/") or len(path) > PATH_BYTES_MAX:
            raise ValueError(f"invalid path {path!r}: must not be absolute, contain or begin with '..'")
    if group is not None:
        payload = {path: File(file.content, file.mode | 0o040) for path, file in payload.items()}
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / DATA
    old = os.readlink(link) if link.is_symlink() else ""
    if old and _read(directory / old) == dict(payload):
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + str(time.time_ns() % 10**10)
    fresh = directory / stamp
    fresh.mkdir(mode=0o755)
    for path, file in payload.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        ownership.give_to_group(target, group)
        os.chmod(target, file.mode)
    os.chmod(fresh, 0o755)
    temporary = directory / NEW_DATA
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(stamp)
    os.replace(temporary, link)
    # The visible names: links for the new ones, none for those that went.
    wanted = {path.split("/")[0] for path in payload}
    for name in wanted:
        visible = directory / name
        if not visible.is_symlink():
            visible.symlink_to(f"{DATA}/{name}")
    for entry in os.listdir(directory):
        if not entry.startswith("..") and entry not in wanted:
            (directory / entry).unlink(missing_ok=True)
    for entry in os.listdir(directory):
        if entry.startswith("..") and entry not in (DATA, stamp):
            shutil.rmtree(directory / entry, ignore_errors=True)
    return True


def _read(directory: Path) -> dict[str, File]:
    found = {}
    for root, _, names in os.walk(directory):
        for name in names:
            path = Path(root) / name
            try:
                found[str(path.relative_to(directory))] = File(path.read_bytes(), path.stat().st_mode & 0o777)
            except OSError:
                return {}
    return found
