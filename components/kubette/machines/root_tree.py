"""A machine's file tree: made once (`seed`), put together at each boot (`assemble`).

The machine's root is its own folder on the host, so that whatever is written survives a reboot; over it come read-only views of the
host's system directories, our programs laid over /usr/bin, and fresh /run, /tmp, /proc, /sys and /dev. Of the host's /etc only what
programs need to run is copied, of its homes nothing is seen but the folders of Python and of kubette itself.
"""

import contextlib
import os
import shutil
import uuid
from pathlib import Path

from kubette.machines import cgroups, etc_files, interpreter, namespaces, spec, ssh
from kubette.machines.namespaces import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
from kubette.machines.packages import new_machine
from kubette.stdx import files

SYSTEM_DIRECTORIES = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix")
OWN_DIRECTORIES = {
    "etc": 0o755,
    "var": 0o755,
    "opt": 0o755,
    "root": 0o700,
    "home": 0o755,
    "mnt": 0o755,
    "media": 0o755,
    "srv": 0o755,
    "usr/local/bin": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/log/journal": 0o755,
    "var/mail": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
    "etc/kubernetes": 0o755,
    "etc/profile.d": 0o755,
    "etc/default": 0o755,
    "etc/systemd/system": 0o755,
    "etc/systemd/system/multi-user.target.wants": 0o755,
}
ENABLED_UNITS = ("containerd.service", "kubelet.service")
FRESH_DIRECTORIES = ("run", "tmp", "proc", "sys", "dev")
# What programs look for in /etc and what is no secret.
# fmt: off
COPIED_FROM_ETC = (
    "alternatives", "bash.bashrc", "bindresvport.blacklist", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version",
    "ethertypes", "gai.conf", "host.conf", "inputrc", "iproute2", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf",
    "localtime", "lsb-release", "magic", "mime.types", "nanorc", "netconfig", "networks", "os-release", "pki/tls", "pki/ca-trust", "protocols",
    "rpc", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim", "vimrc", "wgetrc", "xattr.conf", "bash_completion",
    "bash_completion.d",
)
# fmt: on

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
OPTIONAL_DEVICES = ("fuse", "net/tun")  # for programs that can use them
TMPFS_SIZE = "25%"  # of memory: a machine's /tmp or /run cannot take it all

# The Linux capabilities that reach the host's hardware and clock, whose drivers and whose modules no machine has a use for.
CAPABILITIES_DROPPED = {"CAP_SYS_MODULE": 16, "CAP_SYS_RAWIO": 17, "CAP_SYS_TIME": 25, "CAP_MKNOD": 27, "CAP_WAKE_ALARM": 35, "CAP_BLOCK_SUSPEND": 36}


def seed(root: Path, machine: spec.Machine, cluster: spec.Cluster) -> None:
    """Make the machine's own directories and files, once; what exists stays."""
    for name, mode in OWN_DIRECTORIES.items():
        path = root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    for name in FRESH_DIRECTORIES:
        (root / name).mkdir(exist_ok=True)
    links = [("var/run", "/run"), ("var/lock", "/run/lock"), ("etc/mtab", "../proc/self/mounts")]
    # Debian's packages enable their service when they are installed; this is when ours are.
    links += [
        (f"etc/systemd/system/multi-user.target.wants/{unit}", f"/usr/lib/systemd/system/{unit}")
        for unit in (ENABLED_UNITS if machine.role != "etcd" else ())
    ]
    for link, target in links:
        if not os.path.lexists(root / link):
            (root / link).symlink_to(target)
    for name in COPIED_FROM_ETC:
        _copy_public(Path("/etc", name), root / "etc" / name)
    own_files = {**etc_files.files(machine, cluster, uuid.uuid4().hex), **new_machine.files(cluster.kubernetes_version, _architecture())}
    for name, (text, mode) in own_files.items():
        if name == "etc/hosts" or not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(root / name, text, mode)


def _architecture() -> str:
    """As Debian calls it."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _copy_public(source: Path, target: Path) -> None:
    """Copy a file or tree of the host's /etc, leaving out what this user may not read and what is private."""
    if os.path.lexists(target) or not os.path.lexists(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, shutil.Error):  # an unreadable file is left out, the rest is there
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("private", "*.key", "*.rpmsave"))
        else:
            shutil.copy2(source, target, follow_symlinks=False)


def assemble(root: Path, programs: Path, ssh_socket: Path) -> None:
    """Put the tree together and make it the root. Called by the machine's PID 1, in its own mount and pid namespaces."""
    namespaces.make_mounts_private()
    namespaces.bind(root, root)
    os.chdir(root)
    own_bin = root / "usr/local/bin"
    own_bin_fd = os.open(own_bin, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _system_directories(root)
    _lay_programs(root, programs, own_bin_fd)
    os.close(own_bin_fd)
    _unit_files(root)
    # Before the trees: Python or the state may well live under the host's /tmp.
    _fresh_directories(root)
    for tree in interpreter.trees():
        target = root / tree.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        namespaces.bind(tree, target, read_only=True)
        if tree.is_relative_to("/root"):
            # Containers that run as another user have to pass through to the interpreter.
            (root / "root").chmod(0o711)
    _devices(root)
    _ssh_door(root, ssh_socket)
    namespaces.pivot_root(root)
    _protect_host()
    # As systemd has it: mounts on the machine reach its containers (mountPropagation).
    with contextlib.suppress(OSError):
        namespaces.mount("none", "/", flags=namespaces.MS_REC | namespaces.MS_SHARED)


def _system_directories(root: Path) -> None:
    for name in SYSTEM_DIRECTORIES:
        source, target = Path("/", name), root / name
        if source.is_symlink():
            if not target.is_symlink():
                target.symlink_to(os.readlink(source))
        elif source.is_dir():
            target.mkdir(exist_ok=True)
            namespaces.bind(source, target, read_only=True)


def _lay_programs(root: Path, programs: Path, own_bin_fd: int) -> None:
    """Our programs over /usr/bin and /usr/sbin, and the machine's own /usr/local/bin."""
    try:
        for folder in ("usr/bin", "usr/sbin"):
            if any((programs / folder).iterdir()) and (root / folder).is_dir() and not (root / folder).is_symlink():
                # Quoting: a colon or comma in a path is part of overlay's own syntax.
                lower = ":".join(str(p).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for p in (programs / folder, Path("/", folder)))
                namespaces.mount("overlay", root / folder, "overlay", MS_RDONLY, f"lowerdir={lower}")
        laid = True
    except OSError:
        laid = False
    local = root / "usr/local/bin"
    if not local.is_dir():
        return
    if any(hop.is_relative_to("/usr/local/bin") for hop in interpreter.python_hops()):
        return  # the interpreter itself is there (the official Python images): it has to stay in sight
    namespaces.bind(f"/proc/self/fd/{own_bin_fd}", local)
    if not laid:
        for program in [*(programs / "usr/bin").iterdir(), *(programs / "usr/sbin").iterdir()]:
            if not os.path.lexists(local / program.name):
                shutil.copy2(program, local / program.name, follow_symlinks=False)


def _unit_files(root: Path) -> None:
    """Our unit files in place of the host's, whose services are none of the machine's."""
    units, target = interpreter.source_root() / "systemd", root / "usr/lib/systemd/system"
    if units.is_dir() and target.is_dir():
        namespaces.bind(units, target, read_only=True)


def _fresh_directories(root: Path) -> None:
    namespaces.mount("tmpfs", root / "run", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={TMPFS_SIZE}")
    namespaces.mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={TMPFS_SIZE}")
    (root / "run/lock").mkdir(mode=0o1777)
    namespaces.mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    try:
        namespaces.mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    except OSError:
        namespaces.bind("/sys", root / "sys", read_only=True)
    cgroups.mount_own(root / "sys/fs/cgroup")


def _ssh_door(root: Path, ssh_socket: Path) -> None:
    """The supervisor's socket, in a folder that only root may enter."""
    target = root / ssh.DOOR.lstrip("/")
    target.parent.mkdir(mode=0o700)
    target.touch()
    namespaces.bind(ssh_socket, target)


def _devices(root: Path) -> None:
    dev = root / "dev"
    namespaces.mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=64k")
    for name in (*DEVICES, *OPTIONAL_DEVICES):
        if not Path("/dev", name).exists() and name in OPTIONAL_DEVICES:
            continue
        # A user namespace may not make device nodes, but it may show the host's.
        (dev / name).parent.mkdir(exist_ok=True)
        (dev / name).touch()
        namespaces.bind(f"/dev/{name}", dev / name)
    (dev / "pts").mkdir()
    try:
        namespaces.mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    except OSError:  # group tty is not mapped in a user namespace of one id
        namespaces.mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    for name, fstype, options in (("shm", "tmpfs", "mode=1777,size=25%"), ("mqueue", "mqueue", "")):
        (dev / name).mkdir()
        with contextlib.suppress(OSError):  # mqueue is a kernel option
            namespaces.mount(fstype, dev / name, fstype, MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    for name, target in links.items():
        (dev / name).symlink_to(target)


def _protect_host() -> None:
    """Where no user namespace stands between machine and host (root), keep the host's kernel settings, clock and disks out of reach."""
    if not _is_hosts_root():
        return
    for path in ("/proc/sys/net", "/proc/sys"):
        namespaces.bind(path, path)
    _read_only_alone("/proc/sys")
    if os.path.exists("/proc/sysrq-trigger"):
        namespaces.bind("/dev/null", "/proc/sysrq-trigger")
    drop_capabilities()


def _is_hosts_root() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def drop_capabilities() -> None:
    """What no program of a machine may have, from the next one that is executed on."""
    if _is_hosts_root():
        for number in CAPABILITIES_DROPPED.values():
            namespaces.drop_capability_bound(number)


def _read_only_alone(path: str) -> None:
    """Read-only without the mounts below (net's settings belong to the machine's own network namespace)."""
    kept = os.statvfs(path).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    namespaces.mount("none", path, flags=namespaces.MS_REMOUNT | namespaces.MS_BIND | MS_RDONLY | kept)
