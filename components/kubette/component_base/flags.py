"""Pure: command-line flags as upstream's programs parse them (spf13/pflag's conventions).

`--name=value`, `--name value`, `--switch`, `--switch=false`; a repeated slice flag appends; an unknown flag is an error in
pflag's words. Values are checked once, here: what `parse` returns needs no further validation of form.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


class FlagError(Exception):
    """The command line is wrong; the text is what the user sees."""


class HelpRequested(Exception):
    """`--help` or `-h` was given."""


class VersionRequested(Exception):
    """`--version` was given."""


_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Go's time.ParseDuration, in seconds. Raises ValueError with Go's words."""
    body = text[1:] if text[:1] in "+-" else text
    if body == "0":
        return 0.0
    position, total = 0, 0.0
    while position < len(body):
        match = _DURATION_PART.match(body, position)
        if match is None:
            break
        total += float(match[1]) * _UNIT_S[match[2]]
        position = match.end()
    if not body or position != len(body):
        if re.fullmatch(r"[0-9.]+", body):
            raise ValueError(f'time: missing unit in duration "{text}"')
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[:1] == "-" else total


def format_duration(seconds: float) -> str:
    """Go's time.Duration text: `10s`, `2m40s`, `1.234567s`, `350ms`."""
    nanoseconds = round(seconds * 1e9)
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return f"{_decimal(nanoseconds, size)}{unit}"
        return "0s"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    prefix = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{prefix}{_decimal(rest, 1_000_000_000)}s"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    digits = str(rest).zfill(len(str(size)) - 1).rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _parse_int(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _parse_uint(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def _parse_slice(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _parse_map(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator:
            raise ValueError(f"{part} must be formatted as key=value")
        pairs[key.strip()] = value.strip()
    return pairs


@dataclass(slots=True)
class Flag:
    """One flag: how it is written, parsed and explained."""

    name: str
    kind: str
    default: Any
    help: str
    parse: Callable[[str], Any]
    shorthand: str = ""
    deprecated: str = ""
    appends: bool = False

    @property
    def dest(self) -> str:
        return self.name.replace("-", "_").replace(".", "_")


class Options:
    """The parsed values, one attribute a flag (dashes become underscores), plus `args` and what was `changed`."""

    def __init__(self) -> None:
        self.args: list[str] = []
        self.changed: set[str] = set()
        self.warnings: list[str] = []

    def __getattr__(self, name: str) -> Any:  # only reached when the attribute is missing
        raise AttributeError(f"no flag {name}")


@dataclass(slots=True)
class FlagSet:
    """The flags of one program. `positional` allows arguments that are not flags."""

    program: str
    description: str = ""
    positional: bool = False
    single_dash: bool = False  # Go's own flag package (etcd) takes -name as well as --name
    flags: dict[str, Flag] = field(default_factory=dict)

    def _add(self, flag: Flag) -> None:
        assert flag.name not in self.flags, f"flag redefined: {flag.name}"
        self.flags[flag.name] = flag

    def string(self, name: str, default: str = "", help: str = "", shorthand: str = "") -> None:
        self._add(Flag(name, "string", default, help, str, shorthand))

    def bool(self, name: str, default: bool = False, help: str = "", shorthand: str = "") -> None:
        self._add(Flag(name, "bool", default, help, parse_bool, shorthand))

    def uint(self, name: str, default: int = 0, help: str = "") -> None:
        self._add(Flag(name, "uint", default, help, _parse_uint))

    def int(self, name: str, default: int = 0, help: str = "", shorthand: str = "") -> None:
        self._add(Flag(name, "int", default, help, _parse_int, shorthand))

    def custom(self, name: str, default: Any, parse: Callable[[str], Any], help: str = "") -> None:
        """A flag with a form of its own; `parse` raises ValueError."""
        self._add(Flag(name, "value", default, help, parse))

    def number(self, name: str, default: float = 0.0, help: str = "") -> None:
        self._add(Flag(name, "float", default, help, _parse_float))

    def duration(self, name: str, default_s: float = 0.0, help: str = "") -> None:
        """A Go duration (`1m30s`); the value is in seconds."""
        self._add(Flag(name, "duration", default_s, help, parse_duration))

    def strings(self, name: str, default: Sequence[str] = (), help: str = "") -> None:
        """A comma-separated list; repeating the flag appends."""
        self._add(Flag(name, "strings", list(default), help, _parse_slice, appends=True))

    def mapping(self, name: str, default: dict[str, str] | None = None, help: str = "") -> None:
        """`key=value` pairs, comma-separated; repeating the flag merges."""
        self._add(Flag(name, "mapStringString", dict(default or {}), help, _parse_map, appends=True))

    def deprecate(self, name: str, message: str) -> None:
        """Using the flag prints pflag's deprecation line."""
        self.flags[name].deprecated = message

    def parse(self, argv: Sequence[str]) -> Any:
        """Parse the arguments (without the program's name) into Options. Raises FlagError, HelpRequested, VersionRequested."""
        options = Options()
        for flag in self.flags.values():
            default = flag.default
            setattr(options, flag.dest, list(default) if isinstance(default, list) else dict(default) if isinstance(default, dict) else default)
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word == "--":
                options.args.extend(rest)
                break
            if not word.startswith("-") or word == "-":
                if not self.positional:
                    raise FlagError(f'unknown command "{word}" for "{self.program}"')
                options.args.append(word)
                continue
            self._parse_flag(word, rest, options)
        return options

    def _parse_flag(self, word: str, rest: list[str], options: Options) -> None:
        name, has_value, value = word.lstrip("-").partition("=")
        if name in ("help", "h") and name not in self.flags:
            raise HelpRequested
        if name == "version" and "version" not in self.flags:
            raise VersionRequested
        long_form = word.startswith("--") or self.single_dash
        flag = self.flags.get(name) if long_form else next((f for f in self.flags.values() if f.shorthand and f.shorthand == name[:1]), None)
        if flag is None:
            if not long_form:
                raise FlagError(f"unknown shorthand flag: '{name[:1]}' in -{name}")
            if self.single_dash:
                raise FlagError(f"flag provided but not defined: -{name}")
            raise FlagError(f"unknown flag: --{name}")
        if not long_form and not has_value and len(name) > 1:
            if flag.kind == "bool":
                rest.insert(0, f"-{name[1:]}")  # -aq is -a -q
            else:
                value, has_value = name[1:], "="
        if not has_value:
            if flag.kind == "bool":
                value = "true"
            elif rest:
                value = rest.pop(0)
            elif self.single_dash:
                raise FlagError(f"flag needs an argument: -{name}")
            else:
                raise FlagError(f"flag needs an argument: --{name}" if long_form else f"flag needs an argument: '{name[:1]}' in -{name}")
        try:
            parsed = flag.parse(value)
        except ValueError as error:
            if self.single_dash:
                raise FlagError(_in_gos_words(flag, value, error)) from None
            raise FlagError(f'invalid argument "{value}" for "--{flag.name}" flag: {error}') from None
        if flag.appends and flag.name in options.changed:
            current = getattr(options, flag.dest)
            parsed = {**current, **parsed} if isinstance(current, dict) else [*current, *parsed]
        if flag.deprecated and flag.name not in options.changed:
            options.warnings.append(f"Flag --{flag.name} has been deprecated, {flag.deprecated}")
        options.changed.add(flag.name)
        setattr(options, flag.dest, parsed)

    def usage(self) -> str:
        """The text of `--help`, in the layout of cobra and pflag."""
        return "\n".join([self.description, "", "Usage:", f"  {self.program} [flags]", "", "Flags:", *self.lines(f"help for {self.program}")])

    def lines(self, help_text: str = "") -> list[str]:
        """A line for each flag, in columns, by name; `help_text` is that of -h, where there is one."""
        shown = [(flag.name, flag.shorthand, _kind(flag), flag.help + _default(flag)) for flag in self.flags.values()]
        if help_text:
            shown.append(("help", "h", "", help_text))
        left = {name: f"  {f'-{short}, ' if short else '    '}--{name}{f' {kind}' if kind else ''}" for name, short, kind, _ in shown}
        width = max(map(len, left.values()), default=0)
        return [f"{left[name].ljust(width)}   {text}" for name, _, _, text in sorted(shown)]


def _kind(flag: Flag) -> str:
    return "" if flag.kind == "bool" else flag.kind


def _default(flag: Flag) -> str:
    """What pflag says of a default: nothing of an empty one."""
    value = flag.default
    if value in ("", [], {}, 0, 0.0, False, None):
        return ""
    match flag.kind:
        case "string":
            return f' (default "{value}")'
        case "duration":
            return f" (default {format_duration(value)})"
        case "strings":
            return f" (default [{','.join(value)}])"
        case "bool":
            return f" (default {str(value).lower()})"
    return f" (default {value})"


def _in_gos_words(flag: Flag, value: str, error: ValueError) -> str:
    """What Go's own flag package says of a value: it keeps the cause of its built-in kinds to itself."""
    if flag.kind == "bool":
        return f'invalid boolean value "{value}" for -{flag.name}: parse error'
    cause = "parse error" if flag.kind in ("int", "uint", "float", "duration") else str(error)
    return f'invalid value "{value}" for flag -{flag.name}: {cause}'
