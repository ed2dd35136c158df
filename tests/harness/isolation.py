"""Tests side by side: which belong together on one worker, and a network of its own for each worker, so that the fixed ports of clusters do not meet.

A test goes with the others of its file, or with all that use the same session-wide cluster.
"""

import ctypes
import os

import pytest

CLONE_NEWNET = 0x40000000


def group(item: pytest.Item) -> str:
    """The tests of a group run on one worker, one after the other."""
    info = getattr(item, "_fixtureinfo", None)
    shared = info.name2fixturedefs.get("cluster", ()) if info is not None else ()
    if shared and shared[-1].scope == "session":
        params = item.callspec.params if hasattr(item, "callspec") else {}
        return "-".join(("cluster", *shared[-1].baseid.split("/")[1:], *filter(None, [params.get("style")])))
    return item.nodeid.partition("::")[0]


def own_network() -> None:
    """From here on this thread, and what it starts, has a loopback of its own. Without the right to that nothing changes."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0:
        from pyroute2 import IPRoute

        with IPRoute() as network:
            network.link("set", index=1, state="up")


def outside() -> tuple[str, ...]:
    """What to put before a command that needs the network of the machine (an installation)."""
    return ("nsenter", f"--net=/proc/{os.getppid()}/ns/net", "--") if "PYTEST_XDIST_WORKER" in os.environ else ()
