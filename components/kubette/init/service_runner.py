"""Carries out what a service's state machine wants: forks, kills, timers, streams; and tells it what became of them.

One runner a service. It owns the service's descriptors and knows its processes; the machine (`unit_state`) owns every decision.
"""

import asyncio
import collections
import json
import os
import signal
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubette.init import cgroup, processes, programs, spawn, streams, unit_file, unit_state
from kubette.init.journal import Journal
from kubette.init.loader import LoadedUnit
from kubette.init.service_spec import ServiceSpec
from kubette.init.unit_state import ALL, CONTROL, MAIN, SubState
from kubette.stdx.clock import Clock

NOTIFY_SOCKET = "/run/systemd/notify"
# A launcher may be gone a moment before its PIDFile is complete.
PID_FILE_TRIES = 20
PID_FILE_RETRY_S = 0.05
# A dying process that is not our child yet gives no signal when it goes; look again this often, while a unit stops.
GONE_CHECK_S = 0.1
_DIRECTORY_BASES = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
    "ConfigurationDirectory": "/etc",
}
_DIRECTORY_VARIABLES = {
    "RuntimeDirectory": "RUNTIME_DIRECTORY",
    "StateDirectory": "STATE_DIRECTORY",
    "CacheDirectory": "CACHE_DIRECTORY",
    "LogsDirectory": "LOGS_DIRECTORY",
    "ConfigurationDirectory": "CONFIGURATION_DIRECTORY",
}


class Host(Protocol):
    """What a runner needs of the manager."""

    clock: Clock
    journal: Journal
    cgroup_root: Path | None
    known_programs: Mapping[str, str]
    base_environment: dict[str, str]

    def adopt(self, pid: int, runner: "ServiceRunner") -> None:
        """`pid` is this unit's: its exit belongs to `runner`."""
        ...

    def take_exit(self, pid: int) -> tuple[str, int] | None:
        """The exit of an unclaimed child that is already reaped."""
        ...

    def foreign_pids(self, runner: "ServiceRunner") -> Collection[int]:
        """Processes forked for other units."""
        ...

    def stop_time_left_s(self) -> float:
        """How long a stop may still take (infinite unless the machine goes down)."""
        ...

    def changed(self, name: str) -> None:
        """The unit's state or properties changed."""
        ...

    def restart_due(self, name: str) -> None: ...


@dataclass(slots=True)
class ExecInfo:
    """ExecMain…: the main process of this run, or of the last."""

    pid: int = 0
    started: float = 0.0
    exited: float = 0.0
    code: str = ""
    status: int = 0


class ServiceRunner:
    """One service on its machine."""

    def __init__(self, host: Host, name: str, loaded: LoadedUnit, spec: ServiceSpec) -> None:
        self.name = name
        self.machine = unit_state.ServiceMachine(loaded.unit, spec)
        self.exec_info = ExecInfo()
        self.main_pid = 0
        self.control_pid = 0
        self.status_text = ""
        self.invocation_id = ""
        self.taps: list[Callable[[str, bytes], None]] = []
        self.output_ended: list[Callable[[], None]] = []
        self.input: streams.Input | None = None
        self._host = host
        self._events: collections.deque[unit_state.Event] = collections.deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._gone_check: asyncio.TimerHandle | None = None
        self._awaiting = ""
        self._forked: set[int] = set()
        self._namespace = 0
        self._readers: list[streams.Reader] = []
        self._cri_log: streams.CriLogSink | None = None
        self._terminal = -1
        self._reports: dict[int, tuple[str, str]] = {}
        self._group: cgroup.Group | None = None

    @property
    def spec(self) -> ServiceSpec:
        return self.machine.spec

    # ---- events
    def handle(self, event: unit_state.Event) -> None:
        """Give the machine an event and do what it wants; events that arise meanwhile follow in order."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                before = self.machine.state
                for action in self.machine.step(self._events.popleft(), self._host.clock.monotonic()):
                    self._perform(action)
                if self.machine.state is not before or not self._events:
                    self._host.changed(self.name)
        finally:
            self._busy = False

    @property
    def has_pending_events(self) -> bool:
        """The state may change again before this turn is over."""
        return bool(self._events)

    def _perform(self, action: unit_state.Action) -> None:
        match action:
            case unit_state.Log(priority, text):
                self._host.journal.manager(priority, text, self.name)
            case unit_state.SetTimer(seconds):
                self._set_timer(seconds)
            case unit_state.Spawn(which, key, index):
                self._spawn(which, key, index)
            case unit_state.Kill(number, to, until):
                self._kill(number, to, until)
            case unit_state.FindMain():
                self._find_main(PID_FILE_TRIES)
            case unit_state.Release():
                self._release()
            case unit_state.RestartJob():
                self._host.restart_due(self.name)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.machine.active_state == "deactivating":
            # The machine is going down: every stop shares what is left of its time, and its kill needs some, too.
            seconds = min(seconds or 0.0, self._host.stop_time_left_s())
        if seconds is not None and seconds != unit_file.INFINITY:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._timeout)

    def _timeout(self) -> None:
        self._timer = None
        self.handle(unit_state.Timeout())

    def hurry(self) -> None:
        """The machine goes down: a stop already under way gets no more than what is left."""
        if self.machine.active_state == "deactivating":
            self._set_timer(self.spec.timeout_stop_s)

    # ---- making processes
    def _spawn(self, which: str, key: str, index: int) -> None:
        command = self.spec.commands[key][index]
        opened: list[int] = []
        try:
            if self._begins_run(key, index):
                self._begin_run()
            environment = self._environment(which, key)
            words = unit_file.expand_environment(command.argv, environment) if command.expand_environment else list(command.argv)
            program = self._resolve(command.path, environment)
            request = self._request(which, program, tuple(words), environment, command.full_privileges, opened)
            pid, report = spawn.spawn(request)
        except (OSError, ValueError) as error:
            self.handle(unit_state.SpawnFailed(which, f"Failed to spawn '{key[4:].lower()}' task: {error}"))
            return
        finally:
            for fd in opened:
                os.close(fd)
        self._forked.add(pid)
        self._host.adopt(pid, self)
        for reader in self._readers:
            sink = reader.sink
            if isinstance(sink, streams.JournalSink) and not sink.pid:
                sink.pid = pid
        if which == MAIN:
            self._set_main(pid)
        else:
            self.control_pid = pid
        self._reports[report] = (which, command.path)
        asyncio.get_running_loop().add_reader(report, self._reported, report)

    def _begins_run(self, key: str, index: int) -> bool:
        """Whether this is the first command of a run."""
        return index == 0 and (key == "ExecStartPre" or (key == "ExecStart" and not self.spec.commands["ExecStartPre"]))

    def _begin_run(self) -> None:
        """A new run of the service: its own invocation id, its directories, its group."""
        self.invocation_id = uuid.uuid4().hex
        self.status_text = ""
        self._namespace = 0
        self.exec_info = ExecInfo()
        for kind, names in self.spec.directories.items():
            for name in names:
                path = Path(_DIRECTORY_BASES[kind], name)
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(self.spec.directory_modes[kind])
        if self._host.cgroup_root is not None:
            group = cgroup.Group(self._host.cgroup_root / cgroup.slice_path(self.spec.slice) / self.name)
            self._group = group if group.create() else None

    def _environment(self, which: str, key: str) -> dict[str, str]:
        environment = {
            **self._host.base_environment,
            **{name: os.environ[name] for name in self.spec.pass_environment if name in os.environ},
            "INVOCATION_ID": self.invocation_id,
        }
        if self.spec.user:
            environment |= {"USER": self.spec.user, "LOGNAME": self.spec.user} | _home_of(self.spec.user)
        for kind, names in self.spec.directories.items():
            environment[_DIRECTORY_VARIABLES[kind]] = ":".join(f"{_DIRECTORY_BASES[kind]}/{name}" for name in names)
        if self.spec.notify_access != "none":
            environment["NOTIFY_SOCKET"] = NOTIFY_SOCKET
        if self.spec.watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(self.spec.watchdog_s * 1e6))
        if which == CONTROL and self.main_pid:
            environment["MAINPID"] = str(self.main_pid)
        if key in ("ExecStop", "ExecStopPost"):
            environment["SERVICE_RESULT"] = self.machine.result
            if self.exec_info.code:
                status = self.exec_info.status
                environment["EXIT_CODE"] = self.exec_info.code
                environment["EXIT_STATUS"] = str(status) if self.exec_info.code == "exited" else unit_state.SIGNAL_NAMES.get(status, str(status))
        environment |= dict(self.spec.environment)
        for path in self.spec.environment_files:
            environment |= _read_environment_file(path)
        for name in self.spec.unset_environment:
            environment.pop(name.partition("=")[0], None)
        return environment

    @staticmethod
    def _resolve(program: str, environment: Mapping[str, str]) -> str:
        """A program's path; a name without a slash is looked up in the default PATH."""
        if "/" in program:
            return program
        for folder in environment.get("PATH", spawn.DEFAULT_PATH).split(":"):
            candidate = os.path.join(folder, program)
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return candidate
        return program

    def _request(
        self, which: str, program: str, argv: tuple[str, ...], environment: dict[str, str], full_privileges: bool, opened: list[int]
    ) -> spawn.Request:
        spec = self.spec
        stdin, stdout, stderr = self._stdio(os.path.basename(program), opened)
        directory = spec.working_directory
        optional = directory.startswith("-")
        directory = directory.removeprefix("-")
        if directory == "~":
            directory = _home_of(spec.user or "root").get("HOME", "/root")
        return spawn.Request(
            argv=argv,
            program=program,
            environment=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=self._terminal >= 0,
            entry_point=programs.entry_point_of(program, self._host.known_programs),
            working_directory=directory or "/",
            working_directory_optional=optional,
            umask=spec.umask,
            nice=spec.nice,
            oom_score_adjust=spec.oom_score_adjust,
            limits=spec.limits,
            user="" if full_privileges else spec.user,
            group="" if full_privileges else spec.group,
            supplementary_groups=spec.supplementary_groups,
            ignore_sigpipe=spec.ignore_sigpipe,
            cgroup_procs=self._group.procs_file if self._group else "",
        )

    # ---- streams
    def _stdio(self, program: str, opened: list[int]) -> tuple[int, int, int]:
        """The child's three descriptors; those to close after the fork are added to `opened`."""
        kind = self.spec.standard_input
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        opened.append(null)
        identifier = self.spec.syslog_identifier or program
        if kind == "pty":
            return self._stdio_terminal(identifier, opened)
        stdin = null
        if kind == "pipe":
            stdin, write_end = os.pipe2(os.O_CLOEXEC)
            opened.append(stdin)
            if self.input is not None:
                self.input.close()
            self.input = streams.Input(write_end)
        elif kind.startswith("file:"):
            stdin = os.open(kind.removeprefix("file:"), os.O_RDONLY | os.O_CLOEXEC)
            opened.append(stdin)
        stdout = self._output("stdout", self.spec.standard_output, identifier, null, opened)
        error_kind = self.spec.standard_error
        if error_kind == "inherit" and not self.spec.standard_output.startswith("cri:"):
            return stdin, stdout, stdout
        stderr = self._output("stderr", self.spec.standard_output if error_kind == "inherit" else error_kind, identifier, null, opened)
        return stdin, stdout, stderr

    def _stdio_terminal(self, identifier: str, opened: list[int]) -> tuple[int, int, int]:
        master, slave = os.openpty()
        os.set_inheritable(master, False)
        opened.append(slave)
        self._terminal = master
        self.input = streams.Input(os.dup(master))
        self._add_reader(master, "stdout", self._sink(self.spec.standard_output, identifier))
        return slave, slave, slave

    def _output(self, stream: str, kind: str, identifier: str, null: int, opened: list[int]) -> int:
        if kind == "null":
            return null
        for prefix, flags in (("file:", 0), ("append:", os.O_APPEND), ("truncate:", os.O_TRUNC)):
            if kind.startswith(prefix):
                fd = os.open(kind.removeprefix(prefix), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)
                opened.append(fd)
                return fd
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        opened.append(write_end)
        self._add_reader(read_end, stream, self._sink(kind, identifier))
        return write_end

    def _sink(self, kind: str, identifier: str) -> streams.Sink:
        if not kind.startswith("cri:"):
            return streams.JournalSink(self._host.journal, self.name, identifier, self.spec.syslog_level)
        if self._cri_log is None:
            self._cri_log = streams.CriLogSink(kind.removeprefix("cri:"), self._host.clock)
        return self._cri_log

    def _add_reader(self, fd: int, stream: str, sink: streams.Sink) -> None:
        self._readers.append(streams.Reader(fd, stream, sink, self._tap, self._reader_ended))

    def _tap(self, stream: str, data: bytes) -> None:
        for tap in list(self.taps):
            tap(stream, data)

    def _reader_ended(self, reader: streams.Reader) -> None:
        self._readers.remove(reader)
        if reader.fd == self._terminal:
            self._terminal = -1
        if not self._readers:
            for ended in list(self.output_ended):
                ended()

    @property
    def has_output(self) -> bool:
        return bool(self._readers)

    def reopen_log(self) -> None:
        """After a rotation. Raises OSError."""
        if self._cri_log is not None:
            self._cri_log.reopen()

    def resize(self, width: int, height: int) -> bool:
        """Set the terminal's size; False when there is no terminal."""
        import fcntl
        import struct
        import termios

        if self._terminal < 0:
            return False
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        return True

    # ---- news of processes
    def _reported(self, fd: int) -> None:
        """The report pipe: end of file means the program runs, anything else why it does not."""
        which, path = self._reports[fd]
        try:
            content = os.read(fd, 4096)
        except BlockingIOError:
            return
        self._close_report(fd)
        if content:
            report = json.loads(content)
            self._host.journal.manager(unit_state.ERR, f"{self.name}: {report['text']}", self.name)
            self._host.journal.manager(unit_state.ERR, f"{self.name}: Failed at step {report['step']} spawning {path}", self.name)
        elif which == MAIN and self.spec.type == "exec":
            self.handle(unit_state.Ready())

    def _close_report(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        del self._reports[fd]

    def _set_main(self, pid: int) -> None:
        self.main_pid = pid
        self.exec_info = ExecInfo(pid, self._host.clock.wall())
        if self.spec.watchdog_s:
            self.feed_watchdog()

    def exited(self, pid: int, code: str, status: int) -> None:
        """A process init forked for this unit, or adopted, is reaped."""
        for report in list(self._reports):
            if report in self._reports:
                self._reported(report)
        for reader in list(self._readers):
            reader.drain()
        if pid == self.main_pid:
            info = self.exec_info
            info.exited, info.code, info.status = self._host.clock.wall(), code, status
            self.main_pid = 0
            self._cancel_watchdog()
            self.handle(unit_state.Exited(MAIN, code, status))
        elif pid == self.control_pid:
            self.control_pid = 0
            self.handle(unit_state.Exited(CONTROL, code, status))

    def something_died(self) -> None:
        """Some process of the machine was reaped: is that the end of what this unit waits for?"""
        if self._awaiting:
            self._check_gone()
        elif self.machine.state is SubState.RUNNING and not self.main_pid and not self.members():
            # A forking service whose main process is not known ends with its last process.
            self.handle(unit_state.Exited(MAIN, "exited", 0))

    # ---- the main process of a forking service
    def _find_main(self, tries: int) -> None:
        if self.machine.state is not SubState.START:
            return
        if not self.spec.pid_file:
            found = self.members()
            if len(found) == 1:
                self._host.adopt(found[0], self)
                self._set_main(found[0])
            self.handle(unit_state.MainFound(bool(found)))
            return
        try:
            pid = int(Path(self.spec.pid_file).read_text().split()[0])
        except (OSError, ValueError, IndexError) as error:
            if tries > 1 and self.members():
                asyncio.get_running_loop().call_later(PID_FILE_RETRY_S, self._find_main, tries - 1)
                return
            reason = error.strerror if isinstance(error, OSError) else "no process id in it"
            self.handle(unit_state.SpawnFailed(CONTROL, f"Can't open PID file {self.spec.pid_file} (yet?) after start: {reason}"))
            return
        past = None if processes.is_alive(pid) else self._host.take_exit(pid)
        if past is None and not processes.is_alive(pid) and processes.read(pid) is None:
            self.handle(unit_state.SpawnFailed(CONTROL, f"PID {pid} read from file {self.spec.pid_file} does not exist or is a zombie."))
            return
        self._host.adopt(pid, self)
        self._forked.add(pid)
        self._set_main(pid)
        self._namespace = processes.mount_namespace(pid)
        self.handle(unit_state.MainFound())
        if past is not None:
            # It was over before init could look at it: the exit is told now.
            self.exited(pid, *past)

    def set_main_pid(self, pid: int) -> None:
        """MAINPID= of sd_notify."""
        if processes.is_alive(pid):
            self._host.adopt(pid, self)
            self._forked.add(pid)
            self._set_main(pid)
            self._host.changed(self.name)

    # ---- killing
    def members(self) -> list[int]:
        """The living processes of the unit."""
        if self._group is not None:
            alive = [pid for pid in self._group.pids() if processes.is_alive(pid)]
            # A container leaves the group when its runtime moves it to one with limits; its first process is still ours.
            known = [pid for pid in (self.main_pid, self.control_pid) if pid and pid not in alive and processes.is_alive(pid)]
            if not known:
                return alive
        marks = processes.Marks(frozenset(self._forked), self.invocation_id, self._namespace)
        return processes.members(marks, self._host.foreign_pids(self)) if self.invocation_id else []

    def forget_session(self, pid: int) -> None:
        """`pid` was forked for somebody else now: the number says nothing of this unit any more."""
        if pid not in (self.main_pid, self.control_pid):
            self._forked.discard(pid)

    def _targets(self, to: str) -> list[int]:
        own = [pid for pid in (self.main_pid, self.control_pid) if pid]
        return own if to == MAIN else list(dict.fromkeys([*own, *self.members()]))

    def _kill(self, number: int, to: str, until: str) -> None:
        if number:
            self.signal(number, to)
        if until == "nothing":
            self._awaiting = ""
            self.handle(unit_state.Gone())
            return
        self._awaiting = until
        self._check_gone()

    def signal(self, number: int, to: str) -> int:
        """Signal the main and control process, or all; answers how many there were."""
        targets = self._targets(to)
        for pid in targets:
            _send(pid, number)
            if number in (signal.SIGTERM, signal.SIGHUP):
                _send(pid, signal.SIGCONT)  # a stopped process could not obey
            if self.spec.send_sighup and number == self.spec.kill_signal and number != signal.SIGHUP:
                _send(pid, signal.SIGHUP)
        return len(targets)

    def _check_gone(self) -> None:
        if self._gone_check is not None:
            self._gone_check.cancel()
            self._gone_check = None
        if not self._awaiting:
            return
        if self.main_pid or self.control_pid or (self._awaiting == ALL and self.members()):
            self._gone_check = asyncio.get_running_loop().call_later(GONE_CHECK_S, self._check_gone)
            return
        self._awaiting = ""
        self.handle(unit_state.Gone())

    def _release(self) -> None:
        """The unit is down: nothing of it stays open."""
        self._cancel_watchdog()
        for reader in list(self._readers):
            reader.drain()
            if self.spec.kill_mode in ("control-group", "mixed"):
                reader.close()
        if self.input is not None:
            self.input.close()
            self.input = None
        if self._cri_log is not None and not self._readers:
            self._cri_log.close()
            self._cri_log = None
        if self._group is not None:
            self._group.remove()
        self._forked.clear()
        self.main_pid = self.control_pid = 0
        if not self.spec.preserve_runtime_directory:
            import shutil

            for name in self.spec.directories.get("RuntimeDirectory", ()):
                shutil.rmtree(Path("/run", name), ignore_errors=True)

    def close(self) -> None:
        """The unit is forgotten: nobody reads its output any more."""
        for reader in list(self._readers):
            reader.close()
        if self._cri_log is not None:
            self._cri_log.close()
        self._set_timer(None)

    # ---- watchdog
    def feed_watchdog(self) -> None:
        """WATCHDOG=1."""
        self._cancel_watchdog()
        if self.spec.watchdog_s:
            self._watchdog = asyncio.get_running_loop().call_later(self.spec.watchdog_s, self.handle, unit_state.WatchdogExpired())

    def _cancel_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _home_of(user: str) -> dict[str, str]:
    """HOME and SHELL of a user, when there is such a user."""
    import pwd

    try:
        account = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return {}
    return {"HOME": account.pw_dir, "SHELL": account.pw_shell}


def _read_environment_file(path: str) -> dict[str, str]:
    """Raises OSError for a file that is missing without being optional (`-`)."""
    try:
        content = Path(path.removeprefix("-")).read_text(errors="replace")
    except OSError:
        if path.startswith("-"):
            return {}
        raise
    return unit_file.parse_environment_file(content)
