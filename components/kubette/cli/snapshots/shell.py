"""Types the scripts of a plan on the machines, and carries files between them and the host."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubette.cli import on_machines
from kubette.cli.doctor import gather
from kubette.cli.doctor.facts import MANIFESTS
from kubette.cli.errors import CommandError
from kubette.cli.snapshots import plan, reading
from kubette.cli.snapshots.member import Member
from kubette.machines import client, layout, spec
from kubette.stdx import files

HEALTH_TIMEOUT_S = 10.0
SCRIPT_TIMEOUT_S = 180.0
TAIL_LINES = 20


class Machines:
    """The machines of a running cluster."""

    def __init__(self, place: layout.Layout) -> None:
        self._place = place
        self.cluster: spec.Cluster = place.load()
        with client.Control(place) as control:
            status = control.status()["machines"]
        self.states: dict[str, str] = {each["name"]: each["state"] for each in status}
        self._pids = {each["name"]: each["pid"] for each in status}

    def members(self) -> list[Member]:
        """etcd's members, as their machines' files describe them. Raises CommandError."""
        found = []
        for machine in self.cluster.etcd_members:
            read = gather.files_of(self._place.machine_root(machine.name))
            try:
                found.append(reading.read(machine.name, read))
            except CommandError:
                # A restore that was interrupted has put the manifest aside.
                aside = {path.replace(plan.ASIDE, MANIFESTS): file for path, file in read.items()}
                found.append(reading.read(machine.name, aside))
        return found

    def healthy(self, members: Sequence[Member]) -> dict[str, bool]:
        """Which members answer, by machine."""
        asked = {m.machine: m.etcdctl("endpoint health") for m in members if self.states.get(m.machine) == "running"}
        return {name: done.code == 0 for name, done in self._all(asked, HEALTH_TIMEOUT_S).items()}

    def type(self, scripts: Mapping[str, str]) -> None:
        """On all its machines at once. Raises CommandError with the words of the first that fails."""
        for name, done in self._all(scripts, SCRIPT_TIMEOUT_S).items():
            if done.code != 0:
                why = f"did not end within {SCRIPT_TIMEOUT_S:.0f} s" if done.code == on_machines.TIMED_OUT else f"exit code {done.code}"
                raise CommandError("\n".join([f"on {name}: {why}", *done.output.splitlines()[-TAIL_LINES:]]))

    def _all(self, scripts: Mapping[str, str], timeout_s: float) -> dict[str, on_machines.Done]:
        started = {name: on_machines.start(self._pids[name], ["/bin/bash", "-c", script]) for name, script in scripts.items()}
        return {name: on_machines.finish(one, timeout_s) for name, one in started.items()}

    def path(self, machine: str, inside: str) -> Path:
        """A file of a machine as the host sees it."""
        return self._place.machine_root(machine) / inside.lstrip("/")

    def read(self, machine: str, work: str, name: str) -> str:
        return (self.path(machine, work) / name).read_text()

    def bring(self, snapshot: Path, machine: str, work: str) -> None:
        """The snapshot onto a machine."""
        target = self.path(machine, work)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        copy_whole(snapshot, target / "snapshot.db")

    def clean(self, machines: Sequence[str], work: str) -> None:
        for name in machines:
            shutil.rmtree(self.path(name, work), ignore_errors=True)


def copy_whole(source: Path, target: Path) -> None:
    """The copy appears whole, readable by its owner alone: a snapshot holds every secret of the cluster. Raises OSError."""
    part = target.with_name(f".{target.name}.part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as to, source.open("rb") as of:
            shutil.copyfileobj(of, to)
            to.flush()
            os.fsync(to.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    files.fsync_directory(target.parent)
