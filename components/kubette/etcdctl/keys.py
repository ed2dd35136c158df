"""`put`, `get`, `del`, `compaction`: keys and their history. The requests are built apart from being sent, since `txn` needs them too."""

import sys
from dataclasses import replace
from typing import Any

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang, printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, Exit, bad_args

_ORDERS = {"": pb.RangeRequest.NONE, "ASCEND": pb.RangeRequest.ASCEND, "DESCEND": pb.RangeRequest.DESCEND}
_TARGETS = {
    "": pb.RangeRequest.KEY,
    "CREATE": pb.RangeRequest.CREATE,
    "KEY": pb.RangeRequest.KEY,
    "MODIFY": pb.RangeRequest.MOD,
    "VALUE": pb.RangeRequest.VALUE,
    "VERSION": pb.RangeRequest.VERSION,
}


def encoded(text: str) -> bytes:
    """The bytes of an argument, whatever they are."""
    return text.encode("utf-8", "surrogateescape")


def _both_or_none(options: Any) -> None:
    if options.prefix and options.from_key:
        raise bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one")


def _key_range(options: Any, args: list[str]) -> tuple[bytes, bytes]:
    """Key and range_end of get and del."""
    key = encoded(args[0])
    if len(args) > 1:
        if options.prefix or options.from_key:
            raise bad_args("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
        return key, encoded(args[1])
    if options.from_key or (options.prefix and not key):
        return key or b"\0", printers.OPEN_END
    return key, printers.prefix_end(key) if options.prefix else b""


# put


def put_flags(flags: FlagSet) -> None:
    flags.string("lease", "0", "lease ID (in hexadecimal) to attach to the key")
    flags.bool("prev-kv", False, "return the previous key-value pair before modification")
    flags.bool("ignore-value", False, "updates the key using its current value")
    flags.bool("ignore-lease", False, "updates the key using its current lease")


def put_request(options: Any, args: list[str]) -> pb.PutRequest:
    needs = "put command needs 1 argument and input from stdin or 2 arguments"
    if not args:
        raise bad_args(needs)
    if options.ignore_value and len(args) > 1:
        raise bad_args("put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not options.ignore_value:
        value = encoded(args[1]) if len(args) > 1 else sys.stdin.buffer.read()
        if not value and len(args) < 2:
            raise bad_args(needs)
    try:
        lease = golang.parse_int(options.lease, 16)
    except ValueError as error:
        raise bad_args(f"bad lease ID ({error}), expecting ID in Hex") from None
    return pb.PutRequest(
        key=encoded(args[0]),
        value=value,
        lease=lease,
        prev_kv=options.prev_kv,
        ignore_value=options.ignore_value,
        ignore_lease=options.ignore_lease,
    )


def _put(context: Context) -> None:
    context.show("Put", context.call("KV/Put", put_request(context.options, context.args), pb.PutResponse))


# get


def get_flags(flags: FlagSet) -> None:
    flags.string("consistency", "l", "Linearizable(l) or Serializable(s)")
    flags.string("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)")
    flags.string("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
    flags.int("limit", 0, "Maximum number of results")
    flags.bool("prefix", False, "Get keys with matching prefix")
    flags.bool("from-key", False, "Get keys that are greater than or equal to the given key using byte compare")
    flags.int("rev", 0, "Specify the kv revision")
    flags.bool("keys-only", False, "Get only the keys")
    flags.bool("print-value-only", False, 'Only write values when using the "simple" output format')


def get_request(options: Any, args: list[str]) -> pb.RangeRequest:
    if not args:
        raise bad_args("get command needs one argument as key and an optional argument as range_end")
    _both_or_none(options)
    if options.consistency not in ("s", "l"):
        raise CommandError(f"unknown consistency flag {golang.quote(options.consistency)}", Exit.BAD_FEATURE)
    key, range_end = _key_range(options, args)
    order, target = options.order.upper(), options.sort_by.upper()
    if order not in _ORDERS:
        raise CommandError(f"bad sort order {options.order}", Exit.BAD_FEATURE)
    if target not in _TARGETS:
        raise CommandError(f"bad sort target {options.sort_by}", Exit.BAD_FEATURE)
    sort_order = _ORDERS[order]
    if _TARGETS[target] == pb.RangeRequest.KEY and sort_order == pb.RangeRequest.ASCEND:
        sort_order = pb.RangeRequest.NONE  # that is how keys come
    return pb.RangeRequest(
        key=key,
        range_end=range_end,
        limit=options.limit,
        revision=max(0, options.rev),
        sort_order=sort_order,
        sort_target=_TARGETS[target],
        serializable=options.consistency == "s",
        keys_only=options.keys_only,
    )


def _get(context: Context) -> None:
    request = get_request(context.options, context.args)
    answer = context.call("KV/Range", request, pb.RangeResponse)
    style = context.style
    if context.options.print_value_only:
        if style.format != "simple":
            raise bad_args("print-value-only is only for `--write-out=simple`")
        style = replace(style, value_only=True)
    context.show_as(style, "Get", answer)


# del


def del_flags(flags: FlagSet) -> None:
    flags.bool("prefix", False, "delete keys with matching prefix")
    flags.bool("prev-kv", False, "return deleted key-value pairs")
    flags.bool("from-key", False, "delete keys that are greater than or equal to the given key using byte compare")


def del_request(options: Any, args: list[str]) -> pb.DeleteRangeRequest:
    if len(args) not in (1, 2):
        raise bad_args("del command needs one argument as key and an optional argument as range_end")
    _both_or_none(options)
    key, range_end = _key_range(options, args)
    return pb.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=options.prev_kv)


def _del(context: Context) -> None:
    context.show("Del", context.call("KV/DeleteRange", del_request(context.options, context.args), pb.DeleteRangeResponse))


# compaction


def _compaction_flags(flags: FlagSet) -> None:
    flags.bool("physical", False, "'true' to wait for compaction to physically remove all old revisions")


def _compaction(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("compaction command needs 1 argument")
    try:
        revision = golang.parse_int(context.args[0])
    except ValueError as error:
        raise CommandError(str(error)) from None
    context.call("KV/Compact", pb.CompactionRequest(revision=revision, physical=context.options.physical), pb.CompactionResponse)
    print("compacted revision", revision)


_PUT_LONG = """
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
"""

PUT = Command(
    "put [options] <key> <value> (<value> can also be given from stdin)", "Puts the given key into the store", _put, put_flags, long=_PUT_LONG
)
GET = Command("get [options] <key> [range_end]", "Gets the key or a range of keys", _get, get_flags)
DEL = Command("del [options] <key> [range_end]", "Removes the specified key or range of keys [key, range_end)", _del, del_flags)
COMPACTION = Command("compaction [options] <revision>", "Compacts the event history in etcd", _compaction, _compaction_flags)
