"""Query parameters and continue tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.verbs import delete, options


@pytest.mark.parametrize(
    ("query", "watching", "part"),
    [
        ({"resourceVersionMatch": "Exact"}, False, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, False, 'is forbidden for resourceVersion "0"'),
        ({"resourceVersionMatch": "foo", "resourceVersion": "1"}, False, "Unsupported value"),
        ({"sendInitialEvents": "true"}, False, "sendInitialEvents is forbidden for list"),
        ({"sendInitialEvents": "true", "allowWatchBookmarks": "true"}, True, "requires setting resourceVersionMatch to NotOlderThan"),
        ({"resourceVersion": "abc"}, False, "invalid syntax"),
        ({"labelSelector": "a=="}, False, ""),
        ({"limit": "x"}, False, "invalid syntax"),
    ],
)
def test_contradictory_list_options_are_refused(query: dict[str, str], watching: bool, part: str) -> None:
    if query == {"labelSelector": "a=="}:
        assert options.list_options(query, watching).labels.requirements  # an empty value is legal
        return
    with pytest.raises(ApiError) as caught:
        options.list_options(query, watching)
    assert part in caught.value.message


@given(revision=st.integers(1, 2**62), start=st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8})?\x00", fullmatch=True))
def test_continue_tokens_come_back_as_they_went(revision: int, start: str) -> None:
    assert options.decode_continue(options.encode_continue(revision, start)) == (revision, start)


@pytest.mark.parametrize("token", ["", "!", "e30", options.encode_continue(3, "../secrets/x"), options.encode_continue(0, "a")])
def test_a_forged_continue_token_is_a_bad_request(token: str) -> None:
    with pytest.raises(ApiError) as caught:
        options.decode_continue(token)
    assert caught.value.code == 400


def test_delete_options_are_checked() -> None:
    with pytest.raises(ApiError, match="cannot be both set"):
        delete.parse_options({"propagationPolicy": "Orphan", "orphanDependents": True})
    with pytest.raises(ApiError, match="Unsupported value"):
        delete.parse_options({"propagationPolicy": "Sometimes"})
    assert delete.parse_options({"gracePeriodSeconds": 0, "dryRun": ["All"]}).grace_s == 0
