"""`make-mirror`: the keys of a prefix copied to another cluster, then every change of them, one transaction a revision."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import kv_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import Connection, Settings
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, bad_args
from kubette.etcdctl.keys import encoded

_BATCH = 1000  # keys a page of the first copy
_TELL_S = 30.0


@dataclass(slots=True)
class _Mirror:
    source: Connection
    target: Connection
    prefix: bytes
    target_prefix: bytes
    total: int = 0

    def renamed(self, key: bytes) -> bytes:
        return key.replace(self.prefix, self.target_prefix, 1)

    def copy_base(self) -> int:
        """Everything as of one revision; answers it."""
        key, range_end = (self.prefix, printers.prefix_end(self.prefix)) if self.prefix else (b"\0", b"\0")
        revision = 0
        while True:
            page = self.source.call(
                "KV/Range",
                pb.RangeRequest(key=key, range_end=range_end, limit=_BATCH, revision=revision, serializable=bool(revision)),
                pb.RangeResponse,
            )
            revision = revision or page.header.revision
            for pair in page.kvs:
                self.target.call("KV/Put", pb.PutRequest(key=self.renamed(pair.key), value=pair.value), pb.PutResponse)
                self.total += 1
            if not page.more:
                return int(revision)
            key = page.kvs[-1].key + b"\0"

    def follow(self, revision: int) -> None:
        key, range_end = (self.prefix, printers.prefix_end(self.prefix)) if self.prefix else (b"\0", b"\0")
        request = pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=revision + 1)
        for response in self.source.stream("Watch/Watch", _requests(request), pb.WatchResponse):
            if response.compact_revision:
                raise CommandError("etcdserver: mvcc: required revision has been compacted")
            by_revision: dict[int, list[pb.RequestOp]] = {}
            for event in response.events:
                by_revision.setdefault(event.kv.mod_revision, []).append(self._operation(event))
                self.total += 1
            for operations in by_revision.values():
                self.target.call("KV/Txn", pb.TxnRequest(success=operations), pb.TxnResponse)

    def _operation(self, event: kv_pb2.Event) -> pb.RequestOp:
        key = self.renamed(event.kv.key)
        if event.type == kv_pb2.Event.DELETE:
            return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
        return pb.RequestOp(request_put=pb.PutRequest(key=key, value=event.kv.value))


def _requests(request: pb.WatchCreateRequest) -> Iterator[pb.WatchRequest]:
    yield pb.WatchRequest(create_request=request)
    threading.Event().wait()


def _make_mirror(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("make-mirror takes one destination argument")
    options = context.options
    if options.no_dest_prefix and options.dest_prefix:
        raise bad_args("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
    target_prefix = "" if options.no_dest_prefix else options.dest_prefix or options.prefix
    mirror = _Mirror(context.connect(), Connection(_destination(context)), encoded(options.prefix), encoded(target_prefix))
    threading.Thread(target=_tell, args=(mirror,), daemon=True).start()
    mirror.follow(mirror.copy_base())
    raise CommandError("<nil>")  # upstream's words for a mirror that ends


def _destination(context: Context) -> Settings:
    options = context.options
    return replace(
        context.settings,
        endpoints=(context.args[0],),
        cert=options.dest_cert,
        key=options.dest_key,
        cacert=options.dest_cacert,
        insecure_transport=options.dest_insecure_transport,
        insecure_skip_tls_verify=False,
        server_name="",
        user="",
        password="",
    )


def _tell(mirror: _Mirror) -> None:
    while True:
        time.sleep(_TELL_S)
        print(mirror.total, flush=True)


def _flags(flags: FlagSet) -> None:
    flags.string("prefix", "", "Key-value prefix to mirror")
    flags.string("dest-prefix", "", "destination prefix to mirror a prefix to a different prefix in the destination cluster")
    flags.bool("no-dest-prefix", False, "mirror key-values to the root of the destination cluster")
    flags.string("dest-cert", "", "Identify secure client using this TLS certificate file for the destination cluster")
    flags.string("dest-key", "", "Identify secure client using this TLS key file")
    flags.string("dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle")
    flags.bool("dest-insecure-transport", True, "Disable transport security for client connections")


MAKE_MIRROR = Command("make-mirror [options] <destination>", "Makes a mirror at the destination etcd cluster", _make_mirror, _flags)
