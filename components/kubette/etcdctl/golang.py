"""Pure: texts as Go's fmt and strconv write them, because scripts read them."""

import re
from collections.abc import Sequence

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_UNESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92, "'": 39}
_ARGUMENT = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*[^'"\s]?""")
_DIGITS = re.compile(r"[+-]?[0-9]+")
_HEX_DIGITS = re.compile(r"[+-]?[0-9a-fA-F]+")


def quote(value: str | bytes) -> str:
    """`%q`."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    parts = ['"']
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if code in _ESCAPES:
            parts.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x20 or code == 0x7F:
            parts.append(f"\\x{code:02x}")
        elif char.isprintable():
            parts.append(char)
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join([*parts, '"'])


def unquote(text: str) -> bytes:
    """What a double-quoted Go string says. Raises ValueError."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise ValueError("expected quoted string")
    out = bytearray()
    at, end = 1, len(text) - 1
    while at < end:
        char = text[at]
        at += 1
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            continue
        kind = text[at : at + 1]
        at += 1
        if kind in _UNESCAPES:
            out.append(_UNESCAPES[kind])
        elif kind in ("x", "u", "U"):
            digits = {"x": 2, "u": 4, "U": 8}[kind]
            code = int(text[at : at + digits], 16)
            at += digits
            out += bytes([code]) if kind == "x" else chr(code).encode()
        elif kind and kind in "01234567":
            out.append(int(text[at - 1 : at + 2], 8))
            at += 2
        else:
            raise ValueError("invalid syntax")
    return bytes(out)


def argify(line: str) -> list[str]:
    """The words of a line, in quotes or not. Raises ValueError."""
    words = []
    for word in _ARGUMENT.findall(line):
        if word.startswith("'"):
            words.append(word[1:-1])
        elif word.startswith('"'):
            words.append(unquote(word).decode("utf-8", "surrogateescape"))
        else:
            words.append(word)
    return words


def parse_int(text: str, base: int = 10, *, unsigned: bool = False) -> int:
    """strconv.ParseInt or ParseUint, 64 bits. Raises ValueError with Go's words."""
    call = "strconv.ParseUint" if unsigned else "strconv.ParseInt"
    pattern = _DIGITS if base == 10 else _HEX_DIGITS
    if pattern.fullmatch(text) is None or (unsigned and text[0] in "+-"):
        raise ValueError(f"{call}: parsing {quote(text)}: invalid syntax")
    value = int(text, base)
    low, high = (0, (1 << 64) - 1) if unsigned else (-(1 << 63), (1 << 63) - 1)
    if not low <= value <= high:
        raise ValueError(f"{call}: parsing {quote(text)}: value out of range")
    return value


def humanize_bytes(count: int) -> str:
    """go-humanize's Bytes: powers of 1000, one decimal below 10."""
    if count < 10:
        return f"{count} B"
    size, unit = float(count), 0
    while size >= 1000 and unit < 6:
        size /= 1000
        unit += 1
    rounded = int(size * 10 + 0.5) / 10
    return f"{rounded:.1f} {_UNITS[unit]}" if rounded < 10 else f"{rounded:.0f} {_UNITS[unit]}"


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as olekukonko/tablewriter draws it, cells to the right; long texts are wrapped between words."""
    titles = [name.upper().replace("_", " ") for name in header]
    cells = [[_wrapped(cell) for cell in row] for row in rows]
    widths = [max([len(title), *(len(line) for row in cells for line in row[column])]) for column, title in enumerate(titles)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [rule, "|" + "|".join(f" {_centred(title, width)} " for title, width in zip(titles, widths, strict=True)) + "|", rule]
    for row in cells:
        height = max(len(cell) for cell in row)
        lines += [_row([cell[at] if at < len(cell) else "" for cell in row], widths) for at in range(height)]
    if rows:
        lines.append(rule)
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "|" + "|".join(f" {cell:>{width}} " for cell, width in zip(cells, widths, strict=True)) + "|"


def _centred(text: str, width: int) -> str:
    left = (width - len(text)) // 2
    return " " * left + text + " " * (width - len(text) - left)


def _wrapped(text: str, width: int = 30) -> list[str]:
    words = text.split()
    width = max([width, *map(len, words)])
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


def tabbed(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns behind a tab, aligned by tabs of eight (text/tabwriter)."""
    width = (max((len(left) for left, _ in rows), default=0) + 1 + 7) // 8 * 8
    return [f"{left}{chr(9) * ((width - len(left) + 7) // 8)}{right}" for left, right in rows]
