"""The manager: PID 1's table of units and queue of jobs (systemd's manager.c and job.c).

A request becomes a transaction (`unit_graph.plan`), a transaction becomes jobs, one a unit; a job runs when those it must wait for are finished, and is finished when its
unit's state says so. Everything happens in callbacks of one loop: no state is ever seen half changed.
"""

import asyncio
import collections
import os
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubette.init import conditions, install, processes, unit_graph, unit_state
from kubette.init.journal import Journal
from kubette.init.loader import LoadedUnit, Loader, specifiers
from kubette.init.service_runner import ServiceRunner
from kubette.init.service_spec import UnitSpec, service_spec
from kubette.init.unit import Unit
from kubette.init.unit_file import Assignment, UnitFile, UnitFileError
from kubette.init.unit_graph import RELOAD, RESTART, START, STOP, TransactionError
from kubette.stdx.clock import Clock

UNITS_MAX = 5000  # containers included; a machine runs 110 pods
# Exits of children nobody has claimed yet (a daemon may die before its launcher's PIDFile is read).
UNCLAIMED_EXITS_MAX = 4096
# The supervisor pulls the plug 3 s after it asked (machines/power.py): be done before.
SHUTDOWN_S = 2.5
# Of which the last part is for what SIGKILL must end.
SHUTDOWN_KILL_S = 0.3
ERROR = "org.freedesktop.systemd1."


class MethodError(Exception):
    """A refused request: D-Bus error name and text."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name if "." in name else ERROR + name
        self.message = message


@dataclass(slots=True, eq=False)
class Job:
    """What is to happen to one unit. `outcome` is done, failed, dependency, canceled, skipped or timeout."""

    unit: str
    type: str
    automatic: bool = False
    waits: set["Job"] = field(default_factory=set)
    needed_by: list["Job"] = field(default_factory=list)
    running: bool = False
    stopping: bool = False  # a restart is in its first half
    outcome: str = ""
    finished: list[Callable[[], None]] = field(default_factory=list)


class Manager:
    """See the module. Methods named like systemd's D-Bus methods are called by the control socket's table."""

    def __init__(self, clock: Clock, journal: Journal, loader: Loader, cgroup_root: Path | None, known_programs: Mapping[str, str]) -> None:
        self.clock = clock
        self.journal = journal
        self.loader = loader
        self.cgroup_root = cgroup_root
        self.known_programs = known_programs
        self.base_environment: dict[str, str] = {}
        self.units: dict[str, Unit] = {}
        self.listeners: list[Callable[[str, Unit], None]] = []
        self.going_down = ""
        self.booted = False
        self._aliases: dict[str, str] = {}
        self._jobs: dict[str, Job] = {}
        self._owners: dict[int, ServiceRunner] = {}
        self._unclaimed: collections.OrderedDict[int, tuple[str, int]] = collections.OrderedDict()
        self._deadline = 0.0
        self._scheduled = False
        self.asked_down = asyncio.Event()
        self._down = asyncio.Event()

    # ---- units
    def unit(self, name: str) -> Unit:
        """The unit, loaded if need be; one that does not exist has load state not-found and is not kept."""
        found = self.units.get(self._aliases.get(name, name))
        if found is not None and not (found.loaded.load_state != "loaded" and not found.is_up):
            return found
        true_name = self.loader.resolve(name)
        if true_name != name:
            self._aliases[name] = true_name
            return self.unit(true_name)
        unit = Unit(name, self.loader.load(name))
        if unit.loaded.load_state in ("loaded", "bad-setting") and len(self.units) < UNITS_MAX:
            self._set_loaded(unit, unit.loaded)
            self.units[name] = unit
        return unit

    def _set_loaded(self, unit: Unit, loaded: LoadedUnit) -> None:
        unit.loaded = loaded
        warnings = [*loaded.unit.warnings, *(loaded.service.warnings if loaded.service else ())]
        for warning in dict.fromkeys(warnings):
            self.journal.manager(unit_state.WARNING, warning, unit.name)
        if loaded.error:
            self.journal.manager(unit_state.ERR, loaded.error, unit.name)
        if loaded.service is None:
            return
        if unit.runner is None:
            unit.runner = ServiceRunner(self, unit.name, loaded, loaded.service)
        else:
            unit.runner.machine.adopt(loaded.unit, loaded.service)

    def reload(self) -> None:
        """daemon-reload: read all unit files again; what runs goes on."""
        self.journal.manager(unit_state.INFO, "Reloading.")
        self._aliases.clear()
        for unit in list(self.units.values()):
            if unit.transient:
                continue
            loaded = self.loader.load(unit.name)
            idle = unit.active_state in ("inactive", "failed") and unit.name not in self._jobs
            if idle and unit.active_state == "inactive" and loaded.load_state != "loaded":
                del self.units[unit.name]
            elif loaded.load_state == "loaded" or idle:
                self._set_loaded(unit, loaded)
            else:
                unit.loaded = replace(unit.loaded, load_state=loaded.load_state)

    def _graph(self) -> unit_graph.Graph:
        def load(name: str) -> UnitSpec | None:
            unit = self.unit(name)
            return unit.loaded.unit if unit.loaded.load_state == "loaded" or unit.is_up else None

        return unit_graph.Graph(load, lambda: {name: unit.loaded.unit for name, unit in self.units.items()})

    def is_up(self, name: str) -> bool:
        unit = self.units.get(self._aliases.get(name, name))
        return unit is not None and (unit.is_up or unit.active_state == "deactivating")

    # ---- jobs
    async def run_job(self, name: str, job_type: str, wait: bool = True) -> str:
        """Enqueue a job and wait for its outcome. Raises MethodError when it is refused."""
        job = self.enqueue(name, job_type)
        if not wait:
            return "done"
        if job.outcome:
            return job.outcome
        finished = asyncio.Event()
        job.finished.append(finished.set)
        await finished.wait()
        return job.outcome

    def enqueue(self, name: str, job_type: str, automatic: bool = False) -> Job:
        """Make the transaction's jobs; answers the one for `name`. Raises MethodError."""
        if self.going_down and job_type != STOP:
            raise MethodError("ShuttingDown", f"Failed to {job_type} {name}: the machine is going down.")
        unit = self.unit(name)
        self._refuse_unusable(unit, job_type)
        try:
            transaction = unit_graph.plan(self._graph(), unit.name, job_type, self._counts_as_up(job_type))
        except TransactionError as error:
            raise MethodError(error.name, error.message) from None
        for message in transaction.messages:
            self.journal.manager(unit_state.WARNING, message, unit.name)
        return self._install(transaction, automatic)

    def _counts_as_up(self, job_type: str) -> Callable[[str], bool]:
        if job_type == STOP:
            return self.is_up
        return lambda name: self.is_up(name) and not self._is_leaving(name)

    def _is_leaving(self, name: str) -> bool:
        job = self._jobs.get(name)
        return job is not None and job.type == STOP

    @staticmethod
    def _refuse_unusable(unit: Unit, job_type: str) -> None:
        loaded = unit.loaded
        if unit.is_up and job_type in (STOP, RELOAD):
            if job_type == RELOAD and unit.runner is not None and not unit.runner.spec.commands.get("ExecReload"):
                raise MethodError("JobTypeNotApplicable", f"Job type reload is not applicable for unit {unit.name}.")
            return
        if loaded.load_state == "not-found":
            text = f"Unit {unit.name} not found." if job_type != STOP else f"Unit {unit.name} not loaded."
            raise MethodError("NoSuchUnit", text)
        if loaded.load_state == "masked" and job_type != STOP:
            raise MethodError("UnitMasked", f"Unit {unit.name} is masked.")
        if loaded.load_state != "loaded" and job_type != STOP:
            detail = " " + loaded.error.partition(": ")[2] if loaded.error else ""
            raise MethodError("BadUnitSetting", f"Unit {unit.name} has a bad unit file setting.{detail}")
        if job_type == RELOAD:
            raise MethodError("UnitInactive", f"{unit.name} is not active, cannot reload.")

    def _install(self, transaction: unit_graph.Transaction, automatic: bool) -> Job:
        made: dict[str, Job] = {}
        for name, job_type in transaction.jobs.items():
            present = self._jobs.get(name)
            if present is not None and present.type == job_type:
                made[name] = present
                continue
            if present is not None:
                self._finish(present, "canceled")
            made[name] = self._jobs[name] = Job(name, job_type, automatic and name == transaction.anchor)
        for name, job in made.items():
            if job.running:
                continue
            job.waits.update(made[other] for other in transaction.waits.get(name, ()) if not made[other].outcome)
            for other in self._graph().before_it(name):
                # Order holds against jobs of earlier requests as well.
                earlier = self._jobs.get(other)
                if earlier is not None and earlier is not job and other not in made and job.type != STOP and earlier.running:
                    job.waits.add(earlier)
            for other in transaction.needs.get(name, ()):
                if other in made:
                    made[other].needed_by.append(job)
        self._schedule()
        return made[transaction.anchor]

    def _schedule(self) -> None:
        """Run what can run, in the next turn of the loop (a finished job may have been finished from inside a state change)."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_ready)

    def _run_ready(self) -> None:
        self._scheduled = False
        for job in list(self._jobs.values()):
            if not job.running and not job.outcome:
                job.waits = {other for other in job.waits if not other.outcome}
                if not job.waits:
                    job.running = True
                    self._run(job)

    def _run(self, job: Job) -> None:
        unit = self.units.get(job.unit)
        if unit is None:
            self._finish(job, "done" if job.type == STOP else "failed")
            return
        if job.type == RELOAD and unit.runner is not None:
            unit.runner.handle(unit_state.ReloadRequested())
        elif job.type == STOP or (job.type == RESTART and unit.active_state not in ("inactive", "failed")):
            job.stopping = job.type == RESTART
            self._stop(unit)
        elif unit.active_state == "deactivating":
            job.stopping = True  # start again as soon as it is down
        else:
            self._start(unit, job)
        self._judge(job)

    def _stop(self, unit: Unit) -> None:
        if unit.runner is not None:
            unit.runner.handle(unit_state.StopRequested())
        elif unit.reached:
            unit.reached = False
            self.journal.manager(unit_state.INFO, f"Stopped target {unit.name} - {unit.loaded.unit.description}.", unit.name)
            self.changed(unit.name)

    def _start(self, unit: Unit, job: Job) -> None:
        machine = unit.runner.machine if unit.runner is not None else None
        if unit.is_up and not (machine is not None and machine.state is unit_state.SubState.AUTO_RESTART):
            return
        unmet = conditions.first_unmet(unit.loaded.unit.conditions)
        unit.condition_result = unmet is None
        title = f"{unit.name} - {unit.loaded.unit.description}"
        if unmet is not None:
            if unmet.is_assert:
                self.journal.manager(unit_state.WARNING, f"{title} failed an assertion check ({unmet}).", unit.name)
            else:
                self.journal.manager(unit_state.INFO, f"{title} was skipped because of an unmet condition check ({unmet}).", unit.name)
            if machine is not None and machine.state is unit_state.SubState.AUTO_RESTART:
                assert unit.runner is not None
                unit.runner.handle(unit_state.StopRequested())
            self._finish(job, "failed" if unmet.is_assert else "skipped")
        elif unit.runner is not None:
            unit.runner.handle(unit_state.StartRequested(job.automatic))
        else:
            unit.reached = True
            if unit.name.endswith(".target"):
                self.journal.manager(unit_state.INFO, f"Reached target {title}.", unit.name)
            self.changed(unit.name)

    def _judge(self, job: Job) -> None:
        """Finish a running job if its unit's state says so."""
        unit = self.units.get(job.unit)
        if job.outcome or not job.running or unit is None:
            return
        if job.stopping:
            if unit.job_outcome(STOP):
                job.stopping = False
                self._start(unit, job)
                if self._in_step(unit):
                    return  # the start is about to happen, in the turn that told us of the stop
            else:
                return
        outcome = unit.job_outcome(START if job.type == RESTART else job.type)
        if outcome:
            self._finish(job, outcome)

    def _finish(self, job: Job, outcome: str) -> None:
        if job.outcome:
            return
        job.outcome = outcome
        if self._jobs.get(job.unit) is job:
            del self._jobs[job.unit]
        if outcome not in ("done", "skipped") and job.type in (START, RESTART):
            for dependent in job.needed_by:
                if not dependent.running and not dependent.outcome:
                    unit = self.units.get(dependent.unit)
                    title = f"{unit.name} - {unit.loaded.unit.description}" if unit else dependent.unit
                    self.journal.manager(unit_state.WARNING, f"Dependency failed for {title}.", dependent.unit)
                    self._finish(dependent, "dependency")
        for callback in job.finished:
            callback()
        self._schedule()

    # ---- the runners' host
    def changed(self, name: str) -> None:
        unit = self.units.get(name)
        if unit is None:
            return
        if unit.note_change(self.clock.wall()) and unit.active_state in ("inactive", "failed"):
            self._after_end(unit)
        job = self._jobs.get(name)
        if job is not None and unit.runner is not None and not self._in_step(unit):
            self._judge(job)
        for listener in list(self.listeners):
            listener("UnitChanged", unit)
        if self.going_down:
            self._check_down()

    @staticmethod
    def _in_step(unit: Unit) -> bool:
        return unit.runner is not None and unit.runner.has_pending_events

    def _after_end(self, unit: Unit) -> None:
        """What follows from a unit's end: those bound to it stop, OnFailure starts, a collected transient unit is forgotten."""
        if self.going_down:
            return
        for other in self._graph().that_name(unit.name, ("BindsTo",)):
            if self.is_up(other) and not self._is_leaving(other):
                self.enqueue(other, STOP)
        if unit.active_state == "failed":
            for other in unit.loaded.unit.of("OnFailure"):
                self.journal.manager(unit_state.INFO, f"{unit.name}: Triggering OnFailure= dependencies.", unit.name)
                try:
                    self.enqueue(other, START)
                except MethodError as error:
                    self.journal.manager(unit_state.WARNING, f"{unit.name}: Failed to enqueue OnFailure= job: {error}", unit.name)

    def adopt(self, pid: int, runner: ServiceRunner) -> None:
        self._owners[pid] = runner
        self._unclaimed.pop(pid, None)
        for unit in self.units.values():
            if unit.runner is not None and unit.runner is not runner:
                unit.runner.forget_session(pid)

    def take_exit(self, pid: int) -> tuple[str, int] | None:
        return self._unclaimed.pop(pid, None)

    def foreign_pids(self, runner: ServiceRunner) -> Collection[int]:
        return {pid for pid, owner in self._owners.items() if owner is not runner}

    def stop_time_left_s(self) -> float:
        if not self._deadline:
            return float("inf")
        return max(0.05, self._deadline - SHUTDOWN_KILL_S - self.clock.monotonic())

    def restart_due(self, name: str) -> None:
        """auto-restart's pause is over."""
        unit = self.units.get(name)
        if unit is None or unit.runner is None or self.going_down:
            return
        machine = unit.runner.machine
        machine.n_restarts += 1
        self.journal.manager(unit_state.INFO, f"{name}: Scheduled restart job, restart counter is at {machine.n_restarts}.", name)
        try:
            self.enqueue(name, START, automatic=True)
        except MethodError as error:
            self.journal.manager(unit_state.WARNING, f"{name}: Failed to schedule restart job: {error}", name)
            unit.runner.handle(unit_state.StopRequested())

    # ---- reaping
    def reap(self) -> None:
        """SIGCHLD: collect every dead child, orphans of the machine included, and tell those concerned."""
        died = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            died = True
            if os.WIFSIGNALED(status):
                ending = ("dumped" if os.WCOREDUMP(status) else "killed", os.WTERMSIG(status))
            else:
                ending = ("exited", os.WEXITSTATUS(status))
            runner = self._owners.pop(pid, None)
            if runner is not None:
                runner.exited(pid, *ending)
                continue
            self._unclaimed[pid] = ending
            while len(self._unclaimed) > UNCLAIMED_EXITS_MAX:
                self._unclaimed.popitem(last=False)
        if died:
            for unit in list(self.units.values()):
                if unit.runner is not None:
                    unit.runner.something_died()

    def unit_of_pid(self, pid: int) -> ServiceRunner | None:
        """The service a process belongs to (who sent a notification?)."""
        seen = 0
        current = pid
        while current > 1 and seen < 64:  # deeper than any real tree
            runner = self._owners.get(current)
            if runner is not None:
                return runner
            process = processes.read(current)
            if process is None:
                break
            current, seen = process.parent, seen + 1
        invocation = processes.environment_value(pid, "INVOCATION_ID")
        runners = (unit.runner for unit in self.units.values() if unit.runner is not None)
        return next((runner for runner in runners if invocation and runner.invocation_id == invocation), None)

    # ---- transient units
    def add_transient(self, name: str, properties: Mapping[str, Any]) -> Unit:
        """Make a unit from properties. Raises MethodError."""
        present = self.units.get(name)
        if present is not None and (present.is_up or present.active_state == "deactivating" or not present.transient):
            raise MethodError("UnitExists", f"Unit {name} was already loaded or has a fragment file.")
        if present is not None and present.runner is not None:
            raise MethodError("UnitExists", f"Unit {name} is still listed with its exit status; reset it first.")
        if self.loader.find_fragment(name) is not None:
            raise MethodError("UnitExists", f"Unit {name} was already loaded or has a fragment file.")
        if len(self.units) >= UNITS_MAX:
            raise MethodError("org.freedesktop.DBus.Error.LimitsExceeded", f"Too many units ({UNITS_MAX}).")
        parsed = transient_file(properties)
        spec = UnitSpec(
            name,
            parsed.value("Unit", "Description", name),
            start_limit_burst=0,
        )
        try:
            service = service_spec(parsed, specifiers(name))
        except UnitFileError as error:
            raise MethodError("org.freedesktop.DBus.Error.InvalidArgs", f"{name}: {error}") from None
        if service.warnings:
            raise MethodError("org.freedesktop.DBus.Error.PropertyReadOnly", f"Cannot set property, or unknown property: {service.warnings[0]}")
        loaded = LoadedUnit(name, "loaded", spec, service)
        unit = Unit(name, loaded, ServiceRunner(self, name, loaded, service), transient=True)
        self.units[name] = unit
        return unit

    def reset_failed(self, name: str) -> None:
        """Forget a failure; a stopped transient unit is forgotten altogether. Raises MethodError."""
        unit = self.units.get(self._aliases.get(name, name))
        if unit is None:
            raise MethodError("NoSuchUnit", f"Unit {name} not loaded.")
        if unit.runner is not None:
            unit.runner.machine.reset_failed()
        if unit.transient and unit.active_state in ("inactive", "failed"):
            if unit.runner is not None:
                unit.runner.close()
            del self.units[unit.name]
            for listener in list(self.listeners):
                listener("UnitRemoved", unit)
            return
        self.changed(unit.name)

    def unit_file_state(self, name: str) -> str:
        unit = self.units.get(name)
        if unit is not None and unit.transient:
            return "transient"
        return install.state(self.loader, name) or ("static" if unit is not None else "")

    # ---- up and down
    async def boot(self) -> None:
        """Start default.target; answers when it is reached."""
        default = self.loader.resolve("default.target")
        try:
            await self.run_job(default, START)
        except MethodError as error:
            self.journal.manager(unit_state.ERR, f"Failed to start {default}: {error}")
        self.booted = True
        self.journal.manager(unit_state.INFO, "Startup finished.")

    def system_state(self) -> str:
        """What `systemctl is-system-running` shows."""
        if self.going_down:
            return "stopping"
        if not self.booted:
            return "starting"
        return "degraded" if any(unit.active_state == "failed" for unit in self.units.values()) else "running"

    def begin_shutdown(self, verb: str) -> None:
        """Stop everything in reverse order; `wait_down` answers when that is done, or its time is over."""
        if self.going_down:
            return
        self.going_down = verb
        self.asked_down.set()
        self._deadline = self.clock.monotonic() + SHUTDOWN_S
        self.journal.manager(unit_state.INFO, f"System is going down ({verb}).")
        transaction = unit_graph.plan_shutdown(self._graph(), [name for name in self.units if self.is_up(name)])
        for job in list(self._jobs.values()):
            if job.type != STOP:
                self._finish(job, "canceled")
        for unit in self.units.values():
            if unit.runner is not None:
                unit.runner.hurry()
        if transaction.jobs:
            transaction.anchor = next(iter(transaction.jobs))
            self._install(transaction, automatic=False)
        self._check_down()

    def _check_down(self) -> None:
        if not any(unit.runner is not None and self.is_up(name) for name, unit in self.units.items()):
            self._down.set()

    async def wait_down(self) -> None:
        """After `begin_shutdown`: until all is stopped, or the time is over; then what is left is killed."""
        left = self._deadline - SHUTDOWN_KILL_S - self.clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await self._down.wait()
        except TimeoutError:
            self.journal.manager(unit_state.WARNING, "Not all units stopped in time, killing what is left.")
        if os.getpid() == 1:
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.journal.manager(unit_state.INFO, "Shutting down.")


# The transient properties and where they belong; a list appends, everything else is one assignment.
_UNIT_PROPERTIES = frozenset({"Description"})


def transient_file(properties: Mapping[str, Any]) -> UnitFile:
    """StartTransientUnit's properties as a unit file. `ExecStart` and its kin are argv lists, taken literally."""
    parsed = UnitFile()
    for key, value in properties.items():
        section = "Unit" if key in _UNIT_PROPERTIES else "Service"
        if key.startswith("Exec"):
            texts = [" ".join(_quote(str(word), literal=True) for word in value)]
        elif key == "Environment":
            texts = [_quote(str(word)) for word in value]
        elif isinstance(value, list):
            texts = [" ".join(_quote(str(word)) for word in value)]
        else:
            texts = [("yes" if value else "no") if isinstance(value, bool) else str(value).replace("%", "%%")]
        parsed.assignments.extend(Assignment(section, key, str(text)) for text in texts)
    return parsed


def _quote(word: str, literal: bool = False) -> str:
    """A word as systemd.syntax(7) writes it; `literal` also keeps `$` from expansion."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return '"' + (escaped.replace("$", "$$") if literal else escaped) + '"'
