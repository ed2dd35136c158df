"""A container's root tree, built by the launcher inside the container's own mount namespace.

The root is a plain writable directory (the container's layer); the machine's system directories are laid into it read-only, `/usr` as an
overlay so that an image's own files and volume mounts can lie inside it. Where the kernel forbids that overlay (an overlay below it
already, an old kernel), a *skeleton* of links takes its place along the paths that must be writable. No mount made here is seen by the machine,
and all of them go when the container's last process goes.
"""

import errno
import os
import stat
from typing import Any

from kubette.runtime import syscalls

# Directories every node has and no image brings here: shared, read-only.
SYSTEM_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Configuration of the host's programs without which they do not run; all else in /etc is the container's.
SHARED_ETC = (
    "ssl", "pki", "alternatives", "ca-certificates", "ca-certificates.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
    "terminfo", "protocols", "services", "python3.11",
)  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SYMLINKS_MAX = 40  # the kernel's own limit


def inside(root: str, path: str) -> str:
    """Where `path` lies under `root` with links followed *inside* it (upstream's SecureJoin): never outside of `root`."""
    parts, done, links = path.split("/"), "", 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = os.path.dirname(done)
            continue
        candidate = f"{done}/{part}"
        if os.path.islink(root + candidate):
            links += 1
            if links > SYMLINKS_MAX:
                raise OSError(errno.ELOOP, f"too many levels of symbolic links in {path}")
            target = os.readlink(root + candidate)
            parts = target.split("/") + parts
            if target.startswith("/"):
                done = ""
            continue
        done = candidate
    return root + done


def _make_target(root: str, path: str, source: str) -> str:
    """The mount point for `source` at `path`, made if missing: a file for a file, a directory for a directory."""
    target = inside(root, path)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    return target


def _submounts(of: str) -> list[str]:
    """Mount points below a directory, in the order they were mounted."""
    with open("/proc/self/mountinfo") as table:
        points = [line.split()[4].encode().decode("unicode_escape") for line in table]
    return [p for p in points if p.startswith(of + "/")]


def _own_directories(lower: str, upper: str, writable: list[str]) -> None:
    """Make the directories that are to be written into ours. The kernel copies up no directory whose owner the user namespace does not map,
    and the host's root is not mapped for an ordinary user; a directory that is in the upper layer already needs no copy."""
    for path in writable:
        here, parts = "", os.path.dirname(path)[len(lower) :].strip("/").split("/") if path.startswith(lower + "/") else []
        for part in parts:
            here = f"{here}/{part}"
            # Where the lower tree has no directory, the overlay can make one; what it reaches by a link has a path of its own.
            if os.path.islink(lower + here) or not os.path.isdir(lower + here):
                break
            os.makedirs(upper + here, exist_ok=True)
            os.chmod(upper + here, stat.S_IMODE(os.stat(lower + here).st_mode))


def _overlay(lower: str, target: str, layers: list[str], writable: list[str]) -> bool:
    """Lay a writable view of `lower` on `target`; False when no layer directory can carry one."""
    for layer in layers:
        upper, work = f"{layer}/upper{lower}", f"{layer}/work{lower.replace('/', '-')}"
        for options in (",userxattr", ""):
            try:
                os.makedirs(upper, exist_ok=True)
                os.makedirs(work, exist_ok=True)
                os.chmod(upper, stat.S_IMODE(os.stat(lower).st_mode))
                _own_directories(lower, upper, writable)
                syscalls.mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}{options}")
                return True
            except OSError:
                continue
    return False


def _skeleton(root: str, original: str, path: str) -> None:
    """Make the directories on the way to `path` (below `original`, a read-only system directory) writable: a tmpfs whose entries link to the original."""
    hidden = f"/.system{original}"
    if not os.path.isdir(root + hidden):
        os.makedirs(root + hidden)
        syscalls.bind(original, root + hidden, readonly=True)
        _link_entries(root, original, hidden)
    here = original
    for part in path[len(original) :].strip("/").split("/")[:-1]:
        here = f"{here}/{part}"
        if os.path.islink(root + here):
            os.unlink(root + here)
            os.mkdir(root + here)
            source = hidden + here[len(original) :]
            for name in os.listdir(root + source) if os.path.isdir(root + source) else ():
                os.symlink(f"{source}/{name}", f"{root}{here}/{name}")
        else:
            os.makedirs(root + here, exist_ok=True)


def _link_entries(root: str, original: str, hidden: str) -> None:
    syscalls.mount("tmpfs", root + original, "tmpfs", 0, "mode=755")
    for name in os.listdir(root + hidden):
        os.symlink(f"{hidden}/{name}", f"{root}{original}/{name}")


def _system(root: str, layers: list[str], writable: list[str]) -> None:
    """The machine's system directories; `writable` are paths that the image or a volume needs to make."""
    for name in SYSTEM_DIRECTORIES:
        if os.path.islink("/" + name):
            if not os.path.lexists(f"{root}/{name}"):
                os.symlink(os.readlink("/" + name), f"{root}/{name}")
        elif os.path.isdir("/" + name):
            os.makedirs(f"{root}/{name}", exist_ok=True)
            syscalls.bind("/" + name, f"{root}/{name}", readonly=True)
    os.makedirs(f"{root}/usr", exist_ok=True)
    if _overlay("/usr", f"{root}/usr", layers, writable):
        for point in _submounts("/usr"):
            if not os.path.isdir(point) or not _overlay(point, root + point, layers, writable):
                syscalls.bind(point, root + point, readonly=True)
    else:
        syscalls.bind("/usr", f"{root}/usr", readonly=True)
        for path in writable:
            if path.startswith("/usr/"):
                _skeleton(root, "/usr", path)
    os.makedirs(f"{root}/etc", exist_ok=True)
    for name in SHARED_ETC:
        if os.path.exists(f"/etc/{name}") and not os.path.lexists(f"{root}/etc/{name}"):
            syscalls.bind(f"/etc/{name}", _make_target(root, f"/etc/{name}", f"/etc/{name}"), readonly=True)


def _write_files(root: str, files: dict[str, dict[str, Any]]) -> None:
    """The image's own files: `{path: {content, mode} | {link} | {directory: true, mode}}`."""
    for path, file in files.items():
        target = inside(root, os.path.dirname(path)) + "/" + os.path.basename(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if "link" in file:
            if os.path.lexists(target):
                os.unlink(target)
            os.symlink(file["link"], target)
        elif "content" in file:
            if os.path.lexists(target):  # replaced, not written into: it may be the host's root's
                os.unlink(target)
            with open(target, "w") as opened:
                opened.write(file["content"])
            os.chmod(target, file.get("mode", 0o644))
        else:
            os.makedirs(target, exist_ok=True)
            os.chmod(target, file.get("mode", 0o755))


def _devices(root: str, privileged: bool, shm: str, tty: bool) -> None:
    dev = f"{root}/dev"
    os.makedirs(dev, exist_ok=True)
    if privileged:
        syscalls.bind("/dev", dev)
    else:
        syscalls.mount("tmpfs", dev, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_STRICTATIME, "mode=755,size=65536k")
        for name in DEVICES:
            if os.path.exists(f"/dev/{name}"):
                syscalls.bind(f"/dev/{name}", _make_target(root, f"/dev/{name}", f"/dev/{name}"))
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            os.symlink(f"/proc/self/fd{target}", f"{dev}/{name}")
        os.symlink("pts/ptmx", f"{dev}/ptmx")
        os.mkdir(f"{dev}/pts")
        _mount_pts(f"{dev}/pts")
        os.mkdir(f"{dev}/shm")
        if tty:
            syscalls.bind(os.ttyname(0), _make_target(root, "/dev/console", os.ttyname(0)))
    if shm and os.path.isdir(f"{dev}/shm"):
        syscalls.bind(shm, f"{dev}/shm")


def _mount_pts(target: str) -> None:
    for group in (",gid=5", ""):  # a user namespace that maps no group 5 refuses it
        try:
            syscalls.mount("devpts", target, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, f"newinstance,ptmxmode=0666,mode=0620{group}")
            return
        except OSError as error:
            if not group:
                raise OSError(error.errno, f"mount devpts: {error}") from error


def _proc_and_sys(root: str, own_pid_namespace: bool, privileged: bool) -> None:
    quiet = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    for name in ("proc", "sys"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    if own_pid_namespace:
        syscalls.mount("proc", f"{root}/proc", "proc", quiet)
    else:
        syscalls.bind("/proc", f"{root}/proc")
    try:
        syscalls.mount("sysfs", f"{root}/sys", "sysfs", quiet | (0 if privileged else syscalls.MS_RDONLY))
    except OSError:
        # Only the owner of the network namespace may mount a sysfs: a pod on the machine's network sees the machine's.
        syscalls.bind("/sys", f"{root}/sys")
        if not privileged:
            syscalls.remount_readonly(f"{root}/sys")
    if os.path.isdir("/sys/fs/cgroup") and os.path.isdir(f"{root}/sys/fs/cgroup"):
        try:
            syscalls.bind("/sys/fs/cgroup", f"{root}/sys/fs/cgroup")
            if not privileged:
                for point in (f"{root}/sys/fs/cgroup", *_submounts(f"{root}/sys/fs/cgroup")):
                    syscalls.remount_readonly(point)
        except OSError:
            pass  # a machine without control groups


def _volumes(root: str, mounts: list[dict[str, Any]]) -> None:
    # Parents before children, as containerd orders them.
    for volume in sorted(mounts, key=lambda m: m["target"].rstrip("/").count("/")):
        source = os.path.realpath(volume["source"])
        if not os.path.exists(source):
            raise OSError(errno.ENOENT, f'error mounting "{volume["source"]}" to rootfs at "{volume["target"]}": no such file or directory')
        target = _make_target(root, volume["target"], source)
        syscalls.bind(source, target)
        propagation = {"rslave": syscalls.MS_SLAVE, "rshared": syscalls.MS_SHARED}.get(volume.get("propagation", ""), syscalls.MS_PRIVATE)
        if propagation != syscalls.MS_SHARED:
            syscalls.mount("", target, "", propagation | syscalls.MS_REC)
        if volume.get("readonly"):
            syscalls.remount_readonly(target)


def _hide(root: str, masked: list[str], readonly: list[str]) -> None:
    for path in masked:
        target = root + path
        if os.path.isdir(target):
            syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_RDONLY, "size=0k")
        elif os.path.exists(target):
            syscalls.bind("/dev/null", target)
    for path in readonly:
        if os.path.exists(root + path):
            syscalls.bind(root + path, root + path, readonly=True)


def build(spec: dict[str, Any]) -> None:
    """Build the tree of `spec["root"]` and make it this mount namespace's root. The caller is alone in a new mount namespace."""
    tree = spec["root"]
    # Changes of the machine's mounts reach the container (volumes mounted later), none of ours goes back, except by rshared volumes.
    shared = any(m.get("propagation") == "rshared" for m in spec["mounts"])
    syscalls.mount("", "/", "", syscalls.MS_REC | (syscalls.MS_SHARED if shared else syscalls.MS_SLAVE))
    layer, root = tree["layer"], tree["rootfs"]
    os.makedirs(f"{layer}/root", exist_ok=True)
    os.makedirs(root, exist_ok=True)
    syscalls.bind(f"{layer}/root", root, recursive=False)
    syscalls.mount("", root, "", syscalls.MS_PRIVATE)
    os.chmod(root, 0o755)
    for path, mode in tree["directories"].items():
        os.makedirs(root + path, exist_ok=True)
        os.chmod(root + path, mode)
    # Files are replaced; a volume needs its mount point only where there is none.
    writable = [*tree["files"], *(f"{m['target']}/." for m in spec["mounts"] if not os.path.exists(m["target"]))]
    _system(root, [layer, tree["fallback_layer"]], writable)
    for path in tree["binds"]:
        syscalls.bind(path, _make_target(root, path, path), readonly=True)
    _write_files(root, tree["files"])
    _proc_and_sys(root, spec["namespaces"]["pid"] is not None, spec["privileged"])
    _devices(root, spec["privileged"], spec["shm"], spec["process"]["tty"])
    _volumes(root, spec["mounts"])
    _hide(root, spec["masked"], spec["readonly_paths"])
    if tree["readonly"]:
        syscalls.remount_readonly(root)
        if os.path.ismount(f"{root}/usr"):
            syscalls.remount_readonly(f"{root}/usr")
    syscalls.pivot_root(root)
