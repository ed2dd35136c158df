"""Which executables are programs of ours, and so can be started warm: forked from init, which has their imports, instead of executed.

The list is the console scripts of the installed package (`pyproject.toml`, [project.scripts]). A name alone proves nothing, a user may have put the real
etcd in its place: what counts is that the file to be executed is the script that calls this entry point.
"""

import importlib.metadata
import os
from collections.abc import Mapping

DISTRIBUTION = "kubette"
_SCRIPT_BYTES_MAX = 4096


def entry_points() -> dict[str, str]:
    """Console script name → `module:function`."""
    points = importlib.metadata.distribution(DISTRIBUTION).entry_points
    return {point.name: point.value for point in points if point.group == "console_scripts"}


def entry_point_of(executable: str, known: Mapping[str, str]) -> str:
    """`module:function` when `executable` is the script of one of the `known` programs; else the empty string."""
    entry = known.get(os.path.basename(executable), "")
    if not entry:
        return ""
    try:
        with open(executable, "rb") as file:
            head = file.read(_SCRIPT_BYTES_MAX)
    except OSError:
        return ""
    module = entry.partition(":")[0].encode()
    return entry if head.startswith(b"#!") and b"from " + module + b" import" in head else ""
