"""Pure: one stored object at one revision, encoded once.

What lies in etcd has no `resourceVersion`: the revision is only known once etcd has written it. Every value this server writes
begins with the same bytes, `{"kind":K,"apiVersion":V,"metadata":{`, so reading is splicing the revision in behind them; no JSON is parsed.
The bytes are shared by all lists and watchers; `object()` parses a fresh dict that its caller may change.
"""

from typing import Any

import orjson

Object = dict[str, Any]


def head_of(api_version: str, kind: str) -> bytes:
    """What every stored value of a kind begins with."""
    return b'{"kind":%b,"apiVersion":%b,"metadata":{' % (orjson.dumps(kind), orjson.dumps(api_version))


def encode(obj: Object) -> bytes:
    """The bytes for etcd: kind, apiVersion and metadata first, no resourceVersion."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    ordered = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": metadata}
    for key, value in obj.items():
        if key not in ordered:
            ordered[key] = value
    return orjson.dumps(ordered)


def with_revision(head: bytes, value: bytes, revision: int) -> bytes:
    """A value as etcd has it → the bytes the API shows."""
    if value.startswith(head):
        rest = value[len(head) :]
        comma = b"" if rest.startswith(b"}") else b","
        return b'%b"resourceVersion":"%d"%b%b' % (head, revision, comma, rest)
    # Somebody else wrote it (a restore from elsewhere, an etcdctl put): the slow way gives the same.
    obj = orjson.loads(value)
    obj.setdefault("metadata", {})["resourceVersion"] = str(revision)
    return orjson.dumps(obj)


class Record:
    """`key` is relative to the resource's prefix."""

    __slots__ = ("_fields", "_labels", "_shared", "_views", "data", "key", "revision")

    def __init__(self, key: str, revision: int, data: bytes) -> None:
        self.key = key
        self.revision = revision
        self.data = data
        self._shared: Object | None = None
        self._labels: dict[str, str] | None = None
        self._fields: dict[str, str] | None = None
        self._views: dict[Any, bytes] | None = None

    @property
    def namespace(self) -> str:
        return self.key.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def object(self) -> Object:
        """A fresh copy of the object."""
        obj: Object = orjson.loads(self.data)
        return obj

    def shared(self) -> Object:
        """The object, parsed once and kept: for readers inside the server, who do not change it."""
        if self._shared is None:
            self._shared = self.object()
        return self._shared

    def labels(self) -> dict[str, str]:
        """The labels; do not change them."""
        if self._labels is None:
            self._labels = self.object()["metadata"].get("labels") or {}
        return self._labels

    def fields(self, read: Any) -> dict[str, str]:
        """What field selectors see, by the resource's own reader; parsed once."""
        if self._fields is None:
            obj = self.object()
            self._labels = obj["metadata"].get("labels") or {}
            self._fields = read(obj)
        return self._fields or {}

    def view(self, key: Any, render: Any) -> bytes:
        """Other encodings of the same revision (a converted version, a Table row), made once and kept with it."""
        if self._views is None:
            self._views = {}
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = render(self)
        return found

    def at_revision(self, revision: int) -> "Record":
        """The same content under a later resourceVersion: what a DELETED event shows."""
        old, new = b'"resourceVersion":"%d"' % self.revision, b'"resourceVersion":"%d"' % revision
        # The first occurrence is the object's own: nothing but kind, apiVersion and metadata's brace stands before it.
        return Record(self.key, revision, self.data.replace(old, new, 1))
