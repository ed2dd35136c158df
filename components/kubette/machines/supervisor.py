"""The supervisor of one cluster: warm parent and power switch of its machines (`ps` shows `kubette: cluster NAME`).

It lives in the host's network and mount namespaces and, for an ordinary user, inside the cluster's user namespace. It holds the switch's network
namespace, the host's API socket and the machines' PID 1s as its children. Its control socket speaks init's protocol (ARCHITECTURE): one JSON
object a line, `{"id", "method", "params"}` answered by `{"id", "result"}` or `{"id", "error": {"name", "message"}}`.

Methods: `Status`, `StartMachine`, `StopMachine`, `RebootMachine`, `KillMachine`, `PauseMachine`, `ResumeMachine` (each `{"name", …}`),
`ReloadGateway`, `Shutdown {"timeout"}`. A method that changes a machine's power answers when the change is complete.
"""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubette.component_base import logs
from kubette.machines import cgroups, gateway, layout, machine, namespaces, network, power, processes, programs, spec, ssh_door, warm
from kubette.machines.event_loop import EventLoop, Timer
from kubette.machines.power import State
from kubette.stdx.clock import SYSTEM_CLOCK

log = logs.logger(__name__)

REQUEST_BYTES_MAX = 64 << 10
CONNECTIONS_MAX = 64
REBOOTS_MAX, REBOOTS_WINDOW_S = 5, 60.0  # a machine whose init ends at once must not spin
GATEWAY_PAUSE_S = 1.0

INIT = "kubette-init"  # the console script that is PID 1


class ControlError(Exception):
    """The request cannot be carried out; the text is for the user."""


@dataclass(slots=True)
class Call:
    """A request that waits for its answer."""

    connection: "Connection"
    id: Any

    def answer(self, result: Any) -> None:
        self.connection.send({"id": self.id, "result": result})

    def fail(self, message: str) -> None:
        self.connection.send({"id": self.id, "error": {"name": "Failed", "message": message}})


class Connection:
    """One client of the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def send(self, message: dict[str, Any]) -> None:
        # Answers are small; a client that does not read its own is not waited for.
        with contextlib.suppress(OSError):
            self.sock.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


@dataclass(slots=True)
class Slot:
    """A machine as the supervisor sees it."""

    machine: spec.Machine
    state: State = State.OFF
    reason: str = "never started"
    pid: int = 0
    builder: int = 0
    channel: socket.socket | None = None
    reports: bytes = b""
    started: float = 0.0
    error: str = ""
    reboots: list[float] = field(default_factory=list)
    reboot_asked: bool = False
    killed: bool = False
    waiters: list[tuple[Call, State]] = field(default_factory=list)
    timer: Timer | None = None

    def status(self) -> dict[str, Any]:
        return {
            "name": self.machine.name,
            "role": self.machine.role,
            "address": self.machine.address,
            "state": self.state.value,
            "pid": self.pid,
            "startedAt": self.started,
            "reason": self.reason,
        }


class Supervisor:
    """Owns the machines of one cluster."""

    def __init__(self, place: layout.Layout, cluster: spec.Cluster, api_socket: socket.socket | None, init: str = "") -> None:
        self._layout, self._cluster, self._api_socket = place, cluster, api_socket
        self._init = init or programs.console_scripts()[INIT]
        self._loop = EventLoop(SYSTEM_CLOCK)
        self._slots = {m.name: Slot(m) for m in cluster.machines}
        self._connections: dict[int, Connection] = {}
        self._switch_fd = -1
        self._cgroup: Path | None = None
        self._gateway_pid = 0
        self._gateway_channel: socket.socket | None = None
        self._gateway_reports = b""
        self._gateway_status: dict[str, Any] = {}
        self._closing: list[Call] = []
        self._is_closing = False
        self._methods: dict[str, Callable[[Call, dict[str, Any]], None]] = {
            "Status": self._status,
            "StartMachine": self._start_machine,
            "StopMachine": self._stop_machine,
            "RebootMachine": self._reboot_machine,
            "KillMachine": self._kill_machine,
            "PauseMachine": self._pause_machine,
            "ResumeMachine": self._resume_machine,
            "ReloadGateway": self._reload_gateway,
            "Shutdown": self._shutdown,
        }

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until `Shutdown` or a signal; `ready` is called when the control socket is open."""
        namespaces.adopt_orphans()
        programs.write_layer(self._layout.programs)
        warm.load()
        self._cgroup = cgroups.make(self._cluster.name)
        self._switch_fd = _make_switch()
        for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.on_signal(which, lambda: self._close_down(power.DOWN_TIMEOUT_S))
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        self._start_gateway()
        listeners = [self._listen(self._layout.control_socket, self._accept), self._listen(self._layout.ssh_socket, self._accept_ssh)]
        ready()
        try:
            self._loop.run()
        finally:
            for listener in listeners:
                listener.close()
            self._layout.control_socket.unlink(missing_ok=True)
            self._layout.ssh_socket.unlink(missing_ok=True)
            if self._cgroup is not None:
                cgroups.remove(self._cgroup)

    # The control socket

    def _listen(self, path: Path, accept: Callable[[socket.socket], None]) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        with layout.in_directory_of(path) as name:
            listener.bind(name)
        path.chmod(0o600)
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
        self._loop.on_readable(listener.fileno(), lambda: accept(listener))
        return listener

    def _accept_ssh(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        ssh_door.serve(sock, self._init_pid)

    def _init_pid(self, name: str) -> int:
        slot = self._slots[name]
        return slot.pid if slot.state in (State.RUNNING, State.STOPPING) else 0

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections[sock.fileno()] = connection
        self._loop.on_readable(sock.fileno(), lambda: self._receive(connection))

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(REQUEST_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.buffer += data
        if not data or len(connection.buffer) > REQUEST_BYTES_MAX:
            self._hang_up(connection)
            return
        *lines, connection.buffer = connection.buffer.split(b"\n")
        for line in lines:
            self._handle(connection, line)

    def _hang_up(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        self._loop.forget(fd)
        self._connections.pop(fd, None)
        connection.sock.close()

    def _handle(self, connection: Connection, line: bytes) -> None:
        call = Call(connection, None)
        try:
            request = json.loads(line)
            call.id = request.get("id")
            method = self._methods.get(request.get("method"))
            if method is None:
                raise ControlError(f"unknown method {request.get('method')!r}")
            if self._is_closing and method not in (self._status, self._shutdown):
                raise ControlError(f'cluster "{self._cluster.name}" is going down')
            method(call, request.get("params") or {})
        except (ControlError, power.PowerError) as error:
            call.fail(str(error))
        except (ValueError, AttributeError, TypeError) as error:
            call.fail(f"malformed request: {error}")

    def _slot(self, params: dict[str, Any]) -> Slot:
        name = params.get("name")
        if not isinstance(name, str) or name not in self._slots:
            raise ControlError(f'machine "{name}" not found')
        return self._slots[name]

    # Methods

    def _status(self, call: Call, params: dict[str, Any]) -> None:
        call.answer(
            {
                "name": self._cluster.name,
                "pid": os.getpid(),
                "apiPort": self._cluster.api_port,
                "kubernetesVersion": self._cluster.kubernetes_version,
                "machines": [slot.status() for slot in self._slots.values()],
                "gateway": {"pid": self._gateway_pid, **self._gateway_status},
            }
        )

    def _start_machine(self, call: Call, params: dict[str, Any]) -> None:
        slot = self._slot(params)
        power.check("start", slot.machine.name, slot.state)
        slot.reboots.clear()
        slot.waiters.append((call, State.RUNNING))
        self._boot(slot)

    def _stop_machine(self, call: Call, params: dict[str, Any]) -> None:
        slot = self._slot(params)
        power.check("stop", slot.machine.name, slot.state)
        slot.waiters.append((call, State.OFF))
        self._power_off(slot, float(params.get("timeout", power.STOP_TIMEOUT_S)))

    def _reboot_machine(self, call: Call, params: dict[str, Any]) -> None:
        slot = self._slot(params)
        power.check("reboot", slot.machine.name, slot.state)
        if slot.state is State.PAUSED:
            self._set_frozen(slot, False)
        slot.reboot_asked = True
        slot.reboots.clear()
        slot.waiters.append((call, State.RUNNING))
        slot.state = State.STOPPING
        self._signal(slot, power.SIGNAL_REBOOT)
        self._kill_after(slot, float(params.get("timeout", power.STOP_TIMEOUT_S)))
        self._tell_gateway()

    def _kill_machine(self, call: Call, params: dict[str, Any]) -> None:
        slot = self._slot(params)
        power.check("kill", slot.machine.name, slot.state)
        slot.killed = True
        slot.waiters.append((call, State.OFF))
        self._kill(slot)

    def _pause_machine(self, call: Call, params: dict[str, Any]) -> None:
        slot = self._slot(params)
        power.check("pause", slot.machine.name, slot.state)
        self._set_frozen(slot, True)
        slot.state = State.PAUSED
        call.answer(slot.status())

    def _resume_machine(self, call: Call, params: dict[str, Any]) -> None:
        slot = self._slot(params)
        power.check("resume", slot.machine.name, slot.state)
        self._set_frozen(slot, False)
        slot.state = State.RUNNING
        call.answer(slot.status())

    def _reload_gateway(self, call: Call, params: dict[str, Any]) -> None:
        self._send_gateway({"reload": True})
        call.answer({})

    def _shutdown(self, call: Call, params: dict[str, Any]) -> None:
        self._closing.append(call)
        self._close_down(float(params.get("timeout", power.DOWN_TIMEOUT_S)))

    # Machines

    def _boot(self, slot: Slot) -> None:
        boot = machine.Boot(
            machine=slot.machine,
            cluster=self._cluster,
            layout=self._layout,
            switch_fd=self._switch_fd,
            cgroup=None if self._cgroup is None else self._cgroup / slot.machine.name,
            init=self._init,
        )
        slot.state, slot.reason, slot.error = State.STARTING, "", ""
        slot.pid, slot.killed, slot.reboot_asked, slot.reports = 0, False, False, b""
        slot.builder, slot.channel = machine.fork_builder(boot)
        self._loop.on_readable(slot.channel.fileno(), lambda: self._read_reports(slot))

    def _read_reports(self, slot: Slot) -> None:
        if slot.channel is None:
            return
        try:
            data = slot.channel.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        slot.reports += data
        *lines, slot.reports = slot.reports.split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "pid":
                slot.pid = int(rest)
            elif word == "error":
                slot.error = rest
            elif word == "up" and slot.state is State.STARTING:
                slot.state, slot.started = State.RUNNING, SYSTEM_CLOCK.wall()
                log.info("Started machine", machine=slot.machine.name, pid=slot.pid)
                self._settle(slot)
        if not data:
            self._close_channel(slot)

    def _close_channel(self, slot: Slot) -> None:
        if slot.channel is not None:
            self._loop.forget(slot.channel.fileno())
            slot.channel.close()
            slot.channel = None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        if pid == self._gateway_pid:
            self._gateway_ended(code)
            return
        for slot in self._slots.values():
            if pid == slot.builder:
                self._read_reports(slot)
                slot.builder = 0
                if code == 0 and slot.pid and slot.channel is not None:
                    with contextlib.suppress(OSError):
                        slot.channel.send(b"go")
                else:
                    self._machine_ended(slot, code)
            elif pid == slot.pid:
                self._read_reports(slot)
                self._machine_ended(slot, code)

    def _machine_ended(self, slot: Slot, code: int) -> None:
        self._close_channel(slot)
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer = None
        failed_boot = slot.state is State.STARTING
        outcome = power.ending(code, slot.reboot_asked, slot.killed)
        slot.state, slot.pid, slot.started = State.OFF, 0, 0.0
        slot.reason = slot.error or outcome.reason
        if self._cgroup is not None:
            cgroups.remove(self._cgroup / slot.machine.name)
        log.info("Machine went off", machine=slot.machine.name, reason=slot.reason)
        if outcome.reboots and not failed_boot and not self._is_closing and self._may_reboot(slot):
            self._boot(slot)
        else:
            self._settle(slot)
        self._tell_gateway()
        self._maybe_finish()

    def _may_reboot(self, slot: Slot) -> bool:
        now = SYSTEM_CLOCK.monotonic()
        slot.reboots = [t for t in slot.reboots if now - t < REBOOTS_WINDOW_S] + [now]
        if len(slot.reboots) <= REBOOTS_MAX:
            return True
        slot.reason = f"rebooted {REBOOTS_MAX} times within {REBOOTS_WINDOW_S:.0f} s"
        return False

    def _settle(self, slot: Slot) -> None:
        """Answer the calls whose machine has come to rest."""
        waiters, slot.waiters = slot.waiters, []
        for call, wanted in waiters:
            if slot.state is wanted:
                call.answer(slot.status())
            else:
                call.fail(f'machine "{slot.machine.name}" is {slot.state}: {slot.reason}')
        self._tell_gateway()

    def _signal(self, slot: Slot, which: int) -> None:
        if slot.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, which)

    def _kill(self, slot: Slot) -> None:
        if slot.pid:
            self._signal(slot, signal.SIGKILL)
            if slot.state is State.PAUSED:
                self._set_frozen(
                    slot, False
                )  # a cgroup v2 freezer lets a killed process go, processes stopped by signal as well; this is for the others
        elif slot.builder:
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.builder, signal.SIGKILL)

    def _kill_after(self, slot: Slot, timeout_s: float) -> None:
        if slot.timer is not None:
            slot.timer.cancel()
        slot.timer = self._loop.call_later(timeout_s, lambda: self._kill(slot))

    def _power_off(self, slot: Slot, timeout_s: float) -> None:
        if slot.state is State.STARTING or timeout_s <= 0:
            self._kill(slot)
            return
        if slot.state is State.PAUSED:
            self._set_frozen(slot, False)
        slot.reboot_asked = False
        slot.state = State.STOPPING
        self._tell_gateway()
        self._signal(slot, power.SIGNAL_POWER_OFF)
        self._kill_after(slot, timeout_s)

    def _set_frozen(self, slot: Slot, frozen: bool) -> None:
        if self._cgroup is not None and cgroups.freeze(self._cgroup / slot.machine.name, frozen):
            return
        processes.signal_all(slot.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    # The gateway

    def _start_gateway(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                keep = {theirs.fileno(), self._switch_fd}
                if self._api_socket is not None:
                    keep.add(self._api_socket.fileno())
                machine.reset_after_fork(keep)
                namespaces.die_with_parent(signal.SIGKILL)
                machine.redirect_output(machine.open_log(self._layout.gateway_log))
                code = gateway.main(self._layout, self._cluster, self._switch_fd, self._api_socket, theirs)
            finally:
                os._exit(code)
        theirs.close()
        self._gateway_pid, self._gateway_channel, self._gateway_reports = pid, ours, b""
        self._loop.on_readable(ours.fileno(), self._read_gateway)
        self._tell_gateway()

    def _read_gateway(self) -> None:
        if self._gateway_channel is None:
            return
        try:
            data = self._gateway_channel.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.forget(self._gateway_channel.fileno())
            self._gateway_channel.close()
            self._gateway_channel = None
            return
        self._gateway_reports += data
        *lines, self._gateway_reports = self._gateway_reports.split(b"\n")
        for line in lines:
            self._gateway_status = json.loads(line)

    def _gateway_ended(self, code: int) -> None:
        self._gateway_pid, self._gateway_status = 0, {}
        if self._is_closing:
            self._maybe_finish()
            return
        log.warning("Gateway ended and was started again", status=code)
        self._loop.call_later(GATEWAY_PAUSE_S, lambda: None if self._is_closing else self._start_gateway())

    def _send_gateway(self, message: dict[str, Any]) -> None:
        if self._gateway_channel is not None:
            with contextlib.suppress(OSError):
                self._gateway_channel.send(json.dumps(message).encode() + b"\n")

    def _tell_gateway(self) -> None:
        """Which machines have power: connections through the others are cut at once."""
        on = [name for name, slot in self._slots.items() if slot.state in (State.RUNNING, State.STARTING, State.STOPPING, State.PAUSED)]
        self._send_gateway({"machinesOn": on})

    # The end

    def _close_down(self, timeout_s: float) -> None:
        if not self._is_closing:
            log.info("Went down", cluster=self._cluster.name)
        self._is_closing = True
        for slot in self._slots.values():
            if slot.state is not State.OFF:
                self._power_off(slot, timeout_s)
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        if not self._is_closing or any(slot.state is not State.OFF for slot in self._slots.values()):
            return
        if self._gateway_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._gateway_pid, signal.SIGTERM)
            return
        for call in self._closing:
            call.answer({})
        self._loop.stop()


def _make_switch() -> int:
    """The switch's network namespace, built by a child that is gone afterwards; the descriptor keeps it alive."""
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ready_read)
            os.close(done_write)
            namespaces.unshare(namespaces.CLONE_NEWNET)
            network.build_switch()
            os.write(ready_write, b"ok")
            os.read(done_read, 1)
            code = 0
        except BaseException as error:
            os.write(ready_write, f"cannot build the switch: {error}".encode())
        finally:
            os._exit(code)
    os.close(ready_write)
    os.close(done_read)
    try:
        answer = os.read(ready_read, 4096).decode()
        if answer != "ok":
            raise OSError(answer or "cannot build the switch")
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(done_write)
        os.close(ready_read)
        os.waitpid(child, 0)
