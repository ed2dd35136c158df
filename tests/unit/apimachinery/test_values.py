"""Quantities, times, names, selectors: the small values of the API."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.apimachinery import names, quantity, selectors, timestamps


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("100m", "100m"),
        ("0.5", "500m"),
        (0.5, "500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1e3", "1e3"),
        ("1E", "1E"),
        ("2000", "2k"),
        ("0", "0"),
        ("-1.5", "-1500m"),
        ("0.1u", "100n"),
        ("0.1n", "1n"),
    ],
)
def test_a_quantity_has_one_spelling(text: object, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "1 Gi", "1ki", True, None])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="quantit"):
        quantity.parse(text)


_SUFFIXES = {"": 1, "m": Fraction(1, 1000), "k": 1000, "Ki": 1024, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30}


@given(st.integers(-(10**6), 10**6), st.sampled_from(sorted(_SUFFIXES)))
def test_quantities_are_exact_and_survive_printing(number: int, suffix: str) -> None:
    parsed = quantity.parse(f"{number}{suffix}")
    assert Fraction(parsed.nanos, 10**9) == number * _SUFFIXES[suffix]
    assert quantity.parse(str(parsed)) == parsed
    assert (parsed + parsed) - parsed == parsed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "<invalid>"), (0, "0s"), (119, "119s"), (120, "2m"), (130, "2m10s"), (599, "9m59s"), (600, "10m"), (10799, "179m"), (10800, "3h"),
     (12000, "3h20m"), (30000, "8h"), (172800, "2d"), (180000, "2d2h"), (86400 * 100, "100d"), (86400 * 800, "2y70d"), (86400 * 3000, "8y")],
)  # fmt: skip
def test_ages_read_as_kubectls(seconds: float, text: str) -> None:
    assert timestamps.human_duration(seconds) == text


def test_times_are_utc_whatever_their_offset() -> None:
    assert timestamps.format_time(timestamps.parse_time("2026-01-02T03:04:05+02:00")) == "2026-01-02T01:04:05Z"
    assert timestamps.format_micro_time(timestamps.parse_time("2026-01-02T03:04:05.5Z")) == "2026-01-02T03:04:05.500000Z"
    with pytest.raises(ValueError, match="parsing time"):
        timestamps.parse_time("yesterday")


def test_names() -> None:
    assert names.dns1123_label("web-1") == []
    assert "RFC 1123 label" in names.dns1123_label("Web")[0]
    assert names.dns1123_label("a" * 64) == ["must be no more than 63 bytes"]
    assert names.qualified_name("example.com/name") == []
    assert names.qualified_name("/name") == ["prefix part must be non-empty"]
    generated = names.generate("web-" + "x" * 100, random.Random(1))
    assert len(generated) == 63
    assert names.dns1123_label(generated) == []


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("a=b", {"a": "b"}, True),
        ("a!=b", {}, True),
        ("a in (b,c),d", {"a": "c", "d": ""}, True),
        ("a notin (b)", {"a": "b"}, False),
        ("!a", {"a": "x"}, False),
        ("a>5", {"a": "7"}, True),
        ("in in (in)", {"in": "in"}, True),
        ("", {"a": "b"}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], expected: bool) -> None:
    assert selectors.parse_label_selector(selector).matches(labels) is expected


@pytest.mark.parametrize("selector", ["a=b,", "=b", "a in b", "a b", "a==b==c", "a in (b", "a=b c"])
def test_broken_label_selectors_are_refused(selector: str) -> None:
    with pytest.raises(selectors.SelectorError, match="found"):
        selectors.parse_label_selector(selector)


def test_an_absent_label_selector_matches_nothing_and_an_empty_one_everything() -> None:
    assert not selectors.from_label_selector(None).matches({"a": "b"})
    assert selectors.from_label_selector({}).matches({})


def test_field_selectors_unescape_and_name_unknown_fields() -> None:
    selector = selectors.parse_field_selector(r"metadata.name=a\,b,status.phase!=Running")
    assert selector.matches({"metadata.name": "a,b", "status.phase": "Pending"})
    assert selector.required_value("metadata.name") == "a,b"
    with pytest.raises(selectors.SelectorError, match=r"field label not supported: status\.phase"):
        selector.check({"metadata.name"})
