"""The command line as pflag reads it: letters that stand together."""

from typing import Any

import pytest

from kubette.component_base.flags import FlagError, FlagSet


def parsed(*words: str) -> Any:
    flags = FlagSet("crictl", "", positional=True)
    flags.bool("all", False, "", shorthand="a")
    flags.bool("quiet", False, "", shorthand="q")
    flags.string("output", "", "", shorthand="o")
    return flags.parse(list(words))


def test_letters_of_switches_may_stand_together() -> None:
    options = parsed("-aq", "ps")
    assert (options.all, options.quiet, options.args) == (True, True, ["ps"])


def test_what_follows_the_letter_of_a_value_is_the_value() -> None:
    assert parsed("-ojson").output == parsed("-qojson").output == parsed("-o", "json").output == "json"


def test_a_letter_that_is_none_is_refused_where_it_stands() -> None:
    with pytest.raises(FlagError, match="unknown shorthand flag: 'x'"):
        parsed("-ax")
