"""Pure: the store of the v2 keys API: a tree of directories and files with one index, times to live, and a window of history for watchers.

Replicated like the v3 store, by applying the same requests in the same order. Users' keys live below `/1`, the cluster's members
and version below `/0`, and `save` writes etcd's own document, so that etcd up to 3.4 can read our `.snap` files and we its.
Times are nanoseconds since 1970; `now` is only for the remaining time that answers show, never for a decision.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sortedcontainers import SortedList

from kubette.etcd_api.errors import Code, RpcError

HISTORY = 1000  # events kept for watchers that come later
WATCHER_QUEUE = 100  # events a watcher may lag
_MIN_EXPIRATION = 946_684_800_000_000_000  # the year 2000; before it a time to live means none
_ZERO_TIME = "0001-01-01T00:00:00Z"

KEY_NOT_FOUND, TEST_FAILED, NOT_FILE, NOT_DIR, NODE_EXIST, ROOT_READ_ONLY, DIR_NOT_EMPTY, UNAUTHORIZED = 100, 101, 102, 104, 105, 107, 108, 110
PREV_VALUE_REQUIRED, TTL_NAN, INDEX_NAN, INVALID_FIELD, INVALID_FORM, REFRESH_VALUE, REFRESH_TTL_REQUIRED = 201, 202, 203, 209, 210, 211, 212
RAFT_INTERNAL, EVENT_INDEX_CLEARED = 300, 401
_MESSAGES = {
    KEY_NOT_FOUND: "Key not found",
    TEST_FAILED: "Compare failed",
    NOT_FILE: "Not a file",
    NOT_DIR: "Not a directory",
    NODE_EXIST: "Key already exists",
    ROOT_READ_ONLY: "Root is read only",
    DIR_NOT_EMPTY: "Directory not empty",
    UNAUTHORIZED: "The request requires user authentication",
    PREV_VALUE_REQUIRED: "PrevValue is Required in POST form",
    TTL_NAN: "The given TTL in POST form is not a number",
    INDEX_NAN: "The given index in POST form is not a number",
    INVALID_FIELD: "Invalid field",
    INVALID_FORM: "Invalid POST form",
    REFRESH_VALUE: "Value provided on refresh",
    REFRESH_TTL_REQUIRED: "A TTL must be provided on refresh",
    RAFT_INTERNAL: "Raft Internal Error",
    EVENT_INDEX_CLEARED: "The event in requested index is outdated and cleared",
}


class V2Error(RpcError):
    """An answer of the v2 API. An RpcError, so that it travels like the v3 API's from the log to whoever waits."""

    def __init__(self, v2_code: int, cause: str, index: int = 0) -> None:
        super().__init__(Code.UNKNOWN, f"{_MESSAGES[v2_code]} ({cause})")
        self.v2_code = v2_code
        self.cause = cause
        self.index = index

    @property
    def document(self) -> dict[str, Any]:
        cause = {"cause": self.cause} if self.cause else {}
        return {"errorCode": self.v2_code, "message": _MESSAGES[self.v2_code], **cause, "index": self.index}


@dataclass(slots=True)
class Node:
    """A file (with a value) or a directory (with children)."""

    path: str
    created: int
    modified: int
    value: str | None = None
    expiration: int = 0
    children: dict[str, "Node"] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        return self.value is None

    @property
    def hidden(self) -> bool:
        return self.path.rsplit("/", 1)[1].startswith("_")


@dataclass(slots=True)
class Event:
    """What happened. `node` and `previous` are documents of the API; `index` is the store's when it was answered."""

    action: str
    node: dict[str, Any]
    previous: dict[str, Any] | None = None
    index: int = 0
    refresh: bool = False

    @property
    def key(self) -> str:
        return str(self.node["key"])

    @property
    def modified(self) -> int:
        return int(self.node["modifiedIndex"])

    @property
    def created(self) -> bool:
        return self.action == "create" or (self.action == "set" and self.previous is None)

    @property
    def document(self) -> dict[str, Any]:
        previous = {"prevNode": self.previous} if self.previous is not None else {}
        return {"action": self.action, "node": self.node, **previous}


@dataclass(slots=True, eq=False)
class Watcher:
    """Waits for one event, or all of them (`stream`). `wake` is called when there is one, or when the watcher was cut off for lagging."""

    key: str
    recursive: bool
    stream: bool
    since: int
    start_index: int
    wake: Callable[[], None]
    events: deque[Event] = field(default_factory=deque)
    cut: bool = False


def clean(path: str) -> str:
    """The path in its shortest form, from the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def time_text(nanoseconds: int) -> str:
    """As Go writes a UTC time in JSON."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def parse_time(text: str) -> int:
    """Nanoseconds; 0 for Go's zero time. Raises ValueError."""
    if text == _ZERO_TIME:
        return 0
    whole, dot, rest = text.removesuffix("Z").partition(".")
    if dot and not rest.isdigit():
        # A zone other than UTC: only its whole seconds are exact.
        return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000
    moment = datetime.fromisoformat(whole if dot or text.endswith("Z") else text)
    seconds = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    return seconds * 1_000_000_000 + (int(rest.ljust(9, "0")[:9]) if dot else 0)


class V2Store:
    """The tree. `now` is set by the driver before each use."""

    def __init__(self) -> None:
        self.now = 0
        self.current = 0
        self.root = Node("/", 0, 0)
        for name in ("0", "1"):
            self.root.children[name] = Node(f"/{name}", 0, 0)
        self.stats: dict[str, int] = dict.fromkeys(_STATS, 0)
        self.watch_requests = 0
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._expiring: SortedList = SortedList()  # of (expiration, path)

    # Reading

    def get(self, path: str, recursive: bool = False, ordered: bool = False) -> Event:
        with_stats = self._counting("get")
        with with_stats:
            node = self._find(clean(path))
            return Event("get", self._show(node, recursive, children=True, ordered=ordered), index=self.current)

    def _find(self, path: str) -> Node:
        node = self.root
        for name in filter(None, path.split("/")):
            if not node.is_dir:
                raise V2Error(NOT_DIR, node.path, self.current)
            child = node.children.get(name)
            if child is None:
                raise V2Error(KEY_NOT_FOUND, clean(f"{node.path}/{name}"), self.current)
            node = child
        return node

    def _show(self, node: Node, recursive: bool = False, children: bool = False, ordered: bool = False) -> dict[str, Any]:
        """The node as the API shows it; children below the first level only when `recursive`, hidden ones never."""
        document: dict[str, Any] = {"key": node.path}
        if node.is_dir:
            document["dir"] = True
        else:
            document["value"] = node.value
        document.update(self._remaining(node))
        if node.is_dir and (recursive or children):
            shown = [self._show(child, recursive, False, ordered) for child in node.children.values() if not child.hidden]
            if shown:
                document["nodes"] = sorted(shown, key=lambda each: str(each["key"])) if ordered else shown
        return _indexed(document, node.modified, node.created)

    def _remaining(self, node: Node) -> dict[str, Any]:
        if not node.expiration:
            return {}
        left = -((self.now - node.expiration) // 1_000_000_000)  # rounded up
        return {"expiration": time_text(node.expiration), **({"ttl": left} if left else {})}

    # Writing

    def create(self, path: str, value: str = "", directory: bool = False, unique: bool = False, expiration: int = 0) -> Event:
        with self._counting("create"):
            event = self._create("create", path, value, directory, unique, replace=False, expiration=expiration)
            self._notify(event)
            return event

    def set(self, path: str, value: str = "", directory: bool = False, expiration: int = 0, refresh: bool = False) -> Event:
        with self._counting("sets"):
            try:
                before: Node | None = self._find(clean(path))
            except V2Error as error:
                if error.v2_code != KEY_NOT_FOUND or refresh:
                    raise
                before = None
            previous = self._show(before, children=True) if before is not None else None
            if refresh and before is not None:
                value = before.value or ""
            event = self._create("set", path, value, directory, unique=False, replace=True, expiration=expiration)
            if previous is not None:
                event.previous = previous
            self._publish(event, refresh)
            return event

    def update(self, path: str, value: str, expiration: int = 0, refresh: bool = False) -> Event:
        with self._counting("update"):
            node = self._find(self._writable(path))
            if node.is_dir and value:
                raise V2Error(NOT_FILE, node.path, self.current)
            event = Event("update", {}, self._show(node))
            self._write(node, (node.value or "") if refresh else value, expiration)
            event.node, event.index = self._show(node), self.current
            self._publish(event, refresh)
            return event

    def compare_and_swap(self, path: str, prev_value: str, prev_index: int, value: str, expiration: int = 0, refresh: bool = False) -> Event:
        with self._counting("compareAndSwap"):
            node = self._compared(self._writable(path), prev_value, prev_index)
            event = Event("compareAndSwap", {}, self._show(node))
            self._write(node, (node.value or "") if refresh else value, expiration)
            event.node, event.index = self._show(node), self.current
            self._publish(event, refresh)
            return event

    def delete(self, path: str, directory: bool = False, recursive: bool = False) -> Event:
        with self._counting("delete"):
            path = self._writable(path)
            node = self._find(path)
            if node.is_dir and not (directory or recursive):
                raise V2Error(NOT_FILE, path, self.current)
            if node.children and not recursive:
                raise V2Error(DIR_NOT_EMPTY, path, self.current)
            return self._remove("delete", node)

    def compare_and_delete(self, path: str, prev_value: str, prev_index: int) -> Event:
        with self._counting("compareAndDelete"):
            return self._remove("compareAndDelete", self._compared(clean(path), prev_value, prev_index))

    @property
    def next_expiration(self) -> int:
        """When the first node expires; 0 when none does."""
        return int(self._expiring[0][0]) if self._expiring else 0

    def expire(self, cutoff: int) -> None:
        """Remove what has expired by `cutoff`."""
        while self._expiring and self._expiring[0][0] <= cutoff:
            self.stats["expireCount"] += 1
            self._remove("expire", self._find(self._expiring[0][1]))

    def _writable(self, path: str) -> str:
        path = clean(path)
        if path in ("/", "/0", "/1"):
            raise V2Error(ROOT_READ_ONLY, "/", self.current)
        return path

    def _compared(self, path: str, prev_value: str, prev_index: int) -> Node:
        node = self._find(path)
        if node.is_dir:
            raise V2Error(NOT_FILE, path, self.current)
        wrong_value = bool(prev_value) and prev_value != node.value
        wrong_index = bool(prev_index) and prev_index != node.modified
        if wrong_value or wrong_index:
            value, index = f"[{prev_value} != {node.value}]", f"[{prev_index} != {node.modified}]"
            cause = f"{value} {index}" if wrong_value and wrong_index else value if wrong_value else index
            raise V2Error(TEST_FAILED, cause, self.current)
        return node

    def _create(self, action: str, path: str, value: str, directory: bool, unique: bool, replace: bool, expiration: int) -> Event:
        following = self.current + 1
        path = self._writable(f"{path}/{following:020d}" if unique else path)
        parent = self._parent(path, following)
        name = path.rsplit("/", 1)[1]
        old = parent.children.get(name)
        event = Event(action, {}, index=following)
        if old is not None:
            if not replace:
                raise V2Error(NODE_EXIST, path, self.current)
            if old.is_dir:
                raise V2Error(NOT_FILE, path, self.current)
            event.previous = self._show(old)
            self._detach(old)
        node = Node(path, following, following, None if directory else value)
        parent.children[name] = node
        self._expire_at(node, expiration)
        self.current = following
        event.node = self._show(node)
        return event

    def _parent(self, path: str, following: int) -> Node:
        """The directory of a path, made as far as it is not there."""
        node = self.root
        for name in path.split("/")[1:-1]:
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = Node(clean(f"{node.path}/{name}"), following, following)
            elif not child.is_dir:
                raise V2Error(NOT_DIR, child.path, self.current)
            node = child
        return node

    def _write(self, node: Node, value: str, expiration: int) -> None:
        self.current += 1
        if not node.is_dir:
            node.value = value
        node.modified = self.current
        self._expire_at(node, expiration)

    def _expire_at(self, node: Node, expiration: int) -> None:
        if node.expiration:
            self._expiring.discard((node.expiration, node.path))
        node.expiration = expiration if expiration >= _MIN_EXPIRATION else 0
        if node.expiration:
            self._expiring.add((node.expiration, node.path))

    def _remove(self, action: str, node: Node) -> Event:
        previous = self._show(node)
        self.current += 1
        shown: dict[str, Any] = {"key": node.path, **({"dir": True} if node.is_dir and action != "compareAndDelete" else {})}
        event = Event(action, _indexed(shown, self.current, node.created), previous, self.current)
        for below in self._detach(node):
            # Who watches a key inside a removed directory hears of it too.
            self._notify_at(below, event, deleted=True)
        self._notify(event)
        return event

    def _detach(self, node: Node) -> list[str]:
        """Take a node out; answers the paths that are gone, the deepest first."""
        parent = self._find(node.path.rsplit("/", 1)[0] or "/")
        parent.children.pop(node.path.rsplit("/", 1)[1], None)
        gone = list(_below(node))
        for each in gone:
            self._expire_at(each, 0)
        return [each.path for each in gone]

    # Watching

    def watch(self, key: str, recursive: bool, stream: bool, since: int, wake: Callable[[], None]) -> Watcher:
        """A watcher from index `since` on (0: from now on). Raises V2Error when the history does not reach back that far."""
        key = clean(key)
        self.watch_requests += 1
        since = since or self.current + 1
        watcher = Watcher(key, recursive, stream, since, self.current, wake)
        for event in self._scan(key, recursive, since):
            watcher.events.append(event)
            if not stream:
                return watcher
        self._watchers.setdefault(key, {})[watcher] = None
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        watchers = self._watchers.get(watcher.key)
        if watchers is not None and watchers.pop(watcher, 0) is None and not watchers:
            del self._watchers[watcher.key]

    @property
    def watcher_count(self) -> int:
        return sum(map(len, self._watchers.values()))

    def _scan(self, key: str, recursive: bool, since: int) -> Iterator[Event]:
        """What the history holds for such a watcher."""
        first = self._history[0].modified if self._history else 0
        if since < first:
            raise V2Error(EVENT_INDEX_CLEARED, f"the requested history has been cleared [{first}/{since}]", self.current)
        prefix = key.rstrip("/") + "/"
        for event in self._history:
            if event.modified < since or event.refresh:
                continue
            removed = event.action in ("delete", "expire") and event.previous is not None and event.previous.get("dir")
            if event.key == key or (recursive and event.key.startswith(prefix)) or (removed and key.startswith(event.key)):
                yield event

    def _publish(self, event: Event, refresh: bool) -> None:
        """A refresh only lengthens a life: nobody is told, but it has its place in the history."""
        event.refresh = refresh
        if refresh:
            self._history.append(event)
        else:
            self._notify(event)

    def _notify(self, event: Event) -> None:
        self._history.append(event)
        path = "/"
        self._notify_at(path, event)
        for name in filter(None, event.key.split("/")):
            path = clean(f"{path}/{name}")
            self._notify_at(path, event)

    def _notify_at(self, path: str, event: Event, deleted: bool = False) -> None:
        for watcher in list(self._watchers.get(path, ())):
            original = event.key == path
            if not original and _is_hidden(path, event.key):
                continue
            if not (watcher.recursive or original or deleted) or event.modified < watcher.since:
                continue
            if len(watcher.events) >= WATCHER_QUEUE:
                watcher.cut = True
            else:
                watcher.events.append(event)
            if watcher.cut or not watcher.stream:
                self.unwatch(watcher)
            watcher.wake()

    # Statistics and files

    def _counting(self, name: str) -> "_Counting":
        return _Counting(self.stats, name)

    def save(self) -> bytes:
        """etcd's document of the whole store."""
        events: list[Any] = [_event_to_json(event) for event in self._history]
        size = len(events)
        history = {
            "Queue": {
                "Events": events + [None] * (HISTORY - size),
                "Size": size,
                "Front": 0,
                "Back": size % HISTORY,
                "Capacity": HISTORY,
            },
            "StartIndex": self._history[0].modified if size else 0,
            "LastIndex": self._history[-1].modified if size else 0,
        }
        document = {
            "Root": _node_to_json(self.root),
            "WatcherHub": {"EventHistory": history},
            "CurrentIndex": self.current,
            "Stats": {**self.stats, "watchers": 0},
            "CurrentVersion": 2,
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    def restore(self, data: bytes) -> None:
        """Take over a document of `save`, also etcd's. Watchers stay. Raises ValueError."""
        try:
            document = json.loads(data)
            self.root = _node_from_json(document["Root"])
            self.current = int(document["CurrentIndex"])
            queue = document["WatcherHub"]["EventHistory"]["Queue"]
            events, front = queue["Events"], int(queue["Front"])
            ordered = [events[(front + each) % len(events)] for each in range(int(queue["Size"]))]
            self._history = deque((_event_from_json(event) for event in ordered), maxlen=HISTORY)
            self.stats = {name: int(document.get("Stats", {}).get(name, 0)) for name in _STATS}
        except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"not a v2 store: {error!r}") from error
        self._expiring = SortedList((node.expiration, node.path) for node in _below(self.root) if node.expiration)


_STATS = (
    *("getsSuccess", "getsFail", "setsSuccess", "setsFail", "deleteSuccess", "deleteFail", "updateSuccess", "updateFail"),
    *("createSuccess", "createFail", "compareAndSwapSuccess", "compareAndSwapFail", "compareAndDeleteSuccess", "compareAndDeleteFail"),
    "expireCount",
)


class _Counting:
    """Counts how an operation ended."""

    def __init__(self, stats: dict[str, int], name: str) -> None:
        self._stats = stats
        self._name = "gets" if name == "get" else name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, *_: object) -> None:
        self._stats[self._name + ("Success" if kind is None else "Fail")] += 1


def _below(node: Node) -> Iterator[Node]:
    """The node and all below it, the deepest first."""
    for child in node.children.values():
        yield from _below(child)
    yield node


def _indexed(document: dict[str, Any], modified: int, created: int) -> dict[str, Any]:
    indexes = {"modifiedIndex": modified, "createdIndex": created}
    return {**document, **{name: index for name, index in indexes.items() if index}}


def _is_hidden(watched: str, key: str) -> bool:
    """Whether the key is, seen from the watched path, hidden or inside something hidden."""
    return len(watched) <= len(key) and "/_" in clean("/" + key[len(watched) :])


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "Path": node.path,
        "CreatedIndex": node.created,
        "ModifiedIndex": node.modified,
        "ExpireTime": time_text(node.expiration) if node.expiration else _ZERO_TIME,
        "Value": node.value or "",
        "Children": {name: _node_to_json(child) for name, child in node.children.items()} if node.is_dir else None,
    }


def _node_from_json(document: dict[str, Any]) -> Node:
    children = document["Children"]
    node = Node(document["Path"], int(document["CreatedIndex"]), int(document["ModifiedIndex"]))
    node.expiration = parse_time(document["ExpireTime"])
    if children is None:
        node.value = document["Value"]
    else:
        node.children = {name: _node_from_json(child) for name, child in children.items()}
    return node


def _event_to_json(event: Event) -> dict[str, Any]:
    return {**event.document, **({"refresh": True} if event.refresh else {})}


def _event_from_json(document: dict[str, Any]) -> Event:
    node = document["node"]
    return Event(document["action"], node, document.get("prevNode"), int(node["modifiedIndex"]), bool(document.get("refresh")))
