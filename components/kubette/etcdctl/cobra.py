"""Pure: a tree of commands with flags, found, parsed and explained as upstream's (spf13/cobra) are.

Flags may stand anywhere; a command may be shortened as long as it is not ambiguous; a command without a function of its own shows its help.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubette.component_base.flags import Flag, FlagError, FlagSet, HelpRequested, VersionRequested, format_duration
from kubette.etcdctl import golang

Flags = Callable[[FlagSet], None]


def no_flags(flags: FlagSet) -> None:
    """A command without flags of its own."""


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line. `inherited` are flags of its subcommands too."""

    use: str  # the word, then what follows it
    short: str
    run: Callable[[Any], None] | None = None
    flags: Flags = no_flags
    inherited: Flags = no_flags
    commands: tuple["Command", ...] = ()
    long: str = ""
    raw: bool = False  # needs to know where `--` stood
    no_args: bool = False  # whatever is left on the line is refused
    bare_use: bool = False  # no "[flags]" in the line of its usage

    @property
    def name(self) -> str:
        return self.use.split()[0]


@dataclass(slots=True)
class Invocation:
    """What a command's function gets: parsed flags as attributes of `options`, the other words as `args`."""

    command: Command
    options: Any
    args: list[str]
    words: list[str]  # as typed, without the command's name


class CommandLineError(Exception):
    """The command line is wrong. `usage` follows the message on standard output's side of things, `hint` on standard error."""

    def __init__(self, message: str, usage: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.usage = usage
        self.hint = hint


class ShowHelp(Exception):
    """Help was asked for, or a command that is only a group was given. `complaint` goes to standard error first."""

    def __init__(self, text: str, complaint: str = "") -> None:
        super().__init__(text)
        self.complaint = complaint


class Program:
    """The root of the tree with its global flags."""

    def __init__(self, name: str, description: str, version: tuple[str, str], commands: Sequence[Command], global_flags: Flags) -> None:
        self.name = name
        help_long = f"Help provides help for any command in the application.\nSimply type {name} help [path to command] for full details."
        self._help = Command("help [command]", "Help about any command", long=help_long)
        self.root = Command(name, description, commands=(*commands, self._help), inherited=global_flags)
        self._version = version

    def parse(self, argv: Sequence[str]) -> Invocation:
        """Raises CommandLineError, ShowHelp (with the text)."""
        path, rest = self.find(argv)
        command = path[-1]
        flags = self.flags(path)
        try:
            options = flags.parse(rest)
        except HelpRequested:
            raise ShowHelp(self.usage(path)) from None
        except VersionRequested:
            raise CommandLineError("unknown flag: --version", usage=self.usage(path)) from None
        except FlagError as error:
            raise CommandLineError(str(error), usage=self.usage(path)) from None
        if command is self._help:
            raise self._explained(options.args)
        if command.no_args and options.args:
            where = " ".join(each.name for each in path)
            raise CommandLineError(f'unknown command "{options.args[0]}" for "{where}"', usage=self.usage(path))
        if command.run is None:
            if len(path) == 1 and options.args:
                raise CommandLineError(f'unknown command "{options.args[0]}" for "{self.name}"', hint=f"Run '{self.name} --help' for usage.")
            raise ShowHelp(self.usage(path))
        return Invocation(command, options, options.args, rest)

    def _explained(self, words: Sequence[str]) -> ShowHelp:
        """What `help WORDS` shows."""
        path, rest = self.find(words)
        if len(path) == 1 and rest:
            topic = " ".join(f"`{word}`" if "`" not in word else golang.quote(word) for word in words)
            return ShowHelp(self.usage(path, with_help=False), f"Unknown help topic [{topic}]")
        return ShowHelp(self.usage(path))

    def find(self, words: Sequence[str]) -> tuple[list[Command], list[str]]:
        """The commands named by `words`, from the root on, and what is left of these."""
        path, rest = [self.root], list(words)
        at = 0
        while at < len(rest) and path[-1].commands:
            word = rest[at]
            if word == "--":
                break
            if word.startswith("-") and word != "-":
                at += 1 + (value_flag(word, self.flags(path)) is not None)
                continue
            matching = [each for each in path[-1].commands if each.name.startswith(word)]
            exact = [each for each in matching if each.name == word] or matching
            if len(exact) != 1:
                break
            path.append(exact[0])
            del rest[at]
        return path, rest

    def flags(self, path: Sequence[Command]) -> FlagSet:
        """Every flag of the last command of the path."""
        flags = FlagSet(self.name, positional=True)
        for command in path:
            command.inherited(flags)
        path[-1].flags(flags)
        return flags

    def global_flags(self) -> FlagSet:
        return self.flags([self.root])

    def inherited_flags(self, path: Sequence[Command]) -> FlagSet:
        """What the commands above the last one hand down to it."""
        flags = FlagSet(self.name)
        for command in path[:-1]:
            command.inherited(flags)
        return flags

    def own_flags(self, path: Sequence[Command]) -> FlagSet:
        """What the last command itself declares, for itself and for what is below."""
        flags = FlagSet(self.name)
        path[-1].inherited(flags)
        path[-1].flags(flags)
        return flags

    # Help

    def usage(self, path: Sequence[Command], with_help: bool = True) -> str:
        command = path[-1]
        title = " ".join(each.name for each in path[1:]) or self.name
        line = " ".join([self.name, *(each.name for each in path[1:-1])])
        use = f"{line} {command.use}" if len(path) > 1 else line
        lines = ["NAME:", f"\t{title} - {command.short}", "", "USAGE:", f"\t{use}" if command.bare_use else f"\t{use} [flags]", ""]
        if len(path) == 1:
            lines += ["VERSION:", f"\t{self._version[0]}", ""]
        if command.commands:
            listed = sorted(self._leaves(command)) if len(path) == 1 else sorted((each.name, each.short) for each in command.commands)
            lines += ["API VERSION:", f"\t{self._version[1]}", "", "", "COMMANDS:", *("\t" + each for each in golang.tabbed(listed)), ""]
        if command.long:
            lines += ["DESCRIPTION:", *("\t" + each for each in command.long.strip("\n").split("\n")), ""]
        lines += ["OPTIONS:", *_flag_lines(self.own_flags(path), command.name if with_help else ""), ""]
        if len(path) > 1:
            lines += ["GLOBAL OPTIONS:", *_flag_lines(self.inherited_flags(path), ""), ""]
        return "\n".join(lines)

    def _leaves(self, command: Command, prefix: str = "") -> list[tuple[str, str]]:
        found = []
        for each in command.commands:
            found += self._leaves(each, f"{prefix}{each.name} ") if each.commands else [(prefix + each.name, each.short)]
        return found


def value_flag(word: str, flags: FlagSet) -> Flag | None:
    """The flag whose value is the word after this one."""
    if "=" in word or not word.startswith("-"):
        return None
    if word.startswith("--"):
        known = flags.flags.get(word[2:])
    else:
        known = next((flag for flag in flags.flags.values() if flag.shorthand == word[1:2]), None) if len(word) == 2 else None
    return known if known is not None and known.kind != "bool" else None


def _flag_lines(flags: FlagSet, help_of: str) -> list[str]:
    rows = {flag.name: (_flag_text(flag), flag.help) for flag in flags.flags.values()}
    if help_of:
        rows["help"] = ("  -h, --help[=false]", f"help for {help_of}")
    return golang.tabbed([rows[name] for name in sorted(rows)])


def _flag_text(flag: Flag) -> str:
    short = f"  -{flag.shorthand}, " if flag.shorthand else "      "
    default = flag.default
    if flag.kind == "bool":
        return f"{short}--{flag.name}[={str(default).lower()}]"
    if flag.kind == "string":
        return f'{short}--{flag.name}="{default}"'
    if flag.kind == "strings":
        return f"{short}--{flag.name}=[{','.join(default)}]"
    return f"{short}--{flag.name}={format_duration(default) if flag.kind == 'duration' else default}"
