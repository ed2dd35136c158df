"""A member's own snapshots, and those that it is sent."""

import asyncio
import contextlib
import random
import threading
from pathlib import Path
from typing import BinaryIO

from kubette.etcd import snapshotter
from kubette.etcd.disk import SystemDisk
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.server import Limits, Server, empty_state
from kubette.etcd.wal import Wal
from kubette.raft.core import Options
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfState, Entry, HardState, Snapshot
from kubette.raft.node import Node
from kubette.stdx.clock import SYSTEM_CLOCK

VOTERS = ConfState(voters=(1, 2))


class SlowDisk(SystemDisk):
    """The first new file takes until `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def create(self, path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
        self.go.wait(30)
        return super().create(path)


async def test_a_snapshot_from_the_leader_is_not_replaced_by_an_older_one_of_our_own(tmp_path: Path) -> None:
    """Simulation: the own one was still being written when the leader's arrived (a slow disk)."""
    disk = SlowDisk()
    snap_directory = tmp_path / "snap"
    snap_directory.mkdir()
    log = RaftLog(Snapshot(0, 0, VOTERS), [Entry(1, index) for index in range(1, 6)])
    node = Node(Options(1), log, HardState(1, 0, 5), VOTERS, random.Random(1))
    server = Server(1, 1, empty_state(min_ttl=1), snap_directory, Limits(snapshot_count=5), SYSTEM_CLOCK, 1.0, disk)
    loop = RaftLoop(node, Wal.create(tmp_path / "wal", b""), server, lambda messages: (), 0.1)
    server.attach(loop)
    await loop._carry_out()
    assert server.applied_index == 5, "the own snapshot begins here"
    theirs = empty_state(min_ttl=1)
    theirs.applied_index, theirs.applied_term = 9, 1
    image = snapshotter.capture(theirs, VOTERS)
    snapshotter.write_database(server.received_path(9), image)
    log.restore(image.snapshot)
    installing = asyncio.create_task(server.install_snapshot(image.snapshot))
    await asyncio.sleep(0)
    disk.go.set()
    await installing
    own = server._snapshot_running
    assert own is not None
    await own
    found = empty_state(min_ttl=1)
    snapshotter.load_database(snap_directory / "db", found)
    assert found.applied_index == 9
    assert loop._finished_snapshot is not None
    await loop._record_snapshot()
    assert (log.snapshot.index, log.offset) == (9, 9)
    loop.close()
