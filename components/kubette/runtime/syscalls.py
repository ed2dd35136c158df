"""The Linux system calls of container making that Python 3.11 does not offer: mount, namespaces, capabilities, prctl.

Thin and typed; every failure is an OSError with the call's name. Used by the launcher (one thread) and, for `in_network_namespace`,
by the runtime's loop thread.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_STRICTATIME = 1 << 24
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_SET_KEEPCAPS = 8

# statvfs bit -> mount flag: what a bind mount inherits and a user namespace may not drop when it remounts.
_STATVFS_FLAGS = {2: MS_NOSUID, 4: MS_NODEV, 8: MS_NOEXEC, 1024: 1 << 10, 2048: 1 << 11, 4096: 1 << 21}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error).lower()}")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    code = _libc().mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    _check(code, f"mount {source or kind} to {target}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2), lazily unless told otherwise."""
    _check(_libc().umount2(target.encode(), flags), f"umount {target}")


def bind(source: str, target: str, readonly: bool = False, recursive: bool = True) -> None:
    """Bind `source` over `target`; `readonly` covers the mount itself, as runc's does (its submounts keep their own flags)."""
    mount(source, target, "", MS_BIND | (MS_REC if recursive else 0))
    if readonly:
        remount_readonly(target)


def remount_readonly(target: str) -> None:
    """Make the mount at `target` read-only, keeping the flags a user namespace is not allowed to clear."""
    kept = 0
    present = os.statvfs(target).f_flag
    for bit, flag in _STATVFS_FLAGS.items():
        if present & bit:
            kept |= flag
    mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    """setns(2)."""
    _check(_libc().setns(fd, kind), "setns")


def pivot_root(new_root: str) -> None:
    """Make `new_root` (a mount point) the root of this mount namespace and let the old one go."""
    os.chdir(new_root)
    number = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}[os.uname().machine]
    _check(_libc().syscall(number, b".", b"."), f"pivot_root {new_root}")
    umount(".", MNT_DETACH)
    os.chdir("/")


def prctl(option: int, argument: int = 0, third: int = 0) -> None:
    """prctl(2)."""
    _check(_libc().prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0)), "prctl")


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2), version 3, of this thread."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low = 0xFFFFFFFF
    sets = (effective, permitted, inheritable)
    data = (ctypes.c_uint32 * 6)(*(s & low for s in sets), *(s >> 32 for s in sets))
    _check(_libc().capset(ctypes.byref(header), ctypes.byref(data)), "capset")


@contextmanager
def in_network_namespace(path: str) -> Iterator[None]:
    """Run the block with this thread inside the network namespace at `path`; sockets made there stay there.

    Nothing in the block may await: the thread is the event loop's.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            # A thread that cannot come home would serve the machine from inside a pod: better dead.
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
