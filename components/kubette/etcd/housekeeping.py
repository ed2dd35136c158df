"""What needs a clock, but not an exact one: requests and reads whose time is over, progress that waited, streams without a leader."""

import asyncio

from kubette.etcd.server import Server
from kubette.etcd.services.watch import Watch

HOUSEKEEPING_S = 0.25  # timeouts of requests are as exact as this


async def run(server: Server, watch: Watch, election_s: float) -> None:
    """For ever."""
    leaderless_since: float | None = None
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        server.expire_requests()
        server.retry_reads()
        server.expire_v2()
        watch.answer_progress()
        now = server.clock.monotonic()
        if server.lead:
            leaderless_since = None
        elif leaderless_since is None:
            leaderless_since = now
        elif now - leaderless_since > 3 * election_s:
            watch.fail_leaderless()
