"""Pure: resource quantities (`100m`, `1.5Gi`, `3e2`) with exact arithmetic (apimachinery's `api/resource`).

A value is a whole number of nanos: upstream keeps no finer precision either, and rounds up what is finer.
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Any

_NANO = 10**9
_QUANTITY = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?")
_DECIMAL_EXPONENT = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_EXPONENT = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL_EXPONENT.items()}
_BINARY_SUFFIX = {0: "", **{exponent: suffix for suffix, exponent in _BINARY_EXPONENT.items()}}
# Larger numbers are clamped, as upstream does.
_LIMIT = (2**63 - 1) * _NANO

DECIMAL_SI = "DecimalSI"
BINARY_SI = "BinarySI"
DECIMAL_EXPONENT = "DecimalExponent"

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An exact amount and the family of suffixes it is printed with."""

    nanos: int
    format: str = DECIMAL_SI

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __lt__(self, other: "Quantity") -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return self.nanos

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def __neg__(self) -> "Quantity":
        return Quantity(-self.nanos, self.format)

    @property
    def value(self) -> int:
        """Whole units, rounded up (away from zero)."""
        return _round_up(self.nanos, _NANO)

    @property
    def milli_value(self) -> int:
        """Thousandths, rounded up."""
        return _round_up(self.nanos, _NANO // 1000)

    def round_up_milli(self) -> "Quantity":
        """What resource lists keep: nothing finer than thousandths."""
        step = _NANO // 1000
        return self if self.nanos % step == 0 else Quantity(self.milli_value * step, self.format)

    def __str__(self) -> str:
        return _canonical(self)


def _round_up(nanos: int, unit: int) -> int:
    return -(-nanos // unit) if nanos >= 0 else -(nanos * -1 // unit + (1 if -nanos % unit else 0))


def parse(text: Any) -> Quantity:
    """Raises ValueError with upstream's text. Numbers are read as their decimal text, as upstream's JSON decoder does."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(FORMAT_ERROR)
    text = str(text)
    matched = _QUANTITY.fullmatch(text)
    if matched is None or not (matched[2] or matched[3]):
        if re.fullmatch(r"[+-]?[0-9.]+[A-Za-z]+", text) and text.count(".") <= 1:
            raise ValueError("unable to parse quantity's suffix")
        raise ValueError(FORMAT_ERROR)
    sign, whole, fraction, suffix = matched[1], matched[2] or "", matched[3] or "", matched[4] or ""
    digits = int((whole + fraction) or "0")
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        family, ten, two = DECIMAL_EXPONENT, min(int(suffix[1:]), 64), 0
    elif suffix in _BINARY_EXPONENT:
        family, ten, two = BINARY_SI, 0, _BINARY_EXPONENT[suffix]
    else:
        family, ten, two = DECIMAL_SI, _DECIMAL_EXPONENT[suffix], 0
    # digits * 10^(ten - len(fraction)) * 2^two, in nanos, rounded away from zero.
    exponent = ten - len(fraction) + 9
    amount = digits << two
    nanos = amount * 10**exponent if exponent >= 0 else -(-amount // 10**-exponent)
    nanos = min(nanos, _LIMIT)
    return Quantity(-nanos if sign == "-" else nanos, family)


def _canonical(quantity: Quantity) -> str:
    """The one spelling: largest suffix without a fraction; fractional binary amounts fall back to decimal ones."""
    nanos = quantity.nanos
    if nanos == 0:
        return "0"
    sign, size = ("-", -nanos) if nanos < 0 else ("", nanos)
    if quantity.format == BINARY_SI and size % _NANO == 0 and size >= 1024 * _NANO:
        number, exponent = size // _NANO, 0
        while number % 1024 == 0 and exponent < 60:
            number //= 1024
            exponent += 10
        return f"{sign}{number}{_BINARY_SUFFIX[exponent]}"
    number, exponent = size, -9
    while number % 1000 == 0 and (exponent < 18 or quantity.format == DECIMAL_EXPONENT):
        number //= 1000
        exponent += 3
    if quantity.format == DECIMAL_EXPONENT:
        return f"{sign}{number}e{exponent}" if exponent else f"{sign}{number}"
    return f"{sign}{number}{_DECIMAL_SUFFIX[exponent]}"


def canonical(text: Any) -> str:
    """Parse and print."""
    return str(parse(text))


def zero() -> Quantity:
    return Quantity(0)


def of_milli(milli: int, format: str = DECIMAL_SI) -> Quantity:
    return Quantity(milli * (_NANO // 1000), format)


def of(value: int, format: str = DECIMAL_SI) -> Quantity:
    return Quantity(value * _NANO, format)
