"""Pure: Linux capabilities by name, and what a container gets of them.

The default set is containerd's (oci.defaultUnixCaps); `add` and `drop` follow the CRI: names with or without `CAP_`, `ALL` for every one,
drops win over the default and adds over an `ALL` drop.
"""

from collections.abc import Iterable

NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
DEFAULT = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
]


class UnknownCapability(ValueError):
    """A name that is no capability; the text is containerd's."""


def _short(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def effective(add: Iterable[str], drop: Iterable[str], privileged: bool = False) -> list[str]:
    """The names a container keeps, in the kernel's order."""
    if privileged:
        return list(NAMES)
    adds, drops = [_short(n) for n in add], [_short(n) for n in drop]
    for name in (*adds, *drops):
        if name != "ALL" and name not in NAMES:
            raise UnknownCapability(f'unknown capability "CAP_{name}"')
    kept = set(NAMES if "ALL" in adds else () if "ALL" in drops else DEFAULT)
    kept.update(n for n in adds if n != "ALL")
    kept.difference_update(n for n in drops if n != "ALL")
    return [n for n in NAMES if n in kept]


def mask(names: Iterable[str]) -> int:
    """The kernel's bit mask of some names."""
    return sum(1 << NAMES.index(name) for name in names)
