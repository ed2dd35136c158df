"""Automatic compaction (`--auto-compaction-mode`, `--auto-compaction-retention`), proposed by the leader alone."""

import asyncio
from collections import deque

from kubette.component_base import logs
from kubette.etcd.config import Config
from kubette.etcd.server import Server
from kubette.etcd.services.kv import KV
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError

log = logs.logger(__name__)
REVISION_CHECK_S = 300.0  # upstream's revision mode looks every five minutes
SAMPLES = 10  # a retention period


async def run(server: Server, kv: KV, config: Config) -> None:
    """Compact what is older than the retention says, for ever."""
    if config.compact_by_revision:
        while True:
            await asyncio.sleep(REVISION_CHECK_S)
            await _compact(server, kv, server.state.store.current - int(config.compact_retention))
    # Periodic: compact to the revision of one retention ago, at most once an hour.
    interval = min(config.compact_retention, 3600.0) / SAMPLES
    kept = int(config.compact_retention / interval) + 1
    revisions: deque[int] = deque(maxlen=kept)
    ticks = 0
    while True:
        revisions.append(server.state.store.current)
        await asyncio.sleep(interval)
        ticks += 1
        if len(revisions) == kept and ticks >= SAMPLES:
            ticks = 0
            await _compact(server, kv, revisions[0])


async def _compact(server: Server, kv: KV, revision: int) -> None:
    if not server.is_leader or revision <= max(server.state.store.compacted, 1):
        return
    try:
        await kv.compact(pb.CompactionRequest(revision=revision).SerializeToString())
    except RpcError as error:
        log.warning("Failed auto compaction", revision=revision, err=error.message)
    else:
        log.info("Completed auto compaction", revision=revision)
