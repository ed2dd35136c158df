"""What is named on the command line, and etcd's log as it is read from the disk."""

from pathlib import Path

import orjson
import pytest

from kubette.cli.errors import CommandError
from kubette.cli.trace import etcd_log, gather
from kubette.etcd import wal
from kubette.etcd_api import raft_internal_pb2
from kubette.raft.messages import Entry, EntryType, HardState

KEY = "/registry/pods/default/web"


def put(key: str, expected: int, value: object) -> bytes:
    request = raft_internal_pb2.InternalRaftRequest()
    compare = request.txn.compare.add()
    compare.key, compare.mod_revision = key.encode(), expected
    operation = request.txn.success.add().request_put
    operation.key, operation.value = key.encode(), orjson.dumps(value)
    return request.SerializeToString()  # type: ignore[no-any-return]


def entry(index: int, data: bytes, term: int = 2) -> Entry:
    return Entry(term, index, data, EntryType.NORMAL)


def test_the_log_is_read_beside_its_writer(tmp_path: Path) -> None:
    log = wal.Wal.create(tmp_path / "wal", b"metadata")
    log.save(
        HardState(2, 1, 0),
        [
            entry(1, put(KEY, 0, {"a": 1})),
            entry(2, put("/registry/pods/default/other", 0, {})),
            entry(3, put(KEY, 1, {"a": 2})),
            entry(4, put(KEY, 2, {"a": 3})),
        ],
    )
    log.save(HardState(3, 1, 4), [entry(3, put(KEY, 1, {"a": 4}), 3), entry(4, put("/registry/x", 0, {}), 3), entry(5, put(KEY, 3, {"a": 5}), 3)])
    log.sync()
    found = etcd_log.writes(tmp_path / "wal", {KEY})
    # 3 was replaced, and 4 with it; 5 is not committed.
    assert [(write.index, write.term, write.expected, write.value) for write in found] == [(1, 2, 0, {"a": 1}), (3, 3, 1, {"a": 4})]
    log.close()
    (segment,) = (tmp_path / "wal").glob("*.wal")
    content = segment.read_bytes()
    segment.write_bytes(content[: content.rindex(b'{"a":4}')])  # the writer has got this far
    assert [write.index for write in etcd_log.writes(tmp_path / "wal", {KEY})] == []
    assert etcd_log.writes(tmp_path / "nowhere", {KEY}) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("web", ("Pod", "web")),
        ("pod/web", ("Pod", "web")),
        ("po/web", ("Pod", "web")),
        ("deploy/web", ("Deployment", "web")),
        ("Jobs/web", ("Job", "web")),
    ],
)
def test_what_is_traced_is_named_as_for_kubectl(text: str, meant: tuple[str, str]) -> None:
    assert gather.parse_target(text) == meant


@pytest.mark.parametrize("text", ["node/web", "pod/", "/web"])
def test_other_kinds_are_refused(text: str) -> None:
    with pytest.raises(CommandError, match="expected pod/NAME"):
        gather.parse_target(text)
