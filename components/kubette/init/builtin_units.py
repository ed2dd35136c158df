"""Pure: the units init has without a file.

The host's /usr/lib/systemd/system is not read: its services are the host's business (and may need hardware, D-Bus or the host's own
daemons). What unit files of packages rely on are systemd's passive targets; they are written down here. A file of the same name in one of
the searched directories (see `loader`) replaces the text.
"""

_TARGETS = {
    "default.target": ("Multi-User System", "Requires=multi-user.target\nAfter=multi-user.target"),
    "multi-user.target": ("Multi-User System", "Requires=basic.target\nAfter=basic.target"),
    "graphical.target": ("Graphical Interface", "Requires=multi-user.target\nAfter=multi-user.target"),
    "basic.target": ("Basic System", "Requires=sysinit.target\nAfter=sysinit.target\nWants=sockets.target timers.target paths.target slices.target"),
    "sysinit.target": ("System Initialization", "Wants=local-fs.target swap.target\nAfter=local-fs.target swap.target"),
    "sockets.target": ("Socket Units", ""),
    "timers.target": ("Timer Units", ""),
    "paths.target": ("Path Units", ""),
    "slices.target": ("Slice Units", ""),
    "local-fs-pre.target": ("Preparation for Local File Systems", ""),
    "local-fs.target": ("Local File Systems", "After=local-fs-pre.target"),
    "remote-fs.target": ("Remote File Systems", ""),
    "swap.target": ("Swaps", ""),
    "network-pre.target": ("Preparation for Network", ""),
    "network.target": ("Network", "After=network-pre.target"),
    "network-online.target": ("Network is Online", "After=network.target"),
    "nss-lookup.target": ("Host and Network Name Lookups", ""),
    "nss-user-lookup.target": ("User and Group Name Lookups", ""),
    "time-sync.target": ("System Time Synchronized", ""),
    "rpcbind.target": ("RPC Port Mapper", ""),
    "getty.target": ("Login Prompts", ""),
    "shutdown.target": ("System Shutdown", "DefaultDependencies=no"),
    "umount.target": ("Unmount All Filesystems", "DefaultDependencies=no"),
    "final.target": ("Late Shutdown Services", "DefaultDependencies=no"),
    "poweroff.target": ("System Power Off", "DefaultDependencies=no"),
    "reboot.target": ("System Reboot", "DefaultDependencies=no"),
    "halt.target": ("System Halt", "DefaultDependencies=no"),
    "rescue.target": ("Rescue Mode", "Requires=sysinit.target\nAfter=sysinit.target"),
}


def text(name: str) -> str | None:
    """The unit file init has built in under this name, or None."""
    entry = _TARGETS.get(name)
    if entry is None:
        return None
    description, rest = entry
    return f"[Unit]\nDescription={description}\nDocumentation=man:systemd.special(7)\n{rest}\n"


def names() -> list[str]:
    """All built-in units, sorted."""
    return sorted(_TARGETS)
