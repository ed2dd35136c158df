"""Pure: the order of Debian versions (deb-version(7)): `1.31.0~rc.1-1.1` < `1.31.0-1.1` < `1.31.10-1.1`."""

import re
from typing import Any


def key(version: str) -> tuple[Any, ...]:
    """A sort key: epoch, upstream version, revision."""
    epoch, separator, rest = version.partition(":")
    if not separator:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch) if epoch.isdigit() else 0, _part(upstream), _part(revision)


def _part(text: str) -> tuple[Any, ...]:
    """Alternating runs of other characters and digits, with an end that sorts after `~` and before all else."""
    runs = re.findall(r"(\D*)(\d*)", text)
    return (*(((*(_order(c) for c in other), 0), int(digits or 0)) for other, digits in runs if other or digits), ((0,), 0))


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
