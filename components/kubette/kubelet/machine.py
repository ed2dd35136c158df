"""Reads what the machine is and how it does: /proc, /etc/os-release, the file system (cAdvisor's place in the kubelet)."""

import os
import platform
import socket
import struct
from pathlib import Path

from kubette.kubelet.eviction import Signal
from kubette.kubelet.node_status import Machine

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _meminfo() -> dict[str, int]:
    fields = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words:
            fields[name] = int(words[0]) * 1024
    return fields


def read(root_dir: str) -> Machine:
    """The machine at this moment."""
    disk = os.statvfs(root_dir)
    uname = platform.uname()
    machine_id = _read("/etc/machine-id")
    release = dict(line.partition("=")[::2] for line in _read("/etc/os-release").splitlines() if "=" in line)
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=_meminfo().get("MemTotal", 0),
        disk_bytes=disk.f_blocks * disk.f_frsize,
        inodes=disk.f_files,
        machine_id=machine_id,
        # A namespace has no firmware of its own: its machine id stands for the board's.
        system_uuid=machine_id,
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        kernel_version=uname.release,
        os_image=release.get("PRETTY_NAME", "Linux").strip('"'),
        architecture=_ARCHITECTURES.get(uname.machine, uname.machine),
    )


def signals(root_dir: str) -> dict[str, Signal]:
    """What eviction looks at."""
    memory, disk = _meminfo(), os.statvfs(root_dir)
    nodefs = Signal(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
    found = {
        "memory.available": Signal(memory.get("MemAvailable", 0), memory.get("MemTotal", 0)),
        "nodefs.available": nodefs,
        "imagefs.available": nodefs,
    }
    if disk.f_files:
        found["nodefs.inodesFree"] = Signal(disk.f_favail, disk.f_files)
    return found


def default_address() -> str:
    """The address of the interface with the default route, else the first that is no loopback's."""
    for line in _read("/proc/net/route").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == "00000000" and words[7] == "00000000":
            if address := _interface_address(words[0]):
                return address
    for _, name in socket.if_nameindex():
        if name != "lo" and (address := _interface_address(name)):
            return address
    return "127.0.0.1"


def _interface_address(name: str) -> str:
    import fcntl

    siocgifaddr = 0x8915
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock.fileno(), siocgifaddr, struct.pack("256s", name[:15].encode()))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])
