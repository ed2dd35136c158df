"""The spliced bytes are the object with its revision."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from kubette.kube_apiserver.storage import record
from kubette.kube_apiserver.storage.record import Record

HEAD = record.head_of("v1", "ConfigMap")
names = st.text(min_size=1, max_size=8)
objects = st.fixed_dictionaries({"name": names}, optional={"labels": st.dictionaries(names, names, max_size=3), "resourceVersion": st.just("7")})


@given(metadata=objects, data=st.dictionaries(names, names, max_size=3), revision=st.integers(1, 2**60))
def test_reading_gives_what_was_written_under_the_revision(metadata: dict[str, object], data: dict[str, str], revision: int) -> None:
    obj = {"data": data, "metadata": metadata, "apiVersion": "v1", "kind": "ConfigMap"}
    value = record.encode(obj)
    assert b"resourceVersion" not in value.split(b'"data"')[0] or "resourceVersion" in str(metadata.get("labels"))
    shown = orjson.loads(record.with_revision(HEAD, value, revision))
    assert shown == {**obj, "metadata": {**metadata, "resourceVersion": str(revision)}}


def test_a_value_somebody_else_wrote_is_read_too() -> None:
    value = orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    assert orjson.loads(record.with_revision(HEAD, value, 5))["metadata"]["resourceVersion"] == "5"


def test_a_deletion_shows_the_last_state_under_its_own_revision() -> None:
    value = record.encode({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": '"resourceVersion":"5"'}})
    last = Record("d/a", 5, record.with_revision(HEAD, value, 5)).at_revision(9)
    assert last.object()["metadata"]["resourceVersion"] == "9"
    assert last.object()["data"] == {"k": '"resourceVersion":"5"'}
