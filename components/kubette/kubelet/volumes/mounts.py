"""mount(2) and umount(2) for memory-backed volumes, and whether a path is a mount point; nothing else of the kernel's mount world."""

import ctypes
import errno
import os
from pathlib import Path

MS_NOSUID, MS_NODEV = 0x2, 0x4
MNT_DETACH = 0x2


def is_mount_point(path: Path) -> bool:
    return os.path.ismount(path)


def mount_tmpfs(path: Path, options: str) -> bool:
    """Mount a tmpfs; False where this user may not (an unprivileged test run). Raises OSError for anything else."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.EACCES):
        return False
    raise OSError(code, os.strerror(code), str(path))


def unmount(path: Path) -> None:
    """Detach a mount: what still uses it keeps it until it is done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, os.strerror(code), str(path))
