"""`watch`: events of a key or a range until interrupted; each may run a command. Interactive: many watches, and progress requests, as lines."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kubette.component_base.flags import FlagError, FlagSet
from kubette.etcd_api import kv_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang, printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, Exit, bad_args
from kubette.etcdctl.keys import encoded

_BAD_NUMBER = "bad number of arguments"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One watch, and the command each of its events runs."""

    request: pb.WatchCreateRequest
    command: tuple[str, ...] = ()


def _flags(flags: FlagSet) -> None:
    flags.bool("interactive", False, "Interactive mode", "i")
    flags.bool("prefix", False, "Watch on a prefix if prefix is set")
    flags.int("rev", 0, "Revision to start watching")
    flags.bool("prev-kv", False, "get the previous key-value pair before the event happens")


def wanted(options: Any, words: Sequence[str], args: Sequence[str], env_key: str, env_range: str) -> Wanted:
    """What the words after `watch` ask for. `words` are as typed (with `--`), `args` those that are no flags. Raises CommandError."""
    command: tuple[str, ...] = ()
    keys = list(args)
    if "--" in words:
        command = tuple(words[list(words).index("--") + 1 :])
        if not command:
            raise bad_args(f"{_BAD_NUMBER} (found separator --, but no commands)")
        keys = keys[: len(keys) - len(command)]
    if env_key:
        if keys:
            raise bad_args(f"{_BAD_NUMBER} (found conflicting environment key)")
        keys = [env_key, *([env_range] if env_range else [])]
    if not keys:
        raise bad_args(_BAD_NUMBER)
    key, range_end = encoded(keys[0]), b""
    if len(keys) == 2:
        if options.prefix:
            raise bad_args("`range_end` and `--prefix` are mutually exclusive")
        range_end = encoded(keys[1])
    if options.prefix:
        key, range_end = (key, printers.prefix_end(key)) if key else (b"\0", printers.OPEN_END)
    return Wanted(pb.WatchCreateRequest(key=key, range_end=range_end, start_revision=options.rev, prev_kv=options.prev_kv), command)


def _environment() -> tuple[str, str]:
    key, end = os.environ.get("ETCDCTL_WATCH_KEY", ""), os.environ.get("ETCDCTL_WATCH_RANGE_END", "")
    if end and not key:
        raise bad_args(f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={golang.quote(end)}")
    return key, end


class _Session:
    """The watches of one stream: by their ids the commands that their events run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._created: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()
        self._commands: dict[int, tuple[str, ...]] = {}

    def add(self, want: Wanted) -> None:
        self._created.put(want.command)
        self._requests.put(pb.WatchRequest(create_request=want.request))

    def progress(self) -> None:
        self._requests.put(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def _sent(self) -> Iterator[Any]:
        while True:
            yield self._requests.get()

    def run(self) -> None:
        """Print until the server ends the stream."""
        for response in self._context.connect().stream("Watch/Watch", self._sent(), pb.WatchResponse):
            if response.created:
                self._commands[response.watch_id] = self._created.get()
            if response.canceled:
                print(f"watch was canceled ({_why(response)})", file=sys.stderr)
                self._context.show("Watch", response)
                if self._commands.pop(response.watch_id, None) is not None and not self._context.options.interactive:
                    return
            elif not response.created:
                if not response.events:
                    print(f"progress notify: {response.header.revision}", flush=True)
                self._context.show("Watch", response)
                self._run_command(response)

    def _run_command(self, response: pb.WatchResponse) -> None:
        command = self._commands.get(response.watch_id, ())
        for event in response.events if command else ():
            environment = {
                "ETCD_WATCH_REVISION": str(response.header.revision),
                "ETCD_WATCH_EVENT_TYPE": golang.quote("DELETE" if event.type == kv_pb2.Event.DELETE else "PUT"),
                "ETCD_WATCH_KEY": golang.quote(event.kv.key),
                "ETCD_WATCH_VALUE": golang.quote(event.kv.value),
            }
            try:
                code = subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
                problem = f"exit status {code}" if code else ""
            except OSError as error:
                problem = str(error)
            if problem:
                words = " ".join(golang.quote(word) for word in command)
                print(f"command [{words}] error ({problem})", file=sys.stderr, flush=True)
                os._exit(1)  # also when a thread sees it


def _why(response: pb.WatchResponse) -> str:
    if response.compact_revision:
        return "etcdserver: mvcc: required revision has been compacted"
    return response.cancel_reason or "etcdserver: mvcc: required revision is a future revision"


def _watch(context: Context) -> None:
    env_key, env_range = _environment()
    session = _Session(context)
    if context.options.interactive:
        _interactive(context, session, env_key, env_range)
        return
    session.add(wanted(context.options, context.invocation.words, context.args, env_key, env_range))
    session.run()
    raise CommandError("watch is canceled by the server", Exit.INTERRUPTED)


def _interactive(context: Context, session: _Session, env_key: str, env_range: str) -> None:
    context.connect()

    def follow() -> None:
        try:
            session.run()
        except CommandError as error:
            print(f"Error: {error}", file=sys.stderr, flush=True)
            os._exit(error.code)

    threading.Thread(target=follow, daemon=True).start()
    while True:
        raw = sys.stdin.buffer.readline()
        if not raw.endswith(b"\n"):
            raise CommandError("Error reading watch request line: EOF", Exit.INVALID_INPUT)
        line = raw[:-1].decode("utf-8", "surrogateescape")
        try:
            words = golang.argify(line)
        except ValueError as error:
            raise CommandError(str(error), Exit.INVALID_INPUT) from None
        if not words:
            print(f"Invalid command: {line} (watch and progress supported)", file=sys.stderr)
        elif words[0] == "watch":
            if len(words) < 2 and not env_key:
                print(f"Invalid command {line} (command type or key is not provided)", file=sys.stderr)
                continue
            session.add(_line(words[1:], env_key, env_range))
        elif words[0] == "progress":
            session.progress()
        else:
            print(f"Invalid command {line} (only support watch)", file=sys.stderr)


def _line(words: list[str], env_key: str, env_range: str) -> Wanted:
    flags = FlagSet("watch", positional=True)
    _flags(flags)
    try:
        options = flags.parse(words)
    except FlagError as error:
        raise bad_args(str(error)) from None
    return wanted(options, words, options.args, env_key, env_range)


WATCH = Command(
    "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]", "Watches events stream on keys or prefixes", _watch, _flags
)
