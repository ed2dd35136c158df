"""Pure: the syntax of unit files (systemd.syntax(7), systemd.unit(5), the command lines of systemd.service(5)).

A unit is read from one fragment and any number of drop-ins; assignments simply follow one another. `UnitFile` keeps them in order and
answers two questions: the `value` of a setting that is given once (the last assignment wins) and the `values` of a list (assignments append, an empty one resets).
What a key means is `service_spec`'s business, which file is read is `unit_load`'s.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

WHITESPACE = " \t\n\r"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'", "s": " "}


class UnitFileError(ValueError):
    """A value cannot be read; the text is the part after `Failed to parse …: `."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """`Key=value` in `[Section]`, and where it stands."""

    section: str
    key: str
    value: str
    path: str = ""
    line: int = 0


@dataclass(slots=True)
class UnitFile:
    """All assignments of one unit, fragment first, then drop-ins; and what was wrong with the text (systemd warns and goes on)."""

    assignments: list[Assignment] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def values(self, section: str, key: str) -> list[str]:
        """The assignments of a list setting; an empty assignment resets it."""
        found: list[str] = []
        for entry in self.assignments:
            if entry.section == section and entry.key == key:
                found = [*found, entry.value] if entry.value else []
        return found

    def value(self, section: str, key: str, default: str = "") -> str:
        """The last assignment of a setting given once; an empty assignment restores the default."""
        result = default
        for entry in self.assignments:
            if entry.section == section and entry.key == key:
                result = entry.value or default
        return result

    def words(self, section: str, key: str) -> list[str]:
        """A list setting whose assignments are words (`After=a.service b.service`), first mention first, each once."""
        return list(dict.fromkeys(word for value in self.values(section, key) for word in split_words(value)))

    def extend(self, other: "UnitFile") -> None:
        """Append a drop-in."""
        self.assignments.extend(other.assignments)
        self.warnings.extend(other.warnings)


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """Lines with continuations joined by a space; a comment inside a continuation is skipped."""
    pending, start = "", 0
    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip(WHITESPACE)
        if stripped[:1] in ("#", ";"):
            continue
        if not pending:
            start = number
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        yield start, (pending + stripped).strip(WHITESPACE)
        pending = ""
    if pending:
        yield start, pending.strip(WHITESPACE)


def parse(text: str, path: str = "") -> UnitFile:
    """Parse one file. Never raises: a line that makes no sense becomes a warning, as with systemd."""
    unit = UnitFile()
    section = ""
    for number, line in _logical_lines(text):
        if not line:
            continue
        if line.startswith("["):
            if line.endswith("]"):
                section = line[1:-1]
            else:
                unit.warnings.append(f"{path}:{number}: Invalid section header '{line}'")
            continue
        key, separator, value = line.partition("=")
        if not section:
            unit.warnings.append(f"{path}:{number}: Assignment outside of section. Ignoring.")
        elif not separator:
            unit.warnings.append(f"{path}:{number}: Missing '=', ignoring line.")
        else:
            unit.assignments.append(Assignment(section, key.strip(WHITESPACE), value.strip(WHITESPACE), path, number))
    return unit


def _unescape(text: str, at: int) -> tuple[str, int]:
    """The character written by the backslash sequence at `at` (just behind the backslash), and where it ends."""
    letter = text[at : at + 1]
    if letter in _ESCAPES and letter:
        return _ESCAPES[letter], at + 1
    for pattern, base in ((r"x([0-9a-fA-F]{2})", 16), (r"([0-7]{3})", 8), (r"u([0-9a-fA-F]{4})", 16), (r"U([0-9a-fA-F]{8})", 16)):
        match = re.compile(pattern).match(text, at)
        if match:
            return chr(int(match[1], base)), match.end()
    # An unknown escape is kept as it stands (EXTRACT_CUNESCAPE_RELAX): "\." in a pattern stays "\.".
    return "\\" + letter, at + 1


def split_words(text: str) -> list[str]:
    """Split at white space; '…' and "…" quote, backslash sequences are C's. Raises UnitFileError for an open quote."""
    words: list[str] = []
    word, started, quote, at = "", False, "", 0
    while at < len(text):
        letter = text[at]
        if letter == "\\":
            if at + 1 == len(text):
                raise UnitFileError(f"trailing backslash in '{text}'")
            piece, at = _unescape(text, at + 1)
            word, started = word + piece, True
            continue
        at += 1
        if quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "'\"":
            quote, started = letter, True
        elif letter in WHITESPACE:
            if started:
                words.append(word)
            word, started = "", False
        else:
            word, started = word + letter, True
    if quote:
        raise UnitFileError(f"unbalanced quoting in '{text}'")
    if started:
        words.append(word)
    return words


@dataclass(frozen=True, slots=True)
class ExecCommand:
    """One command of an Exec line, variables not yet expanded."""

    argv: tuple[str, ...]
    path: str
    ignore_failure: bool = False  # "-"
    expand_environment: bool = True  # switched off by ":"
    full_privileges: bool = False  # "+", "!" or "!!": User= and Group= do not apply


def parse_exec(line: str) -> list[ExecCommand]:
    """The commands of an Exec line (`;` as a word of its own separates them). Raises UnitFileError."""
    groups: list[list[str]] = [[]]
    for word in split_words(line.replace(" \\; ", " \x00 ")):
        if word == ";":
            groups.append([])
        else:
            groups[-1].append(";" if word == "\x00" else word)
    commands = []
    for words in filter(None, groups):
        first = words[0]
        prefix = first[: len(first) - len(first.lstrip("@-+!:"))]
        program, rest = first[len(prefix) :], words[1:]
        argv0 = program
        if "@" in prefix:
            if not rest:
                raise UnitFileError(f"'@' prefix without argv[0] in '{line}'")
            argv0, rest = rest[0], rest[1:]
        if not program:
            raise UnitFileError(f"Empty path in command line: {line}")
        commands.append(
            ExecCommand(
                (argv0, *rest),
                program,
                ignore_failure="-" in prefix,
                expand_environment=":" not in prefix,
                full_privileges="+" in prefix or "!" in prefix,
            )
        )
    return commands


_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)")


def expand_environment(words: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """`${A}` anywhere is the value, `$A` as a whole word is the value split into words (none when unset), `$$` is a dollar sign."""

    def substitute(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1]
        # "$A" inside a longer word is left alone, as systemd does.
        return environment.get(name, "") if name else match[0]

    expanded: list[str] = []
    for word in words:
        if re.fullmatch(r"\$[A-Za-z_][A-Za-z0-9_]*", word):
            expanded.extend(_split_relaxed(environment.get(word[1:], "")))
        else:
            expanded.append(_VARIABLE.sub(substitute, word))
    return expanded


def _split_relaxed(text: str) -> list[str]:
    """Words of a variable's value: an open quote there is text, not an error."""
    try:
        return split_words(text)
    except UnitFileError:
        return text.split()


def expand_specifiers(text: str, specifiers: Mapping[str, str]) -> str:
    """Replace `%x`; an unknown specifier stays as written."""
    return re.sub(r"%(.)", lambda match: "%" if match[1] == "%" else specifiers.get(match[1], match[0]), text)


def name_specifiers(unit: str) -> dict[str, str]:
    """The specifiers that follow from the unit's name alone."""
    without_suffix = unit.rpartition(".")[0]
    prefix, at, instance = without_suffix.partition("@")
    last = prefix.rpartition("-")[2]
    return {
        "n": unit,
        "N": without_suffix,
        "p": prefix,
        "P": unescape_name(prefix),
        "i": instance if at else "",
        "I": unescape_name(instance) if at else "",
        "j": last,
        "J": unescape_name(last),
        "f": "/" + unescape_name(instance if at else prefix).lstrip("/"),
    }


def unescape_name(text: str) -> str:
    """systemd-escape --unescape: `-` is a slash, `\\xNN` a byte."""
    return re.sub(r"-|\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)) if match[1] else "/", text)


def template_of(unit: str) -> str:
    """`foo@.service` for `foo@bar.service`; empty when the name is not an instance."""
    stem, _, suffix = unit.rpartition(".")
    prefix, at, instance = stem.partition("@")
    return f"{prefix}@.{suffix}" if at and instance else ""


TIME_UNITS_S = {
    "us": 1e-6, "usec": 1e-6, "µs": 1e-6,
    "ms": 1e-3, "msec": 1e-3,
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
INFINITY = float("inf")


def parse_time_span(text: str) -> float:
    """systemd.time(7)'s spans, in seconds: `90`, `1min 30s`, `500ms`, `infinity`. Raises UnitFileError."""
    body = text.strip()
    if body == "infinity":
        return INFINITY
    if not re.fullmatch(r"(\s*\d+(\.\d*)?\s*[a-zµ]*)+", body):
        raise UnitFileError(f"invalid time span: {text}")
    total = 0.0
    for number, unit in re.findall(r"(\d+(?:\.\d*)?)\s*([a-zµ]*)", body):
        if unit not in TIME_UNITS_S:
            raise UnitFileError(f"invalid time span: {text}")
        total += float(number) * TIME_UNITS_S[unit]
    return total


def parse_boolean(text: str) -> bool:
    """yes/no in systemd's spellings. Raises UnitFileError."""
    lowered = text.strip().lower()
    if lowered in ("1", "yes", "y", "true", "t", "on"):
        return True
    if lowered in ("0", "no", "n", "false", "f", "off"):
        return False
    raise UnitFileError(f"invalid boolean: {text}")


def parse_environment_file(text: str) -> dict[str, str]:
    """An EnvironmentFile: `A=b` lines, shell-like quotes, comments, continuations; what is not an assignment is ignored."""
    variables: dict[str, str] = {}
    pending = ""
    for raw in text.split("\n"):
        line = pending + raw
        pending = ""
        if line.lstrip()[:1] in ("#", ";"):
            continue
        if line.endswith("\\"):
            pending = line[:-1]
            continue
        name, separator, value = line.strip().partition("=")
        name = name.strip()
        if separator and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            variables[name] = _unquote_shell(value.strip())
    return variables


def _unquote_shell(value: str) -> str:
    """Remove the quotes of an environment file's value; inside single quotes nothing is special."""
    result, quote, at = "", "", 0
    while at < len(value):
        letter = value[at]
        at += 1
        if letter == "\\" and quote != "'" and at < len(value):
            # Inside double quotes a backslash only protects the shell's own special characters.
            result += value[at] if not quote or value[at] in '"\\`$' else "\\" + value[at]
            at += 1
        elif quote:
            if letter == quote:
                quote = ""
            else:
                result += letter
        elif letter in "'\"":
            quote = letter
        else:
            result += letter
    return result
