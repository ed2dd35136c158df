"""The commands `apt`, `apt-get`, `apt-cache` and `apt-mark` of a machine, in the words of apt 2.6."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubette.machines.packages import fetch, listing, plan, repository
from kubette.machines.packages.database import FRONTEND_LOCK, Database, LockedError
from kubette.machines.packages.sources import SourcesError

FAILED = 100  # apt's exit status for errors; 1 is an aborted question

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SHORT = {"y": "yes", "q": "quiet", "a": "all-versions", "h": "help"}
_LONG = {
    "yes": "yes",
    "assume-yes": "yes",
    "quiet": "quiet",
    "allow-change-held-packages": "allow-change-held-packages",
    "allow-downgrades": "allow-downgrades",
    "all-versions": "all-versions",
    "installed": "installed",
    "upgradable": "upgradable",
    "upgradeable": "upgradable",
    "no-install-recommends": "no-install-recommends",  # our packages recommend nothing
    "only-upgrade": "only-upgrade",  # and all of them are installed
    "help": "help",
}


class AptError(Exception):
    """What goes to standard error, line by line, and the exit status."""

    def __init__(self, *lines: str, status: int = FAILED) -> None:
        super().__init__("\n".join(lines))
        self.lines, self.status = lines, status


@dataclass(slots=True)
class Invocation:
    """One command line, and the machine it is about."""

    program: str
    database: Database
    operation: str = ""
    names: list[str] = field(default_factory=list)
    options: dict[str, int] = field(default_factory=dict)  # how often each was given

    def has(self, option: str) -> bool:
        return option in self.options

    def say(self, text: str) -> None:
        """Progress and results of apt itself; `-qq` wants none."""
        if self.options.get("quiet", 0) < 2:
            print(text, flush=True)


def main(program: str, argv: Sequence[str], root: Path = Path("/")) -> int:
    """Run one of the four programs."""
    try:
        call = parse(program, argv, Database(root))
        if call.has("help") or not call.operation:
            print(usage(program))
            return 0 if call.has("help") else 1
        operation = OPERATIONS[program].get(call.operation)
        if operation is None:
            raise AptError(f"E: Invalid operation {call.operation}", f"N: Here {program} knows: {', '.join(OPERATIONS[program])}.")
        if not call.database.exists():
            raise AptError("E: This is not a machine of a cluster: use the system's own apt.")
        if program == "apt" and not sys.stdout.isatty():
            print("\nWARNING: apt does not have a stable CLI interface. Use with caution in scripts.\n", file=sys.stderr, flush=True)
        operation(call)
    except AptError as error:
        return _fail(error.lines, error.status)
    except SourcesError as error:
        return _fail((f"E: {error}", "E: The list of sources could not be read."), FAILED)
    except LockedError as error:
        return _fail(
            (
                f"E: Could not get lock {FRONTEND_LOCK}. It is held by process {error.pid}",
                "N: Be aware that removing the lock file is not a solution and may break your system.",
                f"E: Unable to acquire the dpkg frontend lock ({FRONTEND_LOCK}), is another process using it?",
            ),
            FAILED,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(lines: Sequence[str], status: int) -> int:
    sys.stdout.flush()
    for line in lines:
        print(line, file=sys.stderr)
    return status


def parse(program: str, argv: Sequence[str], database: Database) -> Invocation:
    """Options may stand anywhere; the first other word is the operation. Raises AptError."""
    call = Invocation(program, database)
    only_names = False
    for word in argv:
        if only_names or not word.startswith("-") or word == "-":
            if call.operation:
                call.names.append(word)
            else:
                call.operation = word
        elif word == "--":
            only_names = True
        else:
            for option in _options(word):
                call.options[option] = call.options.get(option, 0) + 1
    if call.options.get("quiet", 0) >= 2:
        call.options["yes"] = 1  # -qq implies -y
    return call


def _options(word: str) -> list[str]:
    unknown = "is not understood in combination with the other options"
    if word.startswith("--"):
        if word[2:] not in _LONG:
            raise AptError(f"E: Command line option {word} {unknown}")
        return [_LONG[word[2:]]]
    for letter in word[1:]:
        if letter not in _SHORT:
            raise AptError(f"E: Command line option '{letter}' [from {word}] {unknown}.")
    return [_SHORT[letter] for letter in word[1:]]


def usage(program: str) -> str:
    """The help of one program."""
    return "\n".join(
        (
            f"Usage: {program} [options] command [package ...]",
            "",
            f"Commands: {', '.join(OPERATIONS[program])}",
            "",
            f"The packages of this machine are {', '.join(repository.NAMES)}, according to /etc/apt/sources.list.d.",
            "All other software is the host's, seen read-only.",
        )
    )


def _progress(call: Invocation, *steps: str) -> None:
    done = " Done" if sys.stdout.isatty() else ""
    for step in steps:
        call.say(f"{step}...{done}")


_READING = ("Reading package lists", "Building dependency tree", "Reading state information")


def _update(call: Invocation) -> None:
    machine = os.uname().machine
    update = fetch.Update(call.database, _ARCHITECTURES.get(machine, machine), call.say)
    with call.database.lock():
        update.run()
    _progress(call, *(_READING if call.program == "apt" else _READING[:1]))
    if update.failed:
        raise AptError(*update.messages)
    for line in update.messages:
        print(line, file=sys.stderr)
    if call.program == "apt":
        number = len(call.database.catalog().upgradable())
        if not number:
            call.say("All packages are up to date.")
        elif number == 1:
            call.say("1 package can be upgraded. Run 'apt list --upgradable' to see it.")
        else:
            call.say(f"{number} packages can be upgraded. Run 'apt list --upgradable' to see them.")


def _install(call: Invocation) -> None:
    with call.database.lock():
        catalog = call.database.catalog()
        _progress(call, *_READING)
        try:
            planned = plan.install(catalog, call.names)
        except plan.PlanError as error:
            for note in error.notes:
                call.say(note)
            raise AptError(*(f"E: {line}" for line in error.errors), *_host_notes(call, catalog.names)) from None
        _carry_out(call, planned, asks=bool(planned.held or planned.downgraded))


def _host_notes(call: Invocation, known: Sequence[str]) -> list[str]:
    """Why a package of the distribution cannot be had, and where the program may be all the same."""
    strange = [name for word in call.names if (name := word.partition("=")[0]) not in known]
    notes = [f"N: {name} is here already: {path}, the host's." for name in strange if (path := shutil.which(name))]
    if strange:
        notes.append(f"N: This machine's /usr is the host's, read-only. Its packages are {', '.join(repository.NAMES)}; install others on the host.")
    return notes


def _upgrade(call: Invocation) -> None:
    with call.database.lock():
        planned = plan.upgrade(call.database.catalog())
        _progress(call, *_READING, "Calculating upgrade")
        _carry_out(call, planned, asks=True)


def _autoremove(call: Invocation) -> None:
    """Nothing here was installed because of something else."""
    _progress(call, *_READING)
    call.say(plan.Plan(not_upgraded=len(call.database.catalog().upgradable())).summary()[0])


def _carry_out(call: Invocation, planned: plan.Plan, asks: bool) -> None:
    for line in planned.summary():
        call.say(line)
    if not planned.changes:
        return
    if call.has("yes"):
        if planned.downgraded and not call.has("allow-downgrades"):
            raise AptError("E: Packages were downgraded and -y was used without --allow-downgrades.")
        if planned.held and not call.has("allow-change-held-packages"):
            raise AptError("E: Held packages were changed and -y was used without --allow-change-held-packages.")
    call.say("After this operation, 0 B of additional disk space will be used.")
    if asks and not call.has("yes"):
        _ask()
    _unpack(call.database, planned)


def _ask() -> None:
    print("Do you want to continue? [Y/n] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer or answer.strip()[:1] not in ("", "y", "Y"):
        print("Abort.")
        raise AptError(status=1)


def _unpack(database: Database, planned: plan.Plan) -> None:
    """dpkg's part."""
    before = {name: stanza["Version"] for name, stanza in database.status().items()}
    number = database.number_of_files()
    for index, offer in enumerate(planned.changes):
        package = offer.stanza
        name, version = package["Package"], package["Version"]
        if offer in planned.downgraded:
            print(f"dpkg: warning: downgrading {name} from {before[name]} to {version}", file=sys.stderr)
        if offer in planned.new:
            print(f"Selecting previously unselected package {name}.")
        if index == 0:
            print(f"(Reading database ... {number} files and directories currently installed.)")
        print(f"Preparing to unpack .../{name}_{version}_{package['Architecture']}.deb ...")
        print(f"Unpacking {name} ({version}) over ({before[name]}) ..." if name in before else f"Unpacking {name} ({version}) ...", flush=True)
        database.install(package)
    for offer in planned.changes:
        print(f"Setting up {offer.stanza['Package']} ({offer.version}) ...")


def _list(call: Invocation) -> None:
    catalog = call.database.catalog()
    print("Listing..." + (" Done" if sys.stdout.isatty() else ""))
    for line in listing.packages(catalog, call.names, call.has("installed"), call.has("upgradable"), call.has("all-versions")):
        print(line)


def _madison(call: Invocation) -> None:
    for line in listing.madison(call.database.catalog(), call.names):
        print(line)


def _policy(call: Invocation) -> None:
    for line in listing.policy(call.database.catalog(), call.names):
        print(line)


def _records(call: Invocation) -> None:
    _print_records(call, listing.records(call.database.catalog(), call.names))


def _show(call: Invocation) -> None:
    _print_records(call, listing.show(call.database.catalog(), call.names))


def _print_records(call: Invocation, text: str) -> None:
    if not text:
        raise AptError("E: No packages found")
    print(text, end="")


def _hold(call: Invocation) -> None:
    _set_hold(call, True, "{} set on hold.", "{} was already set on hold.")


def _unhold(call: Invocation) -> None:
    _set_hold(call, False, "Canceled hold on {}.", "{} was already not on hold.")


def _set_hold(call: Invocation, hold: bool, done: str, already: str) -> None:
    with call.database.lock():
        catalog = call.database.catalog()
        missing = [name for name in call.names if name not in catalog.installed]
        found = [name for name in dict.fromkeys(call.names) if name in catalog.installed]
        for name in found:
            if catalog.is_held(name) == hold:
                call.say(already.format(name))
            else:
                call.database.set_hold(name, hold)
                call.say(done.format(name))
    errors = [f"E: Unable to locate package {name}" for name in missing] + ([] if found else ["E: No packages found"])
    if errors:
        raise AptError(*errors)


def _showhold(call: Invocation) -> None:
    for name in listing.held(call.database.catalog()):
        if not call.names or name in call.names:
            print(name)


_Operation = Callable[[Invocation], None]
_CHANGES: dict[str, _Operation] = {
    "update": _update,
    "install": _install,
    "upgrade": _upgrade,
    "autoremove": _autoremove,
}
OPERATIONS: dict[str, dict[str, _Operation]] = {
    "apt": {**_CHANGES, "full-upgrade": _upgrade, "list": _list, "show": _show, "policy": _policy},
    "apt-get": {**_CHANGES, "dist-upgrade": _upgrade},
    "apt-cache": {"madison": _madison, "policy": _policy, "show": _records},
    "apt-mark": {"hold": _hold, "unhold": _unhold, "showhold": _showhold},
}
