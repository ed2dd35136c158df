"""`kubette backup [FILE]`: a snapshot of etcd on the host, verified by restoring it into a scratch member."""

import os
from pathlib import Path
from typing import Any

from kubette.cli import common_flags
from kubette.cli.errors import CommandError
from kubette.cli.progress import Progress
from kubette.cli.snapshots import plan, shell
from kubette.component_base.flags import FlagSet
from kubette.machines import layout, spec
from kubette.stdx.clock import SYSTEM_CLOCK

USAGE = "kubette backup [FILE]"


def flags() -> FlagSet:
    return common_flags.flag_set(
        "backup", "Save a snapshot of etcd to FILE (or among the cluster's files), and restore it into a scratch member as a proof.", positional=True
    )


def folder(place: layout.Layout) -> Path:
    """Where backups without a name are."""
    return place.root / "backups"


def run(options: Any) -> int:
    words = common_flags.arguments(options, USAGE, 0, 1)
    spec.check_name(options.name)
    place = layout.of(options.name)
    machines = shell.Machines(place)
    identity = f"backup-{SYSTEM_CLOCK.wall():.0f}-{os.getpid()}"
    target = Path(words[0]).absolute() if words else folder(place) / f"{identity.split('-')[1]}.db"
    if target.is_dir():
        raise CommandError(f"cannot save a snapshot as {target}: it is a folder")
    if not words:
        target.parent.mkdir(mode=0o700, exist_ok=True)
    elif not target.parent.is_dir():
        raise CommandError(f"cannot save a snapshot as {target}: {target.parent} is no folder")
    members = machines.members()
    chosen, work, progress = plan.chosen(members, machines.healthy(members)), plan.folder(identity), Progress()
    try:
        with progress.phase(f"Saving a snapshot of etcd on {chosen.machine}"):
            machines.type({chosen.machine: plan.save_script(chosen, work)})
        with progress.phase("Restoring it into a scratch member, and comparing"):
            machines.type({chosen.machine: plan.scratch_script(chosen, work)})
            status = plan.status_of(machines.read(chosen.machine, work, plan.STATUS))
            live, scratch = (plan.sum_of(machines.read(chosen.machine, work, name)) for name in (plan.LIVE, plan.SCRATCH))
            if reason := plan.difference(status, live, scratch):
                raise CommandError(f"the snapshot is not what etcd has: {reason}")
        shell.copy_whole(machines.path(chosen.machine, work) / "snapshot.db", target)
    except OSError as error:
        raise CommandError(f"cannot save a snapshot as {target}: {error.strerror or error}") from error
    finally:
        machines.clean([chosen.machine], work)
    print(
        f"{target}: revision {status.revision}, {live.keys} keys, hash {status.hash:x}, {status.size} bytes; verified (hash of the keys {live.hash:x})"
    )
    return 0
