"""Tests side by side: which belong together on one worker, and a network of its own for each worker, so that the fixed ports of clusters do not meet."""

import ctypes
import functools
import os
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

from harness.article_table import STYLE

ROOT = Path(__file__).parents[2]
CLONE_NEWNET = 0x40000000


@functools.cache
def _brings_its_own(path: str) -> bool:
    text = (ROOT / path).read_text()
    return 'scope="module"' in text and ("new_cluster" in text or "cluster: Cluster" not in text)


def group(nodeid: str) -> str:
    """The tests of a group run on one worker, one after the other: those of a file, or all that use the same session-wide cluster."""
    path = nodeid.partition("::")[0]
    if path.startswith("tests/e2e/article/"):
        style = STYLE.search(nodeid)
        cluster = path if _brings_its_own(path) else "article"
        return f"{cluster}-{style[1]}" if style else path
    return path if not path.startswith("tests/e2e/") or _brings_its_own(path) else "e2e"


class Scheduler(LoadScopeScheduling):
    """Hands out whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def own_network() -> None:
    """From here on this thread, and what it starts, has a loopback of its own. Without the right to that nothing changes."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0:
        from pyroute2 import IPRoute

        with IPRoute() as network:
            network.link("set", index=1, state="up")


def outside() -> tuple[str, ...]:
    """What to put before a command that needs the network of the machine (an installation)."""
    return ("nsenter", f"--net=/proc/{os.getppid()}/ns/net", "--") if "PYTEST_XDIST_WORKER" in os.environ else ()
