"""`lock` and `elect`: keys under a common prefix, each on the lease of a session; the one created first has the lock, or leads.

The recipe is upstream's (clientv3/concurrency), so that theirs and ours contend with each other.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import kv_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import leases, printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import Connection
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, bad_args
from kubette.etcdctl.keys import encoded

_SESSION_TTL_S = 60


class _Session:
    """A lease that is kept alive by a thread; `lost` says when it is gone."""

    def __init__(self, connection: Connection, ttl_s: int) -> None:
        self.connection = connection
        self.lease = int(connection.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl_s), pb.LeaseGrantResponse).ID)
        self.lost = threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        try:
            for _ in leases.keep_alive(self.connection, self.lease):
                pass
        except (CommandError, ValueError):
            pass
        self.lost.set()


class _Claim:
    """Our key under the prefix."""

    def __init__(self, session: _Session, name: str, value: bytes) -> None:
        self._session = session
        self._prefix = encoded(f"{name}/")
        self.key = self._prefix + f"{session.lease:x}".encode()
        self.revision = self._put(value)

    def _call(self, method: str, request: Any, response: Any) -> Any:
        return self._session.connection.call(method, request, response)

    def _put(self, value: bytes) -> int:
        """Put the key unless it is there; answers the revision that made it."""
        absent = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=self.key, create_revision=0)
        put = pb.RequestOp(request_put=pb.PutRequest(key=self.key, value=value, lease=self._session.lease))
        read = pb.RequestOp(request_range=pb.RangeRequest(key=self.key))
        answer = self._call("KV/Txn", pb.TxnRequest(compare=[absent], success=[put], failure=[read]), pb.TxnResponse)
        return int(answer.header.revision if answer.succeeded else answer.responses[0].response_range.kvs[0].create_revision)

    def wait(self) -> int:
        """Until every key made before ours is gone; answers the revision at which that was so."""
        while True:
            request = pb.RangeRequest(
                key=self._prefix,
                range_end=printers.prefix_end(self._prefix),
                sort_order=pb.RangeRequest.DESCEND,
                sort_target=pb.RangeRequest.CREATE,
                max_create_revision=self.revision - 1,
                limit=1,
            )
            earlier = self._call("KV/Range", request, pb.RangeResponse)
            if not earlier.kvs:
                return int(earlier.header.revision)
            _wait_deleted(self._session.connection, earlier.kvs[0].key, earlier.header.revision)

    def give_up(self) -> None:
        """Delete the key, if it is still ours."""
        ours = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=self.key, create_revision=self.revision)
        delete = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self.key))
        self._call("KV/Txn", pb.TxnRequest(compare=[ours], success=[delete]), pb.TxnResponse)


def _one_watch(request: pb.WatchCreateRequest) -> Iterator[pb.WatchRequest]:
    yield pb.WatchRequest(create_request=request)
    threading.Event().wait()  # the stream is closed by whoever reads it


def _wait_deleted(connection: Connection, key: bytes, revision: int) -> None:
    request = pb.WatchCreateRequest(key=key, start_revision=revision)
    for response in connection.stream("Watch/Watch", _one_watch(request), pb.WatchResponse):
        if response.canceled:
            return  # whoever asks looks again
        if any(event.type == kv_pb2.Event.DELETE for event in response.events):
            return


class _Interrupted(Exception):
    """SIGINT or SIGTERM."""


def _raise_when_interrupted() -> None:
    def interrupt(*_: object) -> NoReturn:
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, signal.SIG_IGN)  # what is held is given back first
        raise _Interrupted

    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, interrupt)


def _show_and_hold(context: Context, session: _Session, claim: _Claim, lost: str, expired: str) -> None:
    """Print the key, then keep it until interrupted. Raises CommandError when the session is lost."""
    try:
        answer = context.call("KV/Range", pb.RangeRequest(key=claim.key), pb.RangeResponse)
        if not answer.kvs and lost:
            raise CommandError(lost)
        context.show("Get", answer)
        session.lost.wait()
    except _Interrupted:
        claim.give_up()
    else:
        raise CommandError(expired)


# lock


def _lock(context: Context) -> None:
    if not context.args:
        raise bad_args("lock takes a lock name argument and an optional command to execute")
    _raise_when_interrupted()
    session = _Session(context.connect(), context.options.ttl)
    claim = _Claim(session, context.args[0], b"")
    try:
        revision = claim.wait()
    except _Interrupted:
        claim.give_up()
        raise CommandError("context canceled") from None
    if len(context.args) > 1:
        _run_locked(context.args[1:], claim, revision)
        return
    _show_and_hold(context, session, claim, "lock lost on init", "session expired")


def _run_locked(words: list[str], claim: _Claim, revision: int) -> None:
    environment = {"ETCD_LOCK_KEY": claim.key.decode("utf-8", "surrogateescape"), "ETCD_LOCK_REV": str(revision)}
    sys.stdout.flush()
    try:
        code = subprocess.run(words, env={**environment, **os.environ}, check=False).returncode
    except FileNotFoundError as error:
        raise CommandError(f'exec: "{words[0]}": executable file not found in $PATH') from error
    except OSError as error:
        raise CommandError(f'exec: "{words[0]}": {(error.strerror or str(error)).lower()}') from error
    finally:
        claim.give_up()
    if code:
        raise CommandError(f"exit status {code}" if code > 0 else f"signal: {signal.strsignal(-code)}")


# elect


def _elect(context: Context) -> None:
    args, listen = context.args, context.options.listen
    if len(args) not in (1, 2):
        raise bad_args("elect takes one election name argument and an optional proposal argument")
    if len(args) == 1 and not listen:
        raise bad_args("no proposal argument but -l not set")
    if len(args) == 2 and listen:
        raise bad_args("proposal given but -l is set")
    _raise_when_interrupted()
    if listen:
        try:
            _observe(context, encoded(f"{args[0]}/"))
        except _Interrupted:
            return
    else:
        _campaign(context, args[0], encoded(args[1]))


def _campaign(context: Context, name: str, proposal: bytes) -> None:
    session = _Session(context.connect(), _SESSION_TTL_S)
    claim = _Claim(session, name, proposal)
    try:
        claim.wait()
    except _Interrupted:
        claim.give_up()
        raise CommandError("context canceled") from None
    _show_and_hold(context, session, claim, "", "elect: session expired")


def _observe(context: Context, prefix: bytes) -> None:
    """Show each leader's key, and again whenever the leader proclaims something else."""
    connection = context.connect()
    while True:
        first = pb.RangeRequest(
            key=prefix,
            range_end=printers.prefix_end(prefix),
            sort_order=pb.RangeRequest.ASCEND,
            sort_target=pb.RangeRequest.CREATE,
            limit=1,
        )
        answer = connection.call("KV/Range", first, pb.RangeResponse)
        if answer.kvs:
            leader = answer.kvs[0]
            context.show("Get", pb.RangeResponse(header=answer.header, kvs=[leader]))
            request = pb.WatchCreateRequest(key=leader.key, start_revision=answer.header.revision + 1)
        else:
            request = pb.WatchCreateRequest(
                key=prefix, range_end=printers.prefix_end(prefix), start_revision=answer.header.revision + 1, filters=[pb.WatchCreateRequest.NODELETE]
            )
        _follow(context, request)


def _follow(context: Context, request: pb.WatchCreateRequest) -> None:
    """Show the changes of a leader's key until it is gone; from a whole prefix, until there is any key."""
    for response in context.connect().stream("Watch/Watch", _one_watch(request), pb.WatchResponse):
        if response.canceled:
            return
        for event in response.events:
            if request.range_end or event.type == kv_pb2.Event.DELETE:
                return
            context.show("Get", pb.RangeResponse(header=response.header, kvs=[event.kv]))


def _lock_flags(flags: FlagSet) -> None:
    flags.int("ttl", 10, "timeout for session")


def _elect_flags(flags: FlagSet) -> None:
    flags.bool("listen", False, "observation mode", "l")


LOCK = Command("lock <lockname> [exec-command arg1 arg2 ...]", "Acquires a named lock", _lock, _lock_flags)
ELECT = Command("elect <election-name> [proposal]", "Observes and participates in leader election", _elect, _elect_flags)
