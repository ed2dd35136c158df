"""etcdctl with `ETCDCTL_API=2`: the client of the v2 API (`/v2/keys`, `/v2/members`), over plain HTTP, as the releases up to 3.5 had it."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kubette.component_base.flags import FlagError, FlagSet, HelpRequested, VersionRequested
from kubette.etcdctl.connection import without_brackets

BAD_ARGS, SERVER_ERROR, NOT_HEALTHY = 1, 4, 5
DEFAULT_ENDPOINTS = "http://127.0.0.1:2379,http://127.0.0.1:4001"
_HEALTH_PAUSE_S = 10.0
_ANSWER_BYTES_MAX = 64 << 20


class _Failure(Exception):
    """Ends the program: what to say on standard error, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _fail(message: str, code: int = SERVER_ERROR) -> NoReturn:
    raise _Failure(f"Error:  {message}", code)


def _plain(message: str) -> NoReturn:
    raise _Failure(message, 1)


class Client:
    """The endpoints of a cluster, asked one after the other until one answers."""

    def __init__(self, options: Any) -> None:
        given = options.endpoints or options.endpoint or options.peers or os.environ.get("ETCDCTL_ENDPOINTS", "") or DEFAULT_ENDPOINTS
        self.endpoints = [each if "://" in each else f"http://{each}" for each in without_brackets(given).split(",")]
        self._timeout_s = options.total_timeout
        self._context: ssl.SSLContext | None = None
        if options.ca_file or options.cert_file:
            self._context = ssl.create_default_context(cafile=options.ca_file or None)
            if options.cert_file:
                self._context.load_cert_chain(options.cert_file, options.key_file or None)
        user = options.username
        self._headers = {"Authorization": "Basic " + b64encode(user.encode()).decode()} if user else {}
        self._debug = options.debug

    def send(self, method: str, path: str, data: bytes | None = None, kind: str = "", forever: bool = False) -> tuple[Any, dict[str, str]]:
        """JSON and headers of the first endpoint that answers. An error of the API ends the program."""
        problems: list[str] = []
        for endpoint in self.endpoints:
            headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
            if self._debug:
                body = f' -d "{data.decode()}"' if data else ""
                print(f"Curl-Example: curl -X {method} {endpoint}{path}{body}", file=sys.stderr)
            request = urllib.request.Request(endpoint + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=None if forever else self._timeout_s, context=self._context) as answer:
                    content = answer.read(_ANSWER_BYTES_MAX)
                    return json.loads(content) if content.strip() else None, dict(answer.headers)
            except urllib.error.HTTPError as error:
                self._refused(error)
            except (OSError, ValueError) as error:
                problems.append(f"error #{len(problems)}: {getattr(error, 'reason', error)}")
        _fail("client: etcd cluster is unavailable or misconfigured; " + "\n; ".join(problems) + "\n")

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        content = error.read(_ANSWER_BYTES_MAX).decode("utf-8", "replace")
        try:
            document = json.loads(content)
        except ValueError:
            _fail(f"client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint.\n{content}")
        if "errorCode" in document:
            _fail(f"{document['errorCode']}: {document['message']} ({document.get('cause', '')}) [{document.get('index', 0)}]")
        _plain(document.get("message", content))

    def keys(
        self, method: str, key: str, form: dict[str, str] | None = None, query: dict[str, str] | None = None, forever: bool = False
    ) -> dict[str, Any]:
        """One request of the keys API."""
        path = "/v2/keys/" + urllib.parse.quote(key.strip("/"))
        if query:
            path += "?" + urllib.parse.urlencode(sorted(query.items()))
        data = urllib.parse.urlencode(sorted(form.items())).encode() if form is not None else None
        document, headers = self.send(method, path, data, "application/x-www-form-urlencoded" if data is not None else "", forever)
        document["index"] = int(headers.get("X-Etcd-Index", "0"))
        return dict(document)

    def members(self) -> list[dict[str, Any]]:
        document, _ = self.send("GET", "/v2/members")
        return list(document["members"])


@dataclass(slots=True)
class Run:
    """One command with its flags."""

    client: Client
    output: str
    options: Any
    args: list[str]

    def key(self) -> str:
        if not self.args:
            _fail("key required", BAD_ARGS)
        return self.args[0]

    def value(self) -> str:
        if len(self.args) > 1:
            return self.args[1]
        text = sys.stdin.read()
        if not text:
            _fail("value required", BAD_ARGS)
        return text

    def show(self, response: dict[str, Any]) -> None:
        node, previous = response["node"], response.get("prevNode")
        if self.output == "simple":
            print(node.get("value", "") if response["action"] != "delete" else f"PrevNode.Value: {(previous or {}).get('value', '')}", flush=True)
        elif self.output == "extended":
            print(f"Key: {node['key']}\nCreated-Index: {node['createdIndex']}\nModified-Index: {node['modifiedIndex']}")
            if previous is not None:
                print(f"PrevNode.Value: {previous.get('value', '')}")
            print(f"TTL: {node.get('ttl', 0)}\nIndex: {response['index']}")
            if response["action"] != "delete":
                print(f"\n{node.get('value', '')}")
            sys.stdout.flush()
        elif self.output == "json":
            document = {"action": response["action"], "node": _node(node), "prevNode": _node(previous) if previous is not None else None}
            print(json.dumps(document, separators=(",", ":"), ensure_ascii=False), flush=True)
        else:
            print("Unsupported output format:", self.output, file=sys.stderr)


def _node(node: dict[str, Any]) -> dict[str, Any]:
    """In the order and with the zeros of Go's client."""
    shown: dict[str, Any] = {"key": node["key"], **({"dir": True} if node.get("dir") else {}), "value": node.get("value", "")}
    shown["nodes"] = [_node(each) for each in node["nodes"]] if node.get("nodes") else None
    shown.update(createdIndex=node["createdIndex"], modifiedIndex=node["modifiedIndex"])
    for name in ("expiration", "ttl"):
        if name in node:
            shown[name] = node[name]
    return shown


# Keys


def _ttl(run: Run) -> dict[str, str]:
    return {"ttl": str(run.options.ttl)} if run.options.ttl > 0 else {}


def _set(run: Run) -> None:
    query = {}
    if run.options.swap_with_value:
        query["prevValue"] = run.options.swap_with_value
    if run.options.swap_with_index:
        query["prevIndex"] = str(run.options.swap_with_index)
    key = run.key()
    run.show(run.client.keys("PUT", key, {"value": run.value(), **_ttl(run)}, query))


def _mk(run: Run) -> None:
    key, form = run.key(), {"value": run.value(), **_ttl(run)}
    run.show(run.client.keys("POST", key, form) if run.options.in_order else run.client.keys("PUT", key, form, {"prevExist": "false"}))


def _update(run: Run) -> None:
    key = run.key()
    run.show(run.client.keys("PUT", key, {"value": run.value(), **_ttl(run)}, {"prevExist": "true"}))


def _directory(exists: str) -> Callable[[Run], None]:
    def make(run: Run) -> None:
        key = run.key()
        response = run.client.keys("PUT", key, {"value": "", **_ttl(run)}, {"dir": "true", **({"prevExist": exists} if exists else {})})
        if run.output != "simple":
            run.show(response)

    return make


def _flags_of(options: Any, **names: str) -> dict[str, str]:
    return {name: "true" for name, flag in names.items() if getattr(options, flag)}


def _get(run: Run) -> None:
    response = run.client.keys("GET", run.key(), query=_flags_of(run.options, sorted="sort", quorum="quorum"))
    if response["node"].get("dir"):
        _plain(f"{response['node']['key']}: is a directory")
    run.show(response)


def _ls(run: Run) -> None:
    response = run.client.keys(
        "GET", run.args[0] if run.args else "/", query=_flags_of(run.options, sorted="sort", recursive="recursive", quorum="quorum")
    )
    if run.output != "simple":
        response["node"].setdefault("key", "")
        response["node"].setdefault("createdIndex", 0)
        response["node"].setdefault("modifiedIndex", 0)
        run.show(response)
        return
    node = response["node"]
    if not node.get("dir"):
        print(node["key"])
    for each in _below(node):
        print(each["key"] + ("/" if each.get("dir") and run.options.p else ""))


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in node.get("nodes") or ():
        yield each
        yield from _below(each)


def _rm(run: Run) -> None:
    options = run.options
    query = _flags_of(options, dir="dir", recursive="recursive")
    if options.with_value:
        query["prevValue"] = options.with_value
    if options.with_index:
        query["prevIndex"] = str(options.with_index)
    response = run.client.keys("DELETE", run.key(), query=query)
    if not response["node"].get("dir") or run.output != "simple":
        run.show(response)


def _rmdir(run: Run) -> None:
    response = run.client.keys("DELETE", run.key(), query={"dir": "true"})
    if not response["node"].get("dir") or run.output != "simple":
        run.show(response)


def _changes(run: Run, key: str) -> Iterator[dict[str, Any]]:
    """The changes of a key, one long request each."""
    index = run.options.after_index + 1 if run.options.after_index else 0
    while True:
        query = {"wait": "true", **_flags_of(run.options, recursive="recursive"), **({"waitIndex": str(index)} if index else {})}
        response = run.client.keys("GET", key, query=query, forever=True)
        index = response["node"]["modifiedIndex"] + 1
        yield response


def _watch(run: Run) -> None:
    for response in _changes(run, run.key()):
        if response["node"].get("dir"):
            continue
        if run.options.recursive:
            print(f"[{response['action']}] {response['node']['key']}")
        run.show(response)
        if not run.options.forever:
            return


def _exec_watch(run: Run) -> None:
    if len(run.args) < 2:
        _fail("key and command to exec required", BAD_ARGS)
    if run.args[1] == "--":
        del run.args[1]
    for response in _changes(run, run.args[0]):
        node = response["node"]
        if node.get("dir"):
            print(f"Ignored dir {node['key']} change", file=sys.stderr)
            continue
        environment = {
            "ETCD_WATCH_ACTION": response["action"],
            "ETCD_WATCH_MODIFIED_INDEX": str(node["modifiedIndex"]),
            "ETCD_WATCH_KEY": node["key"],
            "ETCD_WATCH_VALUE": node.get("value", ""),
        }
        try:
            subprocess.run(run.args[1:], env={**os.environ, **environment}, check=False)
        except OSError as error:
            _plain(f'exec: "{run.args[1]}": {error.strerror}')


# Members


def _member(run: Run) -> None:
    verbs = {"list": _member_list, "add": _member_add, "remove": _member_remove, "update": _member_update}
    if not run.args or run.args[0] not in verbs:
        _plain("member takes list, add, remove or update")
    verb = run.args.pop(0)
    verbs[verb](run)


def _member_list(run: Run) -> None:
    leader, _ = run.client.send("GET", "/v2/members/leader")
    for each in run.client.members():
        peers = ",".join(each["peerURLs"])
        if not each["name"]:
            print(f"{each['id']}[unstarted]: peerURLs={peers}")
        else:
            leads = str(each["id"] == leader["id"]).lower()
            print(f"{each['id']}: name={each['name']} peerURLs={peers} clientURLs={','.join(each['clientURLs'])} isLeader={leads}")


def _member_add(run: Run) -> None:
    if len(run.args) != 2:
        _plain("Provide a name and a single member peerURL")
    name, url = run.args
    added, _ = run.client.send("POST", "/v2/members", json.dumps({"peerURLs": [url]}).encode(), "application/json")
    print(f"Added member named {name} with ID {added['id']} to cluster\n")
    members = run.client.members()
    initial = ",".join(f"{name if each['id'] == added['id'] else each['name']}={peer}" for each in members for peer in each["peerURLs"])
    print(f'ETCD_NAME="{name}"\nETCD_INITIAL_CLUSTER="{initial}"\nETCD_INITIAL_CLUSTER_STATE="existing"')


def _member_remove(run: Run) -> None:
    if len(run.args) != 1:
        _plain("Provide a single member ID")
    if all(each["id"] != run.args[0] for each in run.client.members()):
        _plain(f"Couldn't find a member in the cluster with an ID of {run.args[0]}.")
    run.client.send("DELETE", f"/v2/members/{run.args[0]}")
    print(f"Removed member {run.args[0]} from cluster")


def _member_update(run: Run) -> None:
    if len(run.args) != 2:
        _plain("Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)")
    member, urls = run.args
    run.client.send("PUT", f"/v2/members/{member}", json.dumps({"peerURLs": urls.split(",")}).encode(), "application/json")
    print(f"Updated member with ID {member} in cluster")


def _cluster_health(run: Run) -> None:
    while True:
        members = run.client.members()
        healthy = sum(_is_healthy(run, each) for each in members)
        print("cluster is healthy" if healthy == len(members) else "cluster is degraded" if healthy else "cluster is unavailable", flush=True)
        if not run.options.forever:
            if healthy != len(members):
                raise _Failure("", NOT_HEALTHY)
            return
        print("\nnext check after 10 second...\n\n", end="", flush=True)
        time.sleep(_HEALTH_PAUSE_S)


def _is_healthy(run: Run, member: dict[str, Any]) -> bool:
    if not member["clientURLs"]:
        print(f"member {member['id']} is unreachable: no available published client urls")
        return False
    for url in member["clientURLs"]:
        one = Client(run.options)
        one.endpoints = [url]
        try:
            document, _ = one.send("GET", "/health")
        except _Failure as failure:
            print(f"failed to check the health of member {member['id']} on {url}: {failure}")
            continue
        healthy = document.get("health") in ("true", True)
        print(f"member {member['id']} is {'healthy' if healthy else 'unhealthy'}: got {'healthy' if healthy else 'unhealthy'} result from {url}")
        return healthy
    print(f"member {member['id']} is unreachable: [{' '.join(member['clientURLs'])}] are all unreachable")
    return False


# The command line

_Declare = tuple[str, str, Any, str]  # kind, name, default, shorthand
_TTL: _Declare = ("int", "ttl", 0, "")
_SORT: _Declare = ("bool", "sort", False, "")
_QUORUM: _Declare = ("bool", "quorum", False, "q")
_RECURSIVE: _Declare = ("bool", "recursive", False, "r")
_AFTER: _Declare = ("int", "after-index", 0, "")
_FOREVER: _Declare = ("bool", "forever", False, "f")
COMMANDS: dict[str, tuple[Callable[[Run], None], str, tuple[_Declare, ...]]] = {
    "cluster-health": (_cluster_health, "check the health of the etcd cluster", (_FOREVER,)),
    "mk": (_mk, "make a new key with a given value", (("bool", "in-order", False, ""), _TTL)),
    "mkdir": (_directory("false"), "make a new directory", (_TTL,)),
    "rm": (
        _rm,
        "remove a key or a directory",
        (("bool", "dir", False, ""), _RECURSIVE, ("string", "with-value", "", ""), ("int", "with-index", 0, "")),
    ),
    "rmdir": (_rmdir, "removes the key if it is an empty directory or a key-value pair", ()),
    "get": (_get, "retrieve the value of a key", (_SORT, _QUORUM)),
    "ls": (_ls, "retrieve a directory", (_SORT, _RECURSIVE, ("bool", "p", False, "p"), _QUORUM)),
    "set": (_set, "set the value of a key", (_TTL, ("string", "swap-with-value", "", ""), ("int", "swap-with-index", 0, ""))),
    "setdir": (_directory(""), "create a new directory or update an existing directory TTL", (_TTL,)),
    "update": (_update, "update an existing key with a given value", (_TTL,)),
    "updatedir": (_directory("true"), "update an existing directory", (_TTL,)),
    "watch": (_watch, "watch a key for changes", (_FOREVER, _AFTER, _RECURSIVE)),
    "exec-watch": (_exec_watch, "watch a key for changes and exec an executable", (_AFTER, _RECURSIVE)),
    "member": (_member, "member add, remove and list subcommands", ()),
}


def _global_flags(flags: FlagSet) -> None:
    flags.bool("debug", False, "output cURL commands which can be used to reproduce the request")
    flags.string("output", "simple", "output response in the given format (simple, `extended` or `json`)", "o")
    flags.string("peers", "", 'DEPRECATED - "--endpoints" should be used instead', "C")
    flags.string("endpoint", "", 'DEPRECATED - "--endpoints" should be used instead')
    flags.string("endpoints", "", "a comma-delimited list of machine addresses in the cluster")
    flags.string("cert-file", os.environ.get("ETCDCTL_CERT_FILE", ""), "identify HTTPS client using this SSL certificate file")
    flags.string("key-file", os.environ.get("ETCDCTL_KEY_FILE", ""), "identify HTTPS client using this SSL key file")
    flags.string("ca-file", os.environ.get("ETCDCTL_CA_FILE", ""), "verify certificates of HTTPS-enabled servers using this CA bundle")
    flags.string("username", os.environ.get("ETCDCTL_USERNAME", ""), "provide username[:password]", "u")
    flags.duration("total-timeout", 5.0, "timeout for the command execution (except watch)")


def _usage() -> str:
    lines = ["NAME:", "   etcdctl - A simple command line client for etcd.", "", "USAGE:"]
    lines += ["   etcdctl [global options] command [command options] [arguments...]", "", "COMMANDS:"]
    return "\n".join([*lines, *(f"   {name:<15} {text}" for name, (_, text, _) in COMMANDS.items())])


def main(words: Sequence[str]) -> int:
    """The exit code."""
    try:
        return _run(list(words))
    except _Failure as failure:
        sys.stdout.flush()
        if str(failure):
            print(failure, file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return 0


def _run(words: list[str]) -> int:
    from kubette.etcdctl import versions

    flags = FlagSet("etcdctl", positional=True)
    _global_flags(flags)
    at = _command_at(words, flags)
    name = words[at] if at < len(words) else ""
    if name in COMMANDS:
        for kind, flag, default, short in COMMANDS[name][2]:
            getattr(flags, kind)(flag, default, "", short)
    try:
        options = flags.parse([*words[:at], *_flags_first(words[at + 1 :], flags, move=name != "exec-watch")])
    except VersionRequested:
        print(f"etcdctl version: {versions.release()[0]}\nAPI version: 2")
        return 0
    except HelpRequested:
        print(_usage())
        return 0
    except FlagError as error:
        print(f"Incorrect Usage: {error}")
        return 1
    if name not in COMMANDS:
        if name and name not in ("help", "h"):
            print(f"No help topic for '{name}'")
            return 3
        print(_usage())
        return 0
    COMMANDS[name][0](Run(Client(options), options.output, options, options.args))
    return 0


def _flags_first(words: list[str], flags: FlagSet, move: bool) -> list[str]:
    """As upstream's library parses: arguments before the first flag are moved behind the flags; those ends at the next argument."""
    if "--" not in words and move:
        first = next((at for at, word in enumerate(words) if word.startswith("-") and word != "-"), 0)
        words = words[first:] + words[:first]
    end = _command_at(words, flags)
    return words if words[end : end + 1] == ["--"] else [*words[:end], "--", *words[end:]]


def _command_at(words: list[str], flags: FlagSet) -> int:
    """Where the command stands: the first word that is no global flag and no value of one."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        name = words[at].lstrip("-")
        known = flags.flags.get(name) or next((each for each in flags.flags.values() if each.shorthand == name), None)
        at += 2 if known is not None and known.kind != "bool" and "=" not in words[at] else 1
    return at
