"""The Maintenance service: status, alarms, defragmentation, hashes, snapshots, moving the leader."""

import asyncio
import hashlib
import re
import tempfile
from typing import BinaryIO

import google_crc32c

from kubette.etcd import snapshotter
from kubette.etcd.mvcc.store import CompactedError, FutureRevisionError
from kubette.etcd.rim.grpc import MessageStream, Method
from kubette.etcd.server import Server
from kubette.etcd.wire import bytes_field, int_field
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb

ALARM = 10  # field of InternalRaftRequest
CHUNK_BYTES = 32 * 1024  # of a snapshot, as upstream sends it
QUEUE_BYTES = 4 << 20


class Maintenance:
    """One instance a server."""

    def __init__(self, server: Server, version: str, storage_version: str) -> None:
        self._server = server
        self._version = version
        self._storage_version = storage_version

    def methods(self) -> dict[bytes, Method]:
        return {
            b"/etcdserverpb.Maintenance/Alarm": Method(self.alarm),
            b"/etcdserverpb.Maintenance/Status": Method(self.status),
            b"/etcdserverpb.Maintenance/Defragment": Method(self.defragment),
            b"/etcdserverpb.Maintenance/Hash": Method(self.hash),
            b"/etcdserverpb.Maintenance/HashKV": Method(self.hash_kv),
            b"/etcdserverpb.Maintenance/Snapshot": Method(streaming=self.snapshot),
            b"/etcdserverpb.Maintenance/MoveLeader": Method(self.move_leader),
            b"/etcdserverpb.Maintenance/Downgrade": Method(self.downgrade),
        }

    def alarm(self, body: bytes) -> "asyncio.Future[bytes]":
        return self._server.propose_message(ALARM, pb.AlarmRequest, body)

    def status(self, body: bytes) -> bytes:
        server = self._server
        raft, state = server.node.raft, server.state
        answer = pb.StatusResponse(
            version=self._version,
            dbSize=state.size,
            leader=server.lead,
            raftIndex=raft.log.committed,
            raftTerm=raft.term,
            raftAppliedIndex=state.applied_index,
            dbSizeInUse=state.size_in_use,
            isLearner=server.is_learner,
            storageVersion=self._storage_version,
            dbSizeQuota=server.limits.quota_bytes,
        )
        if not server.lead:
            answer.errors.append(errors.NO_LEADER[1])
        for kind, member in state.alarms:
            answer.errors.append(f"memberID:{member} alarm:{pb.AlarmType.Name(kind)} ")  # type: ignore[arg-type]
        return bytes_field(1, server.header_now()) + answer.SerializeToString()

    def defragment(self, body: bytes) -> bytes:
        self._server.check_admin()
        # The store lives in memory and its file is always written without holes: what is left is the high-water mark.
        state = self._server.state
        with self._server.measures.timed("defragment"):
            state.high_water = state.size_in_use
        return bytes_field(1, self._server.header_now())

    def hash(self, body: bytes) -> bytes:
        """Of the whole database, member-specific buckets left out (upstream's definition leaves out `meta`'s position)."""
        self._server.check_admin()
        crc = 0
        with self._server.measures.timed("hash"):
            for name, items in sorted(self._server.capture().buckets().items()):
                if name == b"meta":
                    continue
                crc = google_crc32c.extend(crc, name)
                for key, value in items:
                    crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
        return bytes_field(1, self._server.header_now()) + int_field(2, crc)

    async def hash_kv(self, body: bytes) -> bytes:
        self._server.check_admin()
        at = pb.HashKVRequest.FromString(body).revision
        store = self._server.state.store
        try:
            with self._server.measures.timed("hash_revision"):
                crc = store.hash_kv(at)
        except CompactedError:
            raise errors.error(errors.COMPACTED) from None
        except FutureRevisionError:
            raise errors.error(errors.FUTURE_REV) from None
        parts = (bytes_field(1, self._server.header_now()), int_field(2, crc), int_field(3, store.compacted), int_field(4, at or store.current))
        return b"".join(parts)

    async def snapshot(self, call: MessageStream) -> None:
        """The database as a bbolt file, then its SHA-256 as the last 32 bytes."""
        await call.receive()
        self._server.check_admin()
        loop = asyncio.get_running_loop()
        with self._server.measures.timed("backup"), tempfile.TemporaryFile() as file:
            image = self._server.capture()
            size = await loop.run_in_executor(None, snapshotter.stream_database, file, image)
            file.seek(0)
            await self._stream(call, file, size)

    async def _stream(self, call: MessageStream, file: BinaryIO, size: int) -> None:
        digest = hashlib.sha256()
        header = bytes_field(1, self._server.header_now())
        left = size
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            left -= len(chunk)
            call.send(header + int_field(2, left) + bytes_field(3, chunk) + bytes_field(4, self._storage_version.encode()))
            if call.pending > QUEUE_BYTES:
                await call.wait_drained()
        call.send(header + bytes_field(3, digest.digest()) + bytes_field(4, self._storage_version.encode()))
        await call.wait_drained()

    async def move_leader(self, body: bytes) -> bytes:
        target = pb.MoveLeaderRequest.FromString(body).targetID
        server = self._server
        if not server.is_leader:
            raise errors.error(errors.NOT_LEADER)
        if target not in server.node.raft.tracker.config.voters:
            raise errors.error(errors.BAD_LEADER_TRANSFEREE)
        server.node.transfer_leadership(target)
        server.raft.nudge()
        deadline = server.clock.monotonic() + server.limits.request_timeout_s
        while server.lead != target:
            if server.clock.monotonic() > deadline:
                raise errors.error(errors.TIMEOUT)
            await asyncio.sleep(0.01)
        return bytes_field(1, server.header_now())

    async def downgrade(self, body: bytes) -> bytes:
        """Says whether a target would do; going there is refused: our files have one version."""
        self._server.check_admin()
        request = pb.DowngradeRequest.FromString(body)
        if request.action == pb.DowngradeRequest.CANCEL:
            raise errors.error(errors.NO_INFLIGHT_DOWNGRADE)
        await self._server.linearizable()
        known = self._server.state.membership.version
        if not known:
            raise errors.error(errors.CLUSTER_VERSION_UNAVAILABLE)
        match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", request.version)
        if match is None:
            raise errors.error(errors.WRONG_DOWNGRADE_VERSION_FORMAT)
        major, minor = (int(part) for part in known.split(".")[:2])
        if (int(match[1]), int(match[2])) != (major, minor - 1):
            raise errors.error(errors.INVALID_DOWNGRADE_TARGET_VERSION)
        if request.action == pb.DowngradeRequest.ENABLE:
            raise errors.RpcError(errors.Code.UNIMPLEMENTED, "etcdserver: downgrade is not supported")
        return bytes_field(1, self._server.header_now()) + bytes_field(2, known.encode())
