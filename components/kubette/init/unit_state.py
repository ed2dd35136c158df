"""Pure: the life of a service as a state machine (systemd's service.c), and its rules for restarts and start limits.

`ServiceMachine.step(event, now)` changes the state and returns the actions the manager must carry out, in order. The machine forks nothing
and knows no process id: `MAIN` is the service's main process, `CONTROL` the one ExecStartPre/StartPost/Stop/StopPost/Reload command that runs,
and a forking service's launcher. Who is alive is told to it: `Spawned` processes later bring an `Exited`, and a `Kill` is followed by
`Gone` as soon as nothing is left of what it waits for (at once, if there was nothing).

What may happen in a state is `HANDLERS`, one row a state; any other event there is ignored. `ACTIVE_STATE` maps the states to the six that
`systemctl is-active` shows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kubette.init.service_spec import ServiceSpec, UnitSpec
from kubette.init.unit_file import INFINITY


class SubState(StrEnum):
    DEAD = "dead"
    START_PRE = "start-pre"
    START = "start"
    START_POST = "start-post"
    RUNNING = "running"
    EXITED = "exited"
    RELOAD = "reload"
    STOP = "stop"
    STOP_SIGTERM = "stop-sigterm"
    STOP_SIGKILL = "stop-sigkill"
    STOP_POST = "stop-post"
    FINAL_SIGTERM = "final-sigterm"
    FINAL_SIGKILL = "final-sigkill"
    FAILED = "failed"
    AUTO_RESTART = "auto-restart"


ACTIVE_STATE = {
    SubState.DEAD: "inactive",
    SubState.START_PRE: "activating",
    SubState.START: "activating",
    SubState.START_POST: "activating",
    SubState.RUNNING: "active",
    SubState.EXITED: "active",
    SubState.RELOAD: "reloading",
    SubState.STOP: "deactivating",
    SubState.STOP_SIGTERM: "deactivating",
    SubState.STOP_SIGKILL: "deactivating",
    SubState.STOP_POST: "deactivating",
    SubState.FINAL_SIGTERM: "deactivating",
    SubState.FINAL_SIGKILL: "deactivating",
    SubState.FAILED: "failed",
    SubState.AUTO_RESTART: "activating",
}

# Signals that end a daemon in the ordinary way: SIGHUP, SIGINT, SIGPIPE, SIGTERM.
CLEAN_SIGNALS = frozenset({1, 2, 13, 15})

# Which results bring a service back, by Restart= (the table of systemd.service(5)). `success` is a clean exit.
RESTART_ON = {
    "no": frozenset[str](),
    "always": frozenset({"success", "exit-code", "signal", "core-dump", "timeout", "watchdog", "protocol", "resources"}),
    "on-success": frozenset({"success"}),
    "on-failure": frozenset({"exit-code", "signal", "core-dump", "timeout", "watchdog", "protocol", "resources"}),
    "on-abnormal": frozenset({"signal", "core-dump", "timeout", "watchdog"}),
    "on-abort": frozenset({"signal", "core-dump"}),
    "on-watchdog": frozenset({"watchdog"}),
}


# ---- events: what the world tells the machine
@dataclass(frozen=True, slots=True)
class StartRequested:
    """A start job, or the end of auto-restart's pause (`automatic`)."""

    automatic: bool = False


@dataclass(frozen=True, slots=True)
class StopRequested:
    pass


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    pass


@dataclass(frozen=True, slots=True)
class Exited:
    """The main or the control process ended: code is `exited`, `killed` or `dumped`, status the exit code or the signal."""

    which: str
    code: str
    status: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The process could not be made (no memory, no such user …); a failing exec is an `Exited` with status 2xx instead."""

    which: str
    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """READY=1; for Type=exec, the program was executed."""


@dataclass(frozen=True, slots=True)
class MainFound:
    """A forking service's main process is known and alive (PIDFile, or a guess); `alive` False: it left nothing to follow."""

    alive: bool = True


@dataclass(frozen=True, slots=True)
class Stopping:
    """STOPPING=1."""


@dataclass(frozen=True, slots=True)
class Timeout:
    pass


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is left of what the last Kill waits for."""


@dataclass(frozen=True, slots=True)
class WatchdogExpired:
    pass


# ---- actions: what the machine wants done
MAIN, CONTROL, ALL = "main", "control", "all"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Run command `index` of `key` as the main or the control process."""

    which: str
    key: str
    index: int


@dataclass(frozen=True, slots=True)
class FindMain:
    """Read the PIDFile (or guess); answer with MainFound or, when there is none, SpawnFailed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Send `signal` to `to` (main and control process, or all of the unit), and report Gone when nothing of `until` is left."""

    signal: int
    to: str
    until: str


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Report Timeout after so many seconds; None or infinity stops the timer."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Log:
    priority: int
    text: str


@dataclass(frozen=True, slots=True)
class Release:
    """The unit is down: remove its runtime directories, close its streams."""


@dataclass(frozen=True, slots=True)
class RestartJob:
    """auto-restart's pause is over: enqueue a start (so that dependencies and order apply)."""


Event = StartRequested | StopRequested | ReloadRequested | Exited | SpawnFailed | Ready | MainFound | Stopping | Timeout | Gone | WatchdogExpired
Action = Spawn | FindMain | Kill | SetTimer | Log | Release | RestartJob

ERR, WARNING, NOTICE, INFO = 3, 4, 5, 6


@dataclass(slots=True)
class StartLimit:
    """At most `burst` starts within `interval_s` (systemd's ratelimit: the window begins with its first start)."""

    burst: int
    interval_s: float
    begin: float = -INFINITY
    count: int = 0

    def allow(self, now: float) -> bool:
        """Count one start; False when it is one too many."""
        if self.burst <= 0 or self.interval_s <= 0:
            return True
        if now - self.begin >= self.interval_s:
            self.begin, self.count = now, 0
        self.count += 1
        return self.count <= self.burst

    def reset(self) -> None:
        self.begin, self.count = -INFINITY, 0


@dataclass(slots=True)
class ServiceMachine:
    """One service. `step` is the only way to change it, except for `adopt` (daemon-reload) and `reset_failed`."""

    unit: UnitSpec
    spec: ServiceSpec
    state: SubState = SubState.DEAD
    result: str = "success"
    n_restarts: int = 0
    main_alive: bool = False
    limit: StartLimit = field(default_factory=lambda: StartLimit(5, 10.0))
    _index: int = 0
    _key: str = ""
    _started: bool = False
    _forbid_restart: bool = False
    _main_exit: tuple[str, int] | None = None
    _reload_result: str = "success"

    def __post_init__(self) -> None:
        self.limit = StartLimit(self.unit.start_limit_burst, self.unit.start_limit_interval_s)

    @property
    def active_state(self) -> str:
        return ACTIVE_STATE[self.state]

    @property
    def started(self) -> bool:
        """Whether this run got as far as being up (a oneshot: as having done its work)."""
        return self._started

    def adopt(self, unit: UnitSpec, spec: ServiceSpec) -> None:
        """The unit file changed (daemon-reload): the new settings count from now on; the state and the start counter stay."""
        self.unit, self.spec = unit, spec
        self.limit.burst, self.limit.interval_s = unit.start_limit_burst, unit.start_limit_interval_s

    def reset_failed(self) -> None:
        """systemctl reset-failed: forget the failure, the restart counter and the start limit."""
        if self.state is SubState.FAILED:
            self.state = SubState.DEAD
        self.result = "success"
        self.n_restarts = 0
        self.limit.reset()

    def step(self, event: Event, now: float) -> list[Action]:
        """Apply one event. An event that means nothing in this state returns nothing."""
        if isinstance(event, Exited):
            self._note_exit(event)
        actions: list[Action] = []
        if isinstance(event, Exited):
            log = self._exit_log(event)
            actions.extend([log] if log else [])
        handler = HANDLERS[self.state].get(type(event))
        if handler is not None:
            actions.extend(handler(self, event, now))
        return actions

    # ---- judging exits
    def _note_exit(self, event: Exited) -> None:
        if event.which == MAIN:
            self.main_alive = False
            self._main_exit = (event.code, event.status)

    def judge(self, event: Exited, ignore_failure: bool = False) -> str:
        """The result an exit stands for: success, exit-code, signal or core-dump."""
        if ignore_failure or (event.code, event.status) in self.spec.success_exit:
            return "success"
        if event.code == "exited":
            return "success" if event.status == 0 else "exit-code"
        # A oneshot command or a control command that is killed has not done its work; a daemon that is told to go has.
        daemon = event.which == MAIN and self.spec.type != "oneshot"
        if daemon and event.status in CLEAN_SIGNALS:
            return "success"
        return "core-dump" if event.code == "dumped" else "signal"

    def _ignores_failure(self) -> bool:
        commands = self.spec.commands.get(self._key, ())
        return self._index < len(commands) and commands[self._index].ignore_failure

    def _main_result(self, event: Exited) -> str:
        commands = self.spec.commands.get("ExecStart", ())
        index = self._index if self.spec.type == "oneshot" and self._key == "ExecStart" else 0
        return self.judge(event, index < len(commands) and commands[index].ignore_failure)

    def _exit_log(self, event: Exited) -> Log | None:
        result = self._main_result(event) if event.which == MAIN else self.judge(event, self._ignores_failure())
        what = "Main process" if event.which == MAIN else "Control process"
        if result == "success":
            return None
        priority = NOTICE if event.code == "exited" else WARNING
        return Log(priority, f"{self.unit.name}: {what} exited, code={event.code}, status={describe_status(event.code, event.status)}")

    def _note(self, result: str) -> None:
        """The first failure names the result of the whole run."""
        if self.result == "success":
            self.result = result

    # ---- entering states
    def _run_next(self, which: str, key: str, index: int) -> list[Action] | None:
        """Spawn command `index` of `key`, or None when there is no such command."""
        if index >= len(self.spec.commands.get(key, ())):
            return None
        self._key, self._index = key, index
        if which == MAIN:
            self.main_alive = True
        return [Spawn(which, key, index)]

    def _start(self, event: StartRequested, now: float) -> list[Action]:
        if not event.automatic:
            self.n_restarts = 0
        if not self.limit.allow(now):
            self.result = "start-limit-hit"
            self.state = SubState.FAILED
            return [
                SetTimer(None),
                Log(WARNING, f"{self.unit.name}: Start request repeated too quickly."),
                Log(WARNING, f"{self.unit.name}: Failed with result 'start-limit-hit'."),
                Log(ERR, f"Failed to start {self._title()}."),
            ]
        self.result = "success"
        self._forbid_restart = self._started = False
        self._main_exit = None
        self.main_alive = False
        actions: list[Action] = [SetTimer(self.spec.timeout_start_s)]
        if self.spec.type in ("oneshot", "forking", "notify") or self.spec.commands.get("ExecStartPre"):
            actions.append(Log(INFO, f"Starting {self._title()}..."))
        spawn = self._run_next(CONTROL, "ExecStartPre", 0)
        if spawn is not None:
            self.state = SubState.START_PRE
            return actions + spawn
        return actions + self._enter_start()

    def _enter_start(self) -> list[Action]:
        kind = self.spec.type
        self.state = SubState.START
        if kind == "forking":
            return self._run_next(CONTROL, "ExecStart", 0) or []
        spawn = self._run_next(MAIN, "ExecStart", 0)
        if spawn is None:
            return self._enter_start_post()  # a oneshot with ExecStop only
        if kind in ("oneshot", "notify", "exec"):
            return spawn
        # simple and idle are started as soon as the process exists.
        return spawn + self._enter_start_post()

    def _enter_start_post(self) -> list[Action]:
        spawn = self._run_next(CONTROL, "ExecStartPost", 0)
        if spawn is not None:
            self.state = SubState.START_POST
            return spawn
        return self._enter_running("success", started=True)

    def _title(self) -> str:
        return self.unit.name if self.unit.description == self.unit.name else f"{self.unit.name} - {self.unit.description}"

    def _enter_running(self, result: str, started: bool = False) -> list[Action]:
        self._note(result)
        if self.result != "success":
            return self._enter_kill(SubState.STOP_SIGTERM)
        log: list[Action] = []
        if started:
            self._started = True
            verb = "Finished" if self.spec.type == "oneshot" else "Started"
            log = [Log(INFO, f"{verb} {self._title()}.")]
        if self.main_alive:
            self.state = SubState.RUNNING
            return [*log, SetTimer(self.spec.runtime_max_s)]
        if started and self.spec.type != "oneshot" and self._main_exit is not None:
            # It ended while ExecStartPost ran: judge it now.
            code, status = self._main_exit
            self._note(self.judge(Exited(MAIN, code, status)))
            if self.result != "success":
                return [*log, *self._enter_kill(SubState.STOP_SIGTERM)]
        if self.spec.remain_after_exit:
            self.state = SubState.EXITED
            return [*log, SetTimer(None)]
        return log + self._enter_stop()

    def _enter_stop(self, result: str = "success") -> list[Action]:
        self._note(result)
        spawn = self._run_next(CONTROL, "ExecStop", 0)
        if spawn is not None:
            self.state = SubState.STOP
            return [SetTimer(self.spec.timeout_stop_s), *spawn]
        return self._enter_kill(SubState.STOP_SIGTERM)

    def _enter_kill(self, state: SubState, result: str = "success") -> list[Action]:
        """stop-sigterm, stop-sigkill, final-sigterm, final-sigkill: who is signalled follows from KillMode."""
        self._note(result)
        self.state = state
        mode = self.spec.kill_mode
        final = state in (SubState.FINAL_SIGTERM, SubState.FINAL_SIGKILL)
        forced = state in (SubState.STOP_SIGKILL, SubState.FINAL_SIGKILL)
        if mode == "none":
            return [SetTimer(None), Kill(0, MAIN, "nothing")]
        to = {"control-group": ALL, "mixed": ALL if forced or final else MAIN, "process": MAIN}[mode]
        number = self.spec.final_kill_signal if forced or (mode == "mixed" and final) else self.spec.kill_signal
        # stop-* ends with the main process; what is left behind is swept up after ExecStopPost, in final-*.
        until = to if final else MAIN
        if mode == "control-group" and not final and not self.main_alive:
            until = ALL
        return [SetTimer(self.spec.timeout_stop_s), Kill(number, to, until)]

    def _enter_stop_post(self) -> list[Action]:
        spawn = self._run_next(CONTROL, "ExecStopPost", 0)
        if spawn is not None:
            self.state = SubState.STOP_POST
            return [SetTimer(self.spec.timeout_stop_s), *spawn]
        return self._enter_kill(SubState.FINAL_SIGTERM)

    def _enter_dead(self) -> list[Action]:
        name = self.unit.name
        self.main_alive = False
        failed = self.result != "success"
        actions: list[Action] = [SetTimer(None), Release()]
        if failed:
            actions.append(Log(WARNING, f"{name}: Failed with result '{self.result}'."))
        else:
            actions.append(Log(INFO, f"{name}: Deactivated successfully."))
        if self.will_restart():
            self.state = SubState.AUTO_RESTART
            return [*actions, SetTimer(self.spec.restart_s)]
        self.state = SubState.FAILED if failed else SubState.DEAD
        return actions

    def will_restart(self) -> bool:
        """Restart=, with the exit statuses that prevent or force it. A stop job forbids it."""
        if self._forbid_restart:
            return False
        if self._main_exit is not None:
            if self._main_exit in self.spec.restart_prevent_exit:
                return False
            if self._main_exit in self.spec.restart_force_exit:
                return True
        return self.result in RESTART_ON[self.spec.restart]

    # ---- handlers, named by what happens
    def _stop_before_running(self, event: StopRequested, now: float) -> list[Action]:
        self._forbid_restart = True
        return [self._stopping_log(), *self._enter_kill(SubState.STOP_SIGTERM)]

    def _stop_running(self, event: StopRequested, now: float) -> list[Action]:
        self._forbid_restart = True
        return [self._stopping_log(), *self._enter_stop()]

    def _stop_stopping(self, event: StopRequested, now: float) -> list[Action]:
        self._forbid_restart = True
        return []

    def _stop_waiting(self, event: StopRequested, now: float) -> list[Action]:
        self._forbid_restart = True
        self.state = SubState.DEAD
        return [SetTimer(None), Log(INFO, f"Stopped {self._title()}.")]

    def _stopping_log(self) -> Log:
        return Log(INFO, f"Stopping {self._title()}...")

    def _start_pre_exited(self, event: Exited, now: float) -> list[Action]:
        if event.which != CONTROL:
            return []
        result = self.judge(event, self._ignores_failure())
        if result != "success":
            return self._enter_kill(SubState.STOP_SIGTERM, result)
        return self._run_next(CONTROL, "ExecStartPre", self._index + 1) or self._enter_start()

    def _start_exited(self, event: Exited, now: float) -> list[Action]:
        kind = self.spec.type
        if event.which == CONTROL:  # a forking service's launcher
            result = self.judge(event, self._ignores_failure())
            return self._enter_kill(SubState.STOP_SIGTERM, result) if result != "success" else [FindMain()]
        result = self._main_result(event)
        if kind == "oneshot":
            if result != "success":
                return self._enter_kill(SubState.STOP_SIGTERM, result)
            return self._run_next(MAIN, "ExecStart", self._index + 1) or self._enter_start_post()
        if kind == "exec" and result == "success":
            return self._enter_start_post()  # it was executed, and was quicker than the news of it
        # notify: it ended without saying READY=1; exec: it could not be executed.
        return self._enter_kill(SubState.STOP_SIGTERM, "protocol" if result == "success" else result)

    def _spawn_failed(self, event: SpawnFailed, now: float) -> list[Action]:
        if event.which == MAIN:
            self.main_alive = False
        result = "protocol" if self.state is SubState.START and self.spec.type == "forking" and "PID" in event.text else "resources"
        log = Log(WARNING, f"{self.unit.name}: {event.text}")
        if self.state in (SubState.STOP_POST, SubState.STOP):
            return [log, *self._enter_kill(SubState.FINAL_SIGTERM, result)]
        return [log, *self._enter_kill(SubState.STOP_SIGTERM, result)]

    def _ready(self, event: Ready, now: float) -> list[Action]:
        return self._enter_start_post() if self.spec.type in ("notify", "exec") else []

    def _main_found(self, event: MainFound, now: float) -> list[Action]:
        self.main_alive = event.alive
        return self._enter_start_post()

    def _start_timeout(self, event: Timeout, now: float) -> list[Action]:
        return [
            Log(WARNING, f"{self.unit.name}: {self.state.value} operation timed out. Terminating."),
            *self._enter_kill(SubState.STOP_SIGTERM, "timeout"),
        ]

    def _start_post_exited(self, event: Exited, now: float) -> list[Action]:
        if event.which == MAIN:
            return []  # judged when ExecStartPost is done
        result = self.judge(event, self._ignores_failure())
        if result != "success":
            return self._enter_stop(result)
        return self._run_next(CONTROL, "ExecStartPost", self._index + 1) or self._enter_running("success", started=True)

    def _running_exited(self, event: Exited, now: float) -> list[Action]:
        return self._enter_running(self._main_result(event)) if event.which == MAIN else []

    def _running_timeout(self, event: Timeout, now: float) -> list[Action]:
        return [
            Log(WARNING, f"{self.unit.name}: Service reached runtime time limit. Stopping."),
            *self._enter_kill(SubState.STOP_SIGTERM, "timeout"),
        ]

    def _watchdog(self, event: WatchdogExpired, now: float) -> list[Action]:
        log = Log(ERR, f"{self.unit.name}: Watchdog timeout (limit {self.spec.watchdog_s:g}s)!")
        self._note("watchdog")
        self.state = SubState.STOP_SIGTERM
        return [log, SetTimer(self.spec.timeout_stop_s), Kill(6, MAIN, MAIN)]  # SIGABRT, for the sake of a core dump

    def _self_stopping(self, event: Stopping, now: float) -> list[Action]:
        self.state = SubState.STOP_SIGTERM
        return [SetTimer(self.spec.timeout_stop_s), Kill(0, MAIN, MAIN)]

    def _reload(self, event: ReloadRequested, now: float) -> list[Action]:
        spawn = self._run_next(CONTROL, "ExecReload", 0)
        if spawn is None:
            return []
        self._reload_result = "success"
        self.state = SubState.RELOAD
        return [Log(INFO, f"Reloading {self._title()}..."), SetTimer(self.spec.timeout_start_s), *spawn]

    def _reload_exited(self, event: Exited, now: float) -> list[Action]:
        if event.which == MAIN:
            return self._enter_running(self._main_result(event))
        self._reload_result = self.judge(event, self._ignores_failure())
        if self._reload_result == "success":
            more = self._run_next(CONTROL, "ExecReload", self._index + 1)
            if more:
                return more
        # A failing reload leaves the service running (systemd: only the reload job fails).
        log = Log(INFO, f"Reloaded {self._title()}.") if self._reload_result == "success" else Log(ERR, f"Reload failed for {self._title()}.")
        return [*self._enter_running("success"), log]

    def _reload_timeout(self, event: Timeout, now: float) -> list[Action]:
        self._reload_result = "timeout"
        return [Log(WARNING, f"{self.unit.name}: Reload operation timed out. Killing reload process."), *self._enter_running("success")]

    @property
    def reload_result(self) -> str:
        return self._reload_result

    def _stop_exited(self, event: Exited, now: float) -> list[Action]:
        if event.which == MAIN:
            if not self._forbid_restart or self.result == "success":
                self._note(self._main_result(event))
            return []
        result = self.judge(event, self._ignores_failure())
        if result == "success":
            more = self._run_next(CONTROL, "ExecStop", self._index + 1)
            if more:
                return more
        return self._enter_kill(SubState.STOP_SIGTERM, result)

    def _stop_timeout(self, event: Timeout, now: float) -> list[Action]:
        return [
            Log(WARNING, f"{self.unit.name}: Stopping timed out. Terminating."),
            *self._enter_kill(SubState.STOP_SIGTERM, "timeout"),
        ]

    def _killed_exited(self, event: Exited, now: float) -> list[Action]:
        if event.which == MAIN:
            self._note(self._main_result(event))
        return []

    def _sigterm_timeout(self, event: Timeout, now: float) -> list[Action]:
        log = Log(WARNING, f"{self.unit.name}: State '{self.state.value}' timed out. Killing.")
        self._note("timeout")
        if not self.spec.send_sigkill:
            skip = Log(WARNING, f"{self.unit.name}: State '{self.state.value}' timed out. Skipping SIGKILL.")
            return [skip, *(self._enter_stop_post() if self.state is SubState.STOP_SIGTERM else self._enter_dead())]
        following = SubState.STOP_SIGKILL if self.state is SubState.STOP_SIGTERM else SubState.FINAL_SIGKILL
        return [log, *self._enter_kill(following)]

    def _sigkill_timeout(self, event: Timeout, now: float) -> list[Action]:
        log = Log(WARNING, f"{self.unit.name}: Processes still around after SIGKILL. Ignoring.")
        return [log, *(self._enter_stop_post() if self.state is SubState.STOP_SIGKILL else self._enter_dead())]

    def _stopped(self, event: Gone, now: float) -> list[Action]:
        return self._enter_stop_post()

    def _stop_post_exited(self, event: Exited, now: float) -> list[Action]:
        if event.which == MAIN:
            self._note(self._main_result(event))
            return []
        result = self.judge(event, self._ignores_failure())
        if result == "success":
            more = self._run_next(CONTROL, "ExecStopPost", self._index + 1)
            if more:
                return more
        return self._enter_kill(SubState.FINAL_SIGTERM, result)

    def _stop_post_timeout(self, event: Timeout, now: float) -> list[Action]:
        return [
            Log(WARNING, f"{self.unit.name}: stop-post operation timed out. Terminating."),
            *self._enter_kill(SubState.FINAL_SIGTERM, "timeout"),
        ]

    def _all_gone(self, event: Gone, now: float) -> list[Action]:
        stopped = [Log(INFO, f"Stopped {self._title()}.")] if self._forbid_restart else []
        never_started = self.result != "success" and not self._forbid_restart and not self._started
        failed_start = [Log(ERR, f"Failed to start {self._title()}.")] if never_started else []
        return [*self._enter_dead(), *stopped, *failed_start]

    def _restart_due(self, event: Timeout, now: float) -> list[Action]:
        return [RestartJob()]


# Each handler takes the one event type of its column.
Handler = Callable[[ServiceMachine, Any, float], list[Action]]
_M = ServiceMachine
_KILLING: dict[type, Handler] = {Exited: _M._killed_exited, StopRequested: _M._stop_stopping}
_ACTIVATING: dict[type, Handler] = {StopRequested: _M._stop_before_running, SpawnFailed: _M._spawn_failed, Timeout: _M._start_timeout}

# The table: what can happen in each state. What is not here is ignored there.
HANDLERS: dict[SubState, dict[type, Handler]] = {
    SubState.DEAD: {StartRequested: _M._start},
    SubState.FAILED: {StartRequested: _M._start},
    SubState.AUTO_RESTART: {StartRequested: _M._start, StopRequested: _M._stop_waiting, Timeout: _M._restart_due},
    SubState.START_PRE: {**_ACTIVATING, Exited: _M._start_pre_exited},
    SubState.START: {**_ACTIVATING, Exited: _M._start_exited, Ready: _M._ready, MainFound: _M._main_found},
    SubState.START_POST: {**_ACTIVATING, StopRequested: _M._stop_running, Exited: _M._start_post_exited},
    SubState.RUNNING: {
        StopRequested: _M._stop_running,
        SpawnFailed: _M._spawn_failed,
        ReloadRequested: _M._reload,
        Exited: _M._running_exited,
        Timeout: _M._running_timeout,
        Stopping: _M._self_stopping,
        WatchdogExpired: _M._watchdog,
    },
    SubState.EXITED: {StopRequested: _M._stop_running, ReloadRequested: _M._reload},
    SubState.RELOAD: {StopRequested: _M._stop_running, Exited: _M._reload_exited, Timeout: _M._reload_timeout},
    SubState.STOP: {StopRequested: _M._stop_stopping, Exited: _M._stop_exited, Timeout: _M._stop_timeout, SpawnFailed: _M._spawn_failed},
    SubState.STOP_SIGTERM: {**_KILLING, Timeout: _M._sigterm_timeout, Gone: _M._stopped},
    SubState.STOP_SIGKILL: {**_KILLING, Timeout: _M._sigkill_timeout, Gone: _M._stopped},
    SubState.STOP_POST: {
        StopRequested: _M._stop_stopping,
        Exited: _M._stop_post_exited,
        Timeout: _M._stop_post_timeout,
        SpawnFailed: _M._spawn_failed,
    },
    SubState.FINAL_SIGTERM: {**_KILLING, Timeout: _M._sigterm_timeout, Gone: _M._all_gone},
    SubState.FINAL_SIGKILL: {**_KILLING, Timeout: _M._sigkill_timeout, Gone: _M._all_gone},
}

# sysexits-like names systemd gives exit codes (systemd.exec(5), "Process Exit Codes").
EXIT_STATUS_NAMES = {
    0: "SUCCESS", 1: "FAILURE", 2: "INVALIDARGUMENT", 3: "NOTIMPLEMENTED", 4: "NOPERMISSION", 5: "NOTINSTALLED", 6: "NOTCONFIGURED", 7: "NOTRUNNING",
    200: "CHDIR", 201: "NICE", 202: "FDS", 203: "EXEC", 204: "MEMORY", 205: "LIMITS", 206: "OOM_ADJUST", 207: "SIGNAL_MASK", 208: "STDIN", 209: "STDOUT",
    210: "CHROOT", 213: "SETSCHEDULER", 216: "GROUP", 217: "USER", 222: "STDERR", 233: "RUNTIME_DIRECTORY", 238: "STATE_DIRECTORY",
    239: "CACHE_DIRECTORY", 240: "LOGS_DIRECTORY", 241: "CONFIGURATION_DIRECTORY",
}  # fmt: skip
SIGNAL_NAMES = {
    1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM",
    24: "XCPU", 25: "XFSZ", 31: "SYS",
}  # fmt: skip


def describe_status(code: str, status: int) -> str:
    """`1/FAILURE`, `15/TERM`; the bare number when it has no name."""
    name = (EXIT_STATUS_NAMES if code == "exited" else SIGNAL_NAMES).get(status)
    return f"{status}/{name}" if name else f"{status}/n/a"
