"""The system calls behind namespaces and mounts, and why a host may forbid them.

A thin layer over libc (the standard library has `unshare` and `setns` only from Python 3.12 on, and never `mount`). Every failure is
an `OSError` that names the call; `explain_refusal` turns the one failure users meet, a host without user namespaces, into its cause and remedy.
"""

import contextlib
import ctypes
import functools
import os
import platform
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x80, 0x20000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 24, 36
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "armv7l": 218}

SUBORDINATE_IDS_MIN = 65536  # a range worth mapping holds every id up to `nobody`


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
    libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
    return libc


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (CLONE_NEWPID: its next children)."""
    _check(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that `fd` refers to."""
    _check(_libc().setns(fd, kind), "setns")


def mount(source: str | Path, target: str | Path, fstype: str = "", flags: int = 0, data: str = "") -> None:
    _check(
        _libc().mount(str(source).encode(), str(target).encode(), fstype.encode() or None, flags, data.encode() or None),
        f"mount {fstype or 'bind'} on {target}",
    )


def umount(target: str | Path, flags: int = MNT_DETACH) -> None:
    _check(_libc().umount2(str(target).encode(), flags), f"umount {target}")


def bind(source: str | Path, target: str | Path, read_only: bool = False) -> None:
    """Show `source` with all below it at `target`."""
    # Recursive always: inside a user namespace the kernel refuses to uncover what lies under a submount.
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: str | Path) -> None:
    """Make a mount, and those below it where the kernel can (5.12 and later), read-only."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    libc = _libc()
    if libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, str(target).encode(), _AT_RECURSIVE, attributes, ctypes.sizeof(attributes)) == 0:
        return
    # A remount has to repeat the flags the mount already has: they are locked in a user namespace.
    kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def pivot_root(new_root: str | Path) -> None:
    """Make `new_root` (a mount point) the root, and let go of the old one."""
    number = _SYS_PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(f"pivot_root: unknown architecture {platform.machine()}")
    os.chdir(new_root)
    # pivot_root(".", ".") stacks the old root on the new one: no directory for the old root is needed (pivot_root(2)).
    _check(_libc().syscall(number, b".", b"."), "pivot_root")
    umount(".")
    os.chdir("/")


def set_hostname(name: str) -> None:
    socket.sethostname(name)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to the calling process when its parent is gone."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _check(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER")


def drop_capability_bound(capability: int) -> None:
    """No program executed from here on can have this capability."""
    with contextlib.suppress(OSError):
        _check(_libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl PR_CAPBSET_DROP")


def make_mounts_private() -> None:
    """What is mounted from here on is not seen outside (nor the reverse)."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def enter_user_namespace() -> None:
    """Make a user namespace in which the calling user is root, and enter it. The process must have one thread.

    With `newuidmap` and a subordinate range of the user's, the ids 1… are mapped too, so that files and processes of other users work.
    """
    uid, gid = os.geteuid(), os.getegid()
    ranges = _subordinate_ranges(uid)
    helper = _start_id_mapper(os.getpid(), uid, gid, *ranges) if ranges else None
    unshare(CLONE_NEWUSER)
    if helper is not None and helper():
        return
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _subordinate_ranges(uid: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The user's (start, count) in /etc/subuid and /etc/subgid, when there are programs to map them."""
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return None
    found = []
    for path in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(path).read_text().splitlines()
            names = {str(uid), pwd.getpwuid(uid).pw_name}
        except (OSError, KeyError):
            return None
        parts = (line.split(":") for line in lines if line.count(":") == 2)
        fitting = [(int(start), int(count)) for name, start, count in parts if name in names and int(count) >= SUBORDINATE_IDS_MIN]
        if not fitting:
            return None
        found.append(fitting[0])
    return found[0], found[1]


def _start_id_mapper(pid: int, uid: int, gid: int, uids: tuple[int, int], gids: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Fork a child outside the new user namespace that will map the ranges into it; answers a function: go, and did it work."""
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(go_write)
            os.read(go_read, 1)
            for program, own, (start, count) in (("newuidmap", uid, uids), ("newgidmap", gid, gids)):
                subprocess.run([program, str(pid), "0", str(own), "1", "1", str(start), str(count)], check=True, stderr=subprocess.DEVNULL)
            code = 0
        finally:
            os._exit(code)
    os.close(go_read)

    def go() -> bool:
        os.write(go_write, b"1")
        os.close(go_write)
        return os.waitpid(child, 0)[1] == 0

    return go


def probe() -> str:
    """Whether this user can make machines here: tries, in a child, what a machine needs. Answers "" or what is forbidden, with the remedy."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() != 0:
                enter_user_namespace()
            unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID)
            make_mounts_private()
            mount("none", "/tmp", "tmpfs")
        except OSError as error:
            os.write(write, str(error.strerror or error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        refusal = answers.read()
    os.waitpid(child, 0)
    return explain_refusal(refusal, read_switches(), os.geteuid() == 0) if refusal else ""


SWITCHES = ("kernel/unprivileged_userns_clone", "user/max_user_namespaces", "kernel/apparmor_restrict_unprivileged_userns")


def read_switches() -> dict[str, str]:
    """The kernel's switches that forbid user namespaces, those that exist here."""
    found = {}
    for name in SWITCHES:
        with contextlib.suppress(OSError):
            found[name] = Path("/proc/sys", name).read_text().strip()
    return found


def explain_refusal(refusal: str, switches: dict[str, str], is_root: bool) -> str:
    """What forbids machines on this host, and how to allow them. `refusal` is the failed call."""
    if is_root:
        cause = "root here lacks capabilities (this looks like a container)"
        remedy = "start the container with --privileged, or run kubette on the host as an ordinary user"
    elif switches.get("user/max_user_namespaces") == "0":
        cause, remedy = "user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=65536"
    elif switches.get("kernel/unprivileged_userns_clone") == "0":
        cause, remedy = "kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    elif switches.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        cause = "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)"
        remedy = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    else:
        cause = "user namespaces are forbidden here (a container's seccomp profile, or a kernel without CONFIG_USER_NS)"
        remedy = "run on the host itself, or start the container with --security-opt seccomp=unconfined, or run as root"
    return f"this host does not let kubette make machines ({refusal}): {cause}. To allow it: {remedy}"
