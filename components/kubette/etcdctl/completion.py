"""What could stand next on a command line, and the scripts with which shells ask.

A script calls the program itself, as cobra's scripts do: `etcdctl __complete WORDS... WORD` answers a candidate a line (with a description behind
a tab), then `:` and a directive. The answers are cobra's; the scripts are our own, shorter ones (`shell_scripts`).
"""

import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum

from kubette.component_base import shell_scripts
from kubette.component_base.flags import FlagError, FlagSet, HelpRequested, VersionRequested
from kubette.etcdctl.cobra import Command, CommandLineError, Flags, Program, value_flag
from kubette.etcdctl.context import Context

QUESTIONS = ("__complete", "__completeNoDesc")


class Directive(IntEnum):
    """What the shell may offer besides, by cobra's names and numbers."""

    Default = 0  # files
    NoFileComp = 4


Candidate = tuple[str, str]


class _NothingError(Exception):
    """The words so far make no sense."""


def answer(program: Program, argv: Sequence[str]) -> None:
    """Print the answer to `__complete WORDS...`. Raises CommandLineError when there are no words."""
    question, *words = argv
    if not words:
        raise CommandLineError("requires at least 1 arg(s), only received 0", usage=program.usage((program.root, _COMPLETE)))
    try:
        found, directive = candidates(program, words[:-1], words[-1])
    except _NothingError as error:
        print(f"[Debug] [Error] {error}", file=sys.stderr)
        found, directive = [], Directive.Default
    for name, text in found:
        print(name if question == "__completeNoDesc" or not text else f"{name}\t{text.splitlines()[0]}")
    print(f":{directive.value}", flush=True)
    print(f"Completion ended with directive: ShellCompDirective{directive.name}", file=sys.stderr)


def candidates(program: Program, words: Sequence[str], begun: str) -> tuple[list[Candidate], Directive]:
    """What the last word, of which `begun` is typed, could become after these words. Raises _NothingError."""
    path, rest = program.find(words)
    flags = program.flags(path)
    if len(path) == 1 and _arguments(rest, flags):
        if "--" not in rest:
            raise _NothingError(f"Unable to find a command for arguments: [{' '.join(words)}]")
        return [], Directive.Default
    is_after_dashes = "--" in rest
    if begun.startswith("-") and "=" in begun and not is_after_dashes:
        name = begun.lstrip("-").partition("=")[0]
        if name not in flags.flags and all(name != flag.shorthand for flag in flags.flags.values()):
            raise _NothingError(f"Subcommand '{path[-1].name}' does not support flag '{name}'")
        return [], Directive.Default
    if rest and not is_after_dashes and not begun.startswith("-") and value_flag(rest[-1], flags) is not None:
        return [], Directive.Default
    try:
        options = flags.parse(rest)
    except (HelpRequested, VersionRequested):
        return [], Directive.NoFileComp
    except FlagError as error:
        raise _NothingError(f"Error while parsing flags from args [{' '.join(rest)}]: {error}") from None
    if begun.startswith("-") and not is_after_dashes:
        return list(_flags(program, path, begun, options.changed)), Directive.NoFileComp
    return _words(program, path, options.args, begun)


def _arguments(rest: Sequence[str], flags: FlagSet) -> list[str]:
    """The words that are no flags and no values of them."""
    found, skip = [], False
    for word in rest:
        if word and not skip and not word.startswith("-"):
            found.append(word)
        skip = not skip and value_flag(word, flags) is not None
    return found


def _flags(program: Program, path: Sequence[Command], begun: str, changed: set[str]) -> Iterator[Candidate]:
    """The flags from above, then the command's own; one that was given and cannot be repeated is left out."""
    inherited, own = program.inherited_flags(path), program.own_flags(path)
    own.bool("help", False, f"help for {path[-1].name}", "h")
    handed_down = FlagSet(program.name)
    path[-1].inherited(handed_down)
    first = {**inherited.flags, **(handed_down.flags if len(path) > 1 else {})}
    for group in (first, {name: flag for name, flag in own.flags.items() if name not in first}):
        for name, flag in sorted(group.items()):
            if name in changed and not flag.appends:
                continue
            if f"--{name}".startswith(begun):
                yield f"--{name}", flag.help
            if flag.shorthand and f"-{flag.shorthand}".startswith(begun):
                yield f"-{flag.shorthand}", flag.help


def _words(program: Program, path: Sequence[Command], args: Sequence[str], begun: str) -> tuple[list[Candidate], Directive]:
    command = path[-1]
    if command.no_args:
        return [], Directive.NoFileComp
    if command.name == "help" and len(path) == 2:
        found, rest = program.find(args)
        path, args = found, rest
        if rest:
            return [], Directive.NoFileComp
        command = path[-1]
    elif not command.commands or args:
        return [], Directive.Default
    return sorted((each.name, each.short) for each in command.commands if each.name.startswith(begun)), Directive.NoFileComp


# The commands

_COMPLETE = Command(
    "__complete [command-line]",
    "Request shell completion choices for the specified command-line",
    long="__complete is a special command that is used by the shell completion logic\nto request completion choices for the specified command-line.",
    bare_use=True,
)


def _no_descriptions(flags: FlagSet) -> None:
    flags.bool("no-descriptions", False, "disable completion descriptions")


def command(name: str) -> Command:
    """`completion SHELL`, of the program of this name."""

    def of(shell: str) -> Command:
        def write(context: Context) -> None:
            question = "__completeNoDesc" if context.options.no_descriptions else "__complete"
            print(shell_scripts.script(shell, name, question), end="")

        flags: Flags = _no_descriptions
        short, long = f"Generate the autocompletion script for {shell}", shell_scripts.explanation(shell, name)
        return Command(shell, short, write, flags, long=long, no_args=True, bare_use=shell == "bash")

    return Command(
        "completion",
        "Generate the autocompletion script for the specified shell",
        commands=tuple(of(shell) for shell in shell_scripts.SHELLS),
        long=f"Generate the autocompletion script for {name} for the specified shell.\n"
        "See each sub-command's help for details on how to use the generated script.",
    )
