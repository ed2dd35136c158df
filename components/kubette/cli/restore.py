"""`kubette restore [FILE]`: etcd of a running cluster goes back to a snapshot, on all its members, in one command.

First it says what would be lost, and asks. What is under way stands in `restore.json` beside the cluster's other files: a restore that was interrupted, at whatever
step, is finished by typing `kubette restore` again. The data from before stay on the machines, in a folder beside.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kubette.cli import backup, common_flags
from kubette.cli.errors import CommandError
from kubette.cli.progress import Progress
from kubette.cli.snapshots import loss, plan, shell
from kubette.cli.snapshots.member import Member
from kubette.component_base.flags import FlagSet
from kubette.machines import layout, spec
from kubette.stdx import files
from kubette.stdx.clock import SYSTEM_CLOCK

USAGE = "kubette restore [FILE]"


def flags() -> FlagSet:
    flag_set = common_flags.flag_set(
        "restore",
        "Take etcd back to a snapshot (FILE, or the newest backup); an interrupted restore is finished by typing it again.",
        positional=True,
    )
    flag_set.bool("yes", False, "Do not ask.", shorthand="y")
    flag_set.bool("dry-run", False, "Say what would be lost and what would be done, and do nothing.")
    return flag_set


@dataclass(slots=True)
class Journal:
    """A restore that is under way: the snapshot, how many keys it has, and the steps that are done."""

    identity: str
    snapshot: str
    keys: int
    done: list[str] = field(default_factory=list)


def run(options: Any) -> int:
    words = common_flags.arguments(options, USAGE, 0, 1)
    spec.check_name(options.name)
    place = layout.of(options.name)
    machines, progress = shell.Machines(place), Progress()
    members = machines.members()
    if reason := plan.refusal(members, machines.states):
        raise CommandError(reason)
    journal = _under_way(place)
    if journal is None:
        journal = _begin(place, machines, members, words, options, progress)
        if journal is None:
            return 0 if options.dry_run else 1
    elif words and str(Path(words[0]).absolute()) != journal.snapshot:
        raise CommandError(f"a restore of {journal.snapshot} is under way; kubette restore finishes it first")
    else:
        progress.say(f"Going on with the restore of {journal.snapshot} ...")
        if options.dry_run:
            _say_steps([step for step in _steps(machines, members, journal) if step.name not in journal.done])
            return 0
    _carry_out(place, machines, members, journal, progress)
    return 0


def _file(place: layout.Layout) -> Path:
    return place.root / "restore.json"


def _under_way(place: layout.Layout) -> Journal | None:
    try:
        return Journal(**json.loads(_file(place).read_text()))
    except FileNotFoundError:
        return None


def _save(place: layout.Layout, journal: Journal) -> None:
    files.write_atomic(_file(place), json.dumps(asdict(journal)) + "\n", durable=True)


def _snapshot(place: layout.Layout, words: list[str]) -> Path:
    if words:
        chosen = Path(words[0]).absolute()
        if not chosen.is_file():
            raise CommandError(f"cannot restore {chosen}: {'it is no file' if chosen.exists() else 'no such file'}")
        return chosen
    kept = sorted(backup.folder(place).glob("*.db"), key=lambda path: path.stat().st_mtime)
    if not kept:
        raise CommandError("there is no backup; kubette backup makes one, or name a file: kubette restore FILE")
    return kept[-1]


def _begin(
    place: layout.Layout, machines: shell.Machines, members: list[Member], words: list[str], options: Any, progress: Progress
) -> Journal | None:
    """Look at the snapshot and at what there is now, say so, ask. None when it is not to be done."""
    snapshot = _snapshot(place, words)
    journal = Journal(f"{SYSTEM_CLOCK.wall():.0f}-{os.getpid()}", str(snapshot), 0)
    work, first = plan.folder(journal.identity), members[0]
    names = [member.machine for member in members]
    goes_on = False
    try:
        with progress.phase("Reading the snapshot, in a scratch member"):
            for name in names:
                machines.bring(snapshot, name, work)
            machines.type({first.machine: plan.scratch_script(first, work, keys_into=plan.THEN)})
        scratch, status = (
            plan.sum_of(machines.read(first.machine, work, plan.SCRATCH)),
            plan.status_of(machines.read(first.machine, work, plan.STATUS)),
        )
        journal.keys = scratch.keys
        print(f"{snapshot}: revision {status.revision}, {scratch.keys} keys, hash {status.hash:x}")
        print(_lost(machines, members, work), flush=True)
        if options.dry_run:
            _say_steps(_steps(machines, members, journal))
            return None
        goes_on = options.yes or _agreed(f'Restore cluster "{options.name}"? [y/N]: ')
        if not goes_on:
            print("aborted: nothing was changed")
            return None
        _save(place, journal)
        return journal
    except OSError as error:
        raise CommandError(f"cannot bring {snapshot} to the machines: {error.strerror or error}") from error
    finally:
        if not goes_on:
            machines.clean(names, work)


def _lost(machines: shell.Machines, members: list[Member], work: str) -> str:
    """What the cluster has and the snapshot has not, and the reverse."""
    answering = [member for member in members if machines.healthy(members).get(member.machine)]
    if not answering:
        return "etcd does not answer: what would be lost cannot be said."
    machines.type({answering[0].machine: plan.now_script(answering[0], work)})
    now = loss.revisions(machines.read(answering[0].machine, work, plan.NOW))
    then = loss.revisions(machines.read(members[0].machine, work, plan.THEN))
    return loss.text(loss.compare(now, then))


def _agreed(question: str) -> bool:
    print(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _steps(machines: shell.Machines, members: list[Member], journal: Journal) -> list[plan.Step]:
    cluster = machines.cluster
    servers = [machine.name for machine in cluster.servers]
    return plan.restore(members, servers, cluster.style == "systemd", journal.identity, journal.keys)


def _say_steps(steps: list[plan.Step]) -> None:
    print("What would be done:", *(f"  {step.title} ({', '.join(step.scripts)})" for step in steps), sep="\n")


def _carry_out(place: layout.Layout, machines: shell.Machines, members: list[Member], journal: Journal, progress: Progress) -> None:
    for step in _steps(machines, members, journal):
        if step.name in journal.done:
            continue
        try:
            with progress.phase(step.title):
                machines.type(step.scripts)
        except CommandError as error:
            raise CommandError(f"cannot finish the restore, {step.title.lower()}: {error}\nkubette restore goes on from here") from error
        journal.done.append(step.name)
        _save(place, journal)
    _file(place).unlink()
    machines.clean([member.machine for member in members], plan.folder(journal.identity))
    kept = ", ".join(f"{member.machine}:{plan.old(member, journal.identity)}" for member in members)
    print(f"Restored {journal.keys} keys of {journal.snapshot}. The data from before are in {kept}.")
