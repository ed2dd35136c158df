"""The commands on keys and directories."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kubette.etcdctl.v2.client import BAD_ARGS, ApiError, FailureError, fail, golang_json
from kubette.etcdctl.v2.command_line import Command, Flag
from kubette.etcdctl.v2.run import Run


def show(run: Run, response: dict[str, Any]) -> None:
    """Print a response in the format asked for."""
    node, previous = response["node"], response.get("prevNode")
    if run.output == "simple":
        print(node.get("value", "") if response["action"] != "delete" else f"PrevNode.Value: {(previous or {}).get('value', '')}", flush=True)
    elif run.output == "extended":
        print(f"Key: {node.get('key', '')}\nCreated-Index: {node.get('createdIndex', 0)}\nModified-Index: {node.get('modifiedIndex', 0)}")
        if previous is not None:
            print(f"PrevNode.Value: {previous.get('value', '')}")
        print(f"TTL: {node.get('ttl', 0)}\nIndex: {response['index']}")
        if response["action"] != "delete":
            print(f"\n{node.get('value', '')}")
        sys.stdout.flush()
    elif run.output == "json":
        print(
            golang_json({"action": response["action"], "node": _node(node), "prevNode": _node(previous) if previous is not None else None}),
            flush=True,
        )
    else:
        print("Unsupported output format:", run.output, file=sys.stderr)


def _node(node: dict[str, Any]) -> dict[str, Any]:
    """In the order and with the zeros of Go's client."""
    shown: dict[str, Any] = {"key": node.get("key", ""), **({"dir": True} if node.get("dir") else {}), "value": node.get("value", "")}
    shown["nodes"] = [_node(each) for each in node["nodes"]] if node.get("nodes") else None
    shown.update(createdIndex=node.get("createdIndex", 0), modifiedIndex=node.get("modifiedIndex", 0))
    for name in ("expiration", "ttl"):
        if name in node:
            shown[name] = node[name]
    return shown


def _asked(
    run: Run, method: str, key: str, form: dict[str, str] | None = None, query: dict[str, str] | None = None, once: bool = False
) -> dict[str, Any]:
    try:
        return run.client.keys(method, key, form, query, once=once)
    except ApiError as error:
        fail(error)


def _ttl(run: Run) -> dict[str, str]:
    return {"ttl": str(run.flags["ttl"])} if run.flags["ttl"] > 0 else {}


def _set(run: Run) -> None:
    key, query = run.key(), {}
    value = run.value()
    if run.flags["swap-with-value"]:
        query["prevValue"] = run.flags["swap-with-value"]
    if run.flags["swap-with-index"]:
        query["prevIndex"] = str(run.flags["swap-with-index"])
    show(run, _asked(run, "PUT", key, {"value": value, **_ttl(run)}, query))


def _mk(run: Run) -> None:
    key, form = run.key(), {"value": run.value(), **_ttl(run)}
    show(run, _asked(run, "POST", key, form) if run.flags["in-order"] else _asked(run, "PUT", key, form, {"prevExist": "false"}, once=True))


def _update(run: Run) -> None:
    key = run.key()
    show(run, _asked(run, "PUT", key, {"value": run.value(), **_ttl(run)}, {"prevExist": "true"}))


def _directory(exists: str) -> Callable[[Run], None]:
    def make(run: Run) -> None:
        query = {"dir": "true", **({"prevExist": exists} if exists else {})}
        response = _asked(run, "PUT", run.key(), _ttl(run), query, once=exists == "false")
        if run.output != "simple":
            show(run, response)

    return make


def _reading(run: Run, recursive: bool) -> dict[str, str]:
    named = {"recursive": recursive, "sorted": run.flags["sort"], "quorum": run.flags["quorum"]}
    return {name: str(value).lower() for name, value in named.items()}


def _get(run: Run) -> None:
    response = _asked(run, "GET", run.key(), query=_reading(run, recursive=False))
    if response["node"].get("dir"):
        raise FailureError(f"{response['node'].get('key', '')}: is a directory")
    show(run, response)


def _ls(run: Run) -> None:
    response = _asked(run, "GET", run.args[0] if run.args else "/", query=_reading(run, recursive=run.flags["recursive"]))
    if run.output != "simple":
        show(run, response)
        return
    node = response["node"]
    if not node.get("dir"):
        print(node["key"])
    for each in _below(node):
        print(each["key"] + ("/" if each.get("dir") and run.flags["p"] else ""))


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in node.get("nodes") or ():
        yield each
        yield from _below(each)


def _rm(run: Run) -> None:
    flags = run.flags
    query = {name: "true" for name in ("dir", "recursive") if flags[name]}
    if flags["with-value"]:
        query["prevValue"] = flags["with-value"]
    if flags["with-index"]:
        query["prevIndex"] = str(flags["with-index"])
    _removed(run, query)


def _removed(run: Run, query: dict[str, str]) -> None:
    response = _asked(run, "DELETE", run.key(), query=query, once=True)
    if not response["node"].get("dir") or run.output != "simple":
        show(run, response)


def _rmdir(run: Run) -> None:
    _removed(run, {"dir": "true"})


def _changes(run: Run, key: str) -> Iterator[dict[str, Any]]:
    """The changes of a key, one long request each."""
    after = run.flags["after-index"]
    index = after + 1 if after > 0 else 0
    while True:
        query = {"wait": "true", "waitIndex": str(index), "recursive": str(run.flags["recursive"]).lower()}
        try:
            response = run.client.keys("GET", key, query=query, forever=True)
        except ApiError as error:
            fail(error)
        index = response["node"]["modifiedIndex"] + 1
        yield response


def _watch(run: Run) -> None:
    for response in _changes(run, run.key()):
        if response["node"].get("dir"):
            continue
        if run.flags["recursive"]:
            print(f"[{response['action']}] {response['node']['key']}")
        show(run, response)
        if not run.flags["forever"]:
            return


def _exec_watch(run: Run) -> None:
    _ = run.client
    args = run.args
    if len(args) < 2:
        fail("key and command to exec required", BAD_ARGS)
    # Upstream's order without `--` is what its library left of the words.
    key, command = (args[0], args[2:]) if "--" in args[1:] else (args[-1], args[:-1])
    for response in _changes(run, key):
        node = response["node"]
        if node.get("dir"):
            print(f"Ignored dir {node['key']} change", file=sys.stderr, flush=True)
            continue
        environment = {
            "ETCD_WATCH_ACTION": response["action"],
            "ETCD_WATCH_MODIFIED_INDEX": str(node["modifiedIndex"]),
            "ETCD_WATCH_KEY": node["key"],
            "ETCD_WATCH_VALUE": node.get("value", ""),
        }
        try:
            process = subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)
        except OSError as error:
            where = "executable file not found in $PATH" if "/" not in command[0] else "no such file or directory"
            text = f'exec: "{command[0]}": {where}' if "/" not in command[0] else f"fork/exec {command[0]}: {where}"
            raise FailureError(text) from error
        # The next change is not kept waiting by this one's command.
        threading.Thread(target=process.wait, daemon=True).start()


_TTL = Flag("ttl", "int", "key time-to-live in seconds", 0)
_SORT = Flag("sort", "bool", "returns result in sorted order")
_QUORUM = Flag("quorum, q", "bool", "require quorum for get request")
_AFTER = Flag("after-index", "int", "watch after the given index", 0)
_SET_TEXT = """Set sets the value of a key.

   When <value> begins with '-', <value> is interpreted as a flag.
   Insert '--' for workaround:

   $ set -- <key> <value>"""

COMMANDS = (
    Command(
        "mk",
        "make a new key with a given value",
        "<key> <value>",
        _mk,
        (Flag("in-order", "bool", "create in-order key under directory <key>"), _TTL),
    ),
    Command("mkdir", "make a new directory", "<key>", _directory("false"), (_TTL,)),
    Command(
        "rm",
        "remove a key or a directory",
        "<key>",
        _rm,
        (
            Flag("dir", "bool", "removes the key if it is an empty directory or a key-value pair"),
            Flag("recursive, r", "bool", "removes the key and all child keys(if it is a directory)"),
            Flag("with-value", "string", "previous value"),
            Flag("with-index", "int", "previous index", 0),
        ),
    ),
    Command("rmdir", "removes the key if it is an empty directory or a key-value pair", "<key>", _rmdir),
    Command("get", "retrieve the value of a key", "<key>", _get, (_SORT, _QUORUM)),
    Command(
        "ls",
        "retrieve a directory",
        "[key]",
        _ls,
        (
            _SORT,
            Flag("recursive, r", "bool", "returns all key names recursively for the given path"),
            Flag("p", "bool", "append slash (/) to directories"),
            _QUORUM,
        ),
    ),
    Command(
        "set",
        "set the value of a key",
        "<key> <value>",
        _set,
        (_TTL, Flag("swap-with-value", "string", "previous value"), Flag("swap-with-index", "int", "previous index", 0)),
        _SET_TEXT,
    ),
    Command("setdir", "create a new directory or update an existing directory TTL", "<key>", _directory(""), (_TTL,)),
    Command("update", "update an existing key with a given value", "<key> <value>", _update, (_TTL,)),
    Command("updatedir", "update an existing directory", "<key> <value>", _directory("true"), (_TTL,)),
    Command(
        "watch",
        "watch a key for changes",
        "<key>",
        _watch,
        (
            Flag("forever, f", "bool", "forever watch a key until CTRL+C"),
            _AFTER,
            Flag("recursive, r", "bool", "returns all values for key and child keys"),
        ),
    ),
    Command(
        "exec-watch",
        "watch a key for changes and exec an executable",
        "<key> <command> [args...]",
        _exec_watch,
        (_AFTER, Flag("recursive, r", "bool", "watch all values for key and child keys")),
    ),
)
