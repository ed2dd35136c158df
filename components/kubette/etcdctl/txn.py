"""`txn`: comparisons, requests if they hold, requests if they do not; each part lines of text ended by an empty line."""

import re
import sys
from collections.abc import Iterator
from typing import Any

from kubette.component_base.flags import FlagError, FlagSet
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang, keys
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, Exit, bad_args

_RESULTS = {"=": pb.Compare.EQUAL, "!=": pb.Compare.NOT_EQUAL, ">": pb.Compare.GREATER, "<": pb.Compare.LESS}
_NUMBERS = {
    "ver": ("version", pb.Compare.VERSION),
    "version": ("version", pb.Compare.VERSION),
    "c": ("create_revision", pb.Compare.CREATE),
    "create": ("create_revision", pb.Compare.CREATE),
    "m": ("mod_revision", pb.Compare.MOD),
    "mod": ("mod_revision", pb.Compare.MOD),
    "lease": ("lease", pb.Compare.LEASE),
}
_COMPARE = re.compile(r"""\s*("(?:[^"\\]|\\.)*")\)\s*(\S+)\s+("(?:[^"\\]|\\.)*")""")


def parse_compare(line: str) -> pb.Compare:
    """`mod("key") > "0"`. Raises CommandError."""
    target, parenthesis, rest = line.partition("(")
    match = _COMPARE.match(rest)
    if not parenthesis or match is None:
        raise _invalid(f"malformed comparison: {line}")
    try:
        key, value = golang.unquote(match[1]), golang.unquote(match[3])
    except ValueError as error:
        raise _invalid(f"malformed comparison: {line} ({error})") from None
    if match[2] not in _RESULTS:
        raise _invalid(f"malformed comparison: {line} (unknown result op {match[2]})")
    result = _RESULTS[match[2]]
    if target in ("val", "value"):
        return pb.Compare(result=result, target=pb.Compare.VALUE, key=key, value=value)
    if target not in _NUMBERS:
        raise _invalid(f"malformed comparison: {line} (unknown target {target})")
    name, kind = _NUMBERS[target]
    try:
        number = golang.parse_int(value.decode("utf-8", "replace"), 16 if name == "lease" else 10)
    except ValueError:
        raise _invalid(f"invalid txn compare request: {line}") from None
    fields: dict[str, Any] = {name: number}
    return pb.Compare(result=result, target=kind, key=key, **fields)


def parse_request(line: str) -> pb.RequestOp:
    """`put k v`, `get k`, `del k`, with their flags. Raises CommandError."""
    try:
        words = golang.argify(line)
    except ValueError as error:
        raise _invalid(str(error)) from None
    if len(words) < 2:
        raise _invalid(f"invalid txn compare request: {line}")
    found = {"put": keys.put_flags, "get": keys.get_flags, "del": keys.del_flags}.get(words[0])
    if found is None:
        raise _invalid(f"invalid txn request: {line}")
    flags = FlagSet(words[0], positional=True)
    found(flags)
    try:
        options = flags.parse(words[1:])
    except FlagError:
        raise _invalid(f"invalid txn request: {line}") from None
    if words[0] == "put":
        return pb.RequestOp(request_put=keys.put_request(options, options.args))
    if words[0] == "get":
        return pb.RequestOp(request_range=keys.get_request(options, options.args))
    return pb.RequestOp(request_delete_range=keys.del_request(options, options.args))


def _invalid(message: str) -> CommandError:
    return CommandError(message, Exit.INVALID_INPUT)


def _part() -> Iterator[str]:
    """The lines up to the next empty one."""
    while True:
        raw = sys.stdin.buffer.readline()
        if not raw.endswith(b"\n"):
            raise _invalid("EOF")
        line = raw.decode("utf-8", "surrogateescape").strip()
        if not line:
            return
        yield line


def _txn(context: Context) -> None:
    if context.args:
        raise bad_args("txn command does not accept argument")
    context.connect()
    request = pb.TxnRequest()
    for prompt, part, parse in (
        ("compares:", request.compare, parse_compare),
        ("success requests (get, put, del):", request.success, parse_request),
        ("failure requests (get, put, del):", request.failure, parse_request),
    ):
        if context.options.interactive:
            print(prompt, flush=True)
        part.extend(parse(line) for line in _part())  # type: ignore[misc]
    context.show("Txn", context.call("KV/Txn", request, pb.TxnResponse))


def _flags(flags: FlagSet) -> None:
    flags.bool("interactive", False, "Input transaction in interactive mode", "i")


TXN = Command("txn [options]", "Txn processes all the requests in one transaction", _txn, _flags)
