"""Comparing members by the hash of their keys: before serving, from time to time, and at each compaction.

Counterpart of upstream's corruptionChecker. Data that differs at the same revision, compacted at the same revision, is corrupt
on one side: before serving that ends the process; later the leader raises the CORRUPT alarm, and nothing is written any more.
"""

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from kubette.component_base import logs
from kubette.component_base.run import StartupError
from kubette.etcd import transport
from kubette.etcd.server import Server
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError

log = logs.logger(__name__)
HASH_PATH = "/members/hashkv"
ALARM = 10  # field of InternalRaftRequest


@dataclass(frozen=True, slots=True)
class KeysHash:
    """Of one member; `current` is the revision it was at."""

    member: int
    hash: int
    revision: int
    compacted: int
    current: int


def suspects(own: KeysHash, current: int, others: Sequence[KeysHash]) -> list[int]:
    """Pure: the followers whose answers cannot be, seen by a leader that is at revision `current` after having asked."""
    found = []
    for other in others:
        is_ahead = other.current > current or other.compacted > own.compacted
        differs = other.compacted == own.compacted and other.hash != own.hash
        if is_ahead or differs:
            found.append(other.member)
    return found


def outvoted(own: KeysHash, others: Sequence[KeysHash], member_count: int) -> list[int]:
    """Pure: members whose hash differs from what a majority has; 0 stands for the whole cluster when there is no majority."""
    groups: dict[int, list[int]] = {own.hash: [own.member]}
    for other in others:
        if other.compacted == own.compacted:
            groups.setdefault(other.hash, []).append(other.member)
    if len(groups) == 1:
        return []
    right = next((members for members in groups.values() if len(members) >= member_count // 2 + 1), None)
    if right is None:
        return [0]
    return [member for members in groups.values() if members is not right for member in members]


class Checker:
    """One instance a server."""

    def __init__(self, server: Server, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._context = context
        self._latest_checked = 0

    def _own(self, revision: int = 0) -> KeysHash:
        store = self._server.state.store
        return KeysHash(self._server.member_id, store.hash_kv(revision), revision or store.current, max(store.compacted, 0), store.current)

    async def _others(self, revision: int) -> list[KeysHash]:
        """Of the members that answer."""
        found = []
        for member in self._server.state.membership.sorted():
            if member.id == self._server.member_id:
                continue
            for url in member.peer_urls:
                try:
                    found.append(await self._ask(member.id, url, revision))
                    break
                except (OSError, TimeoutError, ValueError, KeyError) as error:
                    log.warning("failed hash kv request", remote_peer_id=f"{member.id:x}", requested_revision=revision, err=error)
        return found

    async def _ask(self, member: int, url: str, revision: int) -> KeysHash:
        body = json.dumps({"revision": revision}).encode()
        headers = {"X-Etcd-Cluster-ID": f"{self._server.cluster_id:x}"}
        status, _, answer = await transport.get(url, HASH_PATH, self._context, body, headers)
        if status != 200:
            raise ValueError(f"{status}: {answer.decode(errors='replace').strip()}")
        said = json.loads(answer)
        # etcd up to 3.4 writes no field that is 0.
        current = int(said["header"].get("revision", 0))
        return KeysHash(member, int(said.get("hash", 0)), revision, max(int(said.get("compact_revision", 0)), 0), current)

    async def initial(self) -> None:
        """Before anything is served. Raises StartupError."""
        name = f"{self._server.member_id:x}"
        log.info("starting initial corruption check", local_member_id=name)
        own = self._own()
        others = await self._others(own.revision)
        differing = [each for each in others if each.compacted == own.compacted and each.hash != own.hash]
        for each in differing:
            log.warning("found different hash values from remote peer", remote_peer_id=f"{each.member:x}", local=own.hash, remote=each.hash)
        if differing:
            raise StartupError(f"{name} found data inconsistency with peers")
        log.info("initial corruption checking passed; no corruption", local_member_id=name)

    async def periodically(self, interval_s: float) -> None:
        """As long as this member leads, every so often."""
        log.info("enabled corruption checking", interval=interval_s)
        while True:
            await asyncio.sleep(interval_s)
            if not self._server.is_leader:
                continue
            own = self._own()
            others = await self._others(own.revision)
            try:
                await self._server.linearizable()
            except RpcError as error:
                log.warning("failed to check hash KV", err=error)
                continue
            for member in suspects(own, self._server.state.store.current, others)[:1]:
                log.warning("found a member whose data differs", remote_peer_id=f"{member:x}", revision=own.revision)
                self._raise_alarm(member)
            log.info("finished peer corruption check", number_of_peers_checked=len(others))

    async def at_compactions(self, interval_s: float) -> None:
        """As long as this member leads, compare what the last compaction left (the CompactHashCheck feature)."""
        while True:
            await asyncio.sleep(interval_s)
            revision = self._server.state.store.compacted
            if not self._server.is_leader or revision <= self._latest_checked:
                continue
            own = self._own(revision)
            others = await self._others(revision)
            members = len(self._server.state.membership.members)
            wrong = outvoted(own, others, members)
            for member in wrong:
                log.error("Detected compaction hash mismatch", leader_compact_revision=revision, peer_id=f"{member:x}")
                self._raise_alarm(member)
            if wrong or sum(each.compacted == own.compacted for each in others) == members - 1:
                self._latest_checked = revision
                log.info("finished compaction hash check", revision=revision)

    def _raise_alarm(self, member: int) -> None:
        if (pb.CORRUPT, member) in self._server.state.alarms:
            return
        request = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=member, alarm=pb.CORRUPT)
        try:
            future = self._server.propose(ALARM, request.SerializeToString(), as_root=True)
        except RpcError as error:
            log.error("Could not raise the CORRUPT alarm", err=error)
            return
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
