"""The control socket: `/run/systemd/private`, one JSON object a line (ARCHITECTURE.md, "init's control socket").

`METHODS` is the whole interface. Calls of one connection run side by side (a `StartUnit` that waits does not hold up a `ListUnits`); events are queued a connection, and one that
does not read its events is cut off at QUEUE_BYTES_MAX. The socket is root's (0600), as systemd's own.
"""

import asyncio
import base64
import fnmatch
import functools
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kubette.component_base import logs
from kubette.component_base.init_client import LINE_BYTES_MAX, SOCKET_PATH
from kubette.init import install, properties, service_spec, unit_state
from kubette.init.install import InstallError
from kubette.init.loader import NAME_PATTERN
from kubette.init.manager import Manager, MethodError
from kubette.init.service_runner import ServiceRunner
from kubette.init.streams import CHUNK_BYTES
from kubette.init.unit import Unit
from kubette.init.unit_graph import RELOAD, RESTART, START, STOP
from kubette.stdx import tasks

log = logs.logger(__name__)

CONNECTIONS_MAX = 1000
# Output of attached containers and events, waiting for their reader.
QUEUE_BYTES_MAX = 16 << 20
CALLS_MAX = 200


class Connection:
    """One client."""

    def __init__(self, manager: Manager, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.manager = manager
        self._reader, self._writer = reader, writer
        self._closers: list[Callable[[], None]] = []
        self._subscribed = False
        self._calls = 0

    async def serve(self) -> None:
        """Until the client hangs up."""
        try:
            async with tasks.Scope() as scope:
                while line := await self._reader.readline():
                    if self._calls >= CALLS_MAX:
                        return
                    self._calls += 1
                    scope.start(self._call(line))
        except (OSError, ValueError):
            pass  # a line too long, or a client gone: both end the connection
        finally:
            for close in self._closers:
                close()
            self._writer.close()

    async def _call(self, line: bytes) -> None:
        answer: dict[str, Any] = {"id": None}
        try:
            request = json.loads(line)
            answer["id"] = request["id"]
            method = METHODS.get(request["method"])
            if method is None:
                raise MethodError("org.freedesktop.DBus.Error.UnknownMethod", f"Unknown method {request['method']}.")
            answer["result"] = await method(self, request.get("params") or {})
        except (MethodError, InstallError) as error:
            answer["error"] = {"name": error.name, "message": error.message}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = f"missing parameter {error}" if isinstance(error, KeyError) else str(error)
            answer["error"] = {"name": "org.freedesktop.DBus.Error.InvalidArgs", "message": f"Invalid arguments: {text}"}
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the top of a task of PID 1
            log.error("Method failed", err=error, line=line[:200].decode(errors="replace"))
            answer["error"] = {"name": "org.freedesktop.DBus.Error.Failed", "message": f"{type(error).__name__}: {error}"}
        finally:
            self._calls -= 1
        self.send(answer)

    def send(self, message: dict[str, Any]) -> None:
        """Queue a line; a client that lets them pile up loses its connection."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > QUEUE_BYTES_MAX:
            log.warning("Cut off a client of the control socket that does not read", bytes=transport.get_write_buffer_size())
            transport.abort()
            return
        self._writer.write(json.dumps(message).encode() + b"\n")

    # ---- what makes a connection more than a caller
    async def subscribe(self, params: dict[str, Any]) -> None:
        if self._subscribed:
            return
        self._subscribed = True
        self.manager.listeners.append(self._changed)
        self._closers.append(functools.partial(self.manager.listeners.remove, self._changed))

    def _changed(self, event: str, unit: Unit) -> None:
        self.send({"event": event, "params": properties.of_unit(self.manager, unit)})

    async def attach(self, params: dict[str, Any]) -> None:
        runner = _runner(self.manager, params["name"])
        name = params["name"]

        def tap(stream: str, data: bytes) -> None:
            for at in range(0, len(data), CHUNK_BYTES):
                chunk = base64.b64encode(data[at : at + CHUNK_BYTES]).decode()
                self.send({"event": "Output", "params": {"name": name, "stream": stream, "data": chunk}})

        def ended() -> None:
            self.send({"event": "OutputEnd", "params": {"name": name}})

        if not runner.has_output:
            ended()
            return
        runner.taps.append(tap)
        runner.output_ended.append(ended)
        self._closers.append(functools.partial(_discard, runner.taps, tap))
        self._closers.append(functools.partial(_discard, runner.output_ended, ended))


def _discard(items: list[Any], item: Any) -> None:
    if item in items:
        items.remove(item)


def _name(params: dict[str, Any]) -> str:
    name = params["name"]
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise MethodError("org.freedesktop.DBus.Error.InvalidArgs", f"Unit name {name} is not valid.")
    return name


def _loaded(manager: Manager, name: str) -> Unit:
    """A unit that exists. Raises MethodError."""
    unit = manager.unit(name)
    if unit.loaded.load_state == "not-found":
        raise MethodError("NoSuchUnit", f"Unit {name} not loaded.")
    return unit


def _runner(manager: Manager, name: str) -> ServiceRunner:
    runner = _loaded(manager, name).runner
    if runner is None:
        raise MethodError("org.freedesktop.DBus.Error.InvalidArgs", f"Unit {name} is not a service.")
    return runner


async def _job(connection: Connection, params: dict[str, Any], job_type: str) -> dict[str, Any]:
    """Run a job to its end. Answers `{"job": "done" | "skipped"}`; any other outcome is an error `…JobFailed`, `…JobTimeout`, `…JobDependency`, `…JobCanceled`."""
    name, manager = _name(params), connection.manager
    if job_type == STOP and name not in manager.units and manager.unit(name).loaded.load_state == "not-found":
        raise MethodError("NoSuchUnit", f"Unit {name} not loaded.")
    unit = manager.unit(name)
    by_hand = {START: unit.loaded.unit.refuse_manual_start, STOP: unit.loaded.unit.refuse_manual_stop}
    if by_hand.get(job_type):
        text = f"Operation refused, unit {name} may be requested by dependency only (it is configured to refuse manual start/stop)."
        raise MethodError("OnlyByDependency", text)
    outcome = await manager.run_job(name, job_type, params.get("wait", True))
    if outcome not in ("done", "skipped"):
        raise _job_error(manager, name, outcome)
    return {"job": outcome}


def _job_error(manager: Manager, name: str, outcome: str) -> MethodError:
    unit = manager.units.get(name)
    result = unit.runner.machine.result if unit is not None and unit.runner is not None else ""
    if outcome == "canceled":
        return MethodError("JobCanceled", f"Job for {name} canceled.")
    if outcome == "dependency":
        return MethodError("JobDependency", f"A dependency job for {name} failed. See 'journalctl -xe' for details.")
    reason = {
        "resources": "of unavailable resources or another system error",
        "protocol": "the service did not take the steps required by its unit configuration",
        "timeout": "a timeout was exceeded",
        "exit-code": "the control process exited with error code",
        "signal": "a fatal signal was delivered to the control process",
        "core-dump": "a fatal signal was delivered causing the control process to dump core",
        "watchdog": "the service failed to send watchdog ping",
        "start-limit-hit": "start of the service was attempted too often",
    }.get(result, "")
    because = f" because {reason}" if reason else ""
    see = f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.'
    if result == "start-limit-hit":
        see += f'\nTo force a start use "systemctl reset-failed {name}"\nfollowed by "systemctl start {name}" again.'
    return MethodError("JobTimeout" if result == "timeout" else "JobFailed", f"Job for {name} failed{because}.\n{see}")


async def _start(connection: Connection, params: dict[str, Any]) -> Any:
    return await _job(connection, params, START)


async def _stop(connection: Connection, params: dict[str, Any]) -> Any:
    return await _job(connection, params, STOP)


async def _restart(connection: Connection, params: dict[str, Any]) -> Any:
    return await _job(connection, params, RESTART)


async def _try_restart(connection: Connection, params: dict[str, Any]) -> Any:
    if not connection.manager.is_up(_name(params)):
        _loaded(connection.manager, _name(params))
        return {"job": "done"}
    return await _job(connection, params, RESTART)


async def _reload(connection: Connection, params: dict[str, Any]) -> Any:
    return await _job(connection, params, RELOAD)


async def _reload_or_restart(connection: Connection, params: dict[str, Any]) -> Any:
    runner = connection.manager.unit(_name(params)).runner
    can_reload = runner is not None and bool(runner.spec.commands.get("ExecReload")) and connection.manager.is_up(_name(params))
    return await _job(connection, params, RELOAD if can_reload else RESTART)


async def _kill(connection: Connection, params: dict[str, Any]) -> Any:
    runner = _runner(connection.manager, _name(params))
    number = params.get("signal", int(signal.SIGTERM))
    if isinstance(number, str):
        number = service_spec.signal_number(number)
    whom = params.get("whom", "all")
    if not isinstance(number, int) or not 0 < number <= signal.SIGRTMAX or whom not in ("main", "control", "all"):
        raise MethodError("org.freedesktop.DBus.Error.InvalidArgs", f"Signal number or whom is invalid: {params.get('signal')} {whom}")
    if whom == "main" and not runner.main_pid:
        raise MethodError("NoSuchProcess", "No main process to kill")
    if whom == "all":
        if not runner.signal(number, unit_state.ALL):
            raise MethodError("NoSuchProcess", f"Unit {runner.name} has no processes to kill")
    else:
        pid = runner.main_pid if whom == "main" else runner.control_pid
        if not pid:
            raise MethodError("NoSuchProcess", "No control process to kill")
        os.kill(pid, number)
    return {}


async def _reset_failed(connection: Connection, params: dict[str, Any]) -> Any:
    manager = connection.manager
    for name in [_name(params)] if "name" in params else [unit.name for unit in manager.units.values() if unit.active_state == "failed"]:
        manager.reset_failed(name)
    return {}


async def _enable(connection: Connection, params: dict[str, Any]) -> Any:
    carries, changes = install.enable(connection.manager.loader, params["names"])
    connection.manager.reload()
    return {"carriesInstallInfo": carries, "changes": changes}


async def _disable(connection: Connection, params: dict[str, Any]) -> Any:
    changes = install.disable(connection.manager.loader, params["names"])
    connection.manager.reload()
    return {"changes": changes}


async def _mask(connection: Connection, params: dict[str, Any]) -> Any:
    changes = install.mask(params["names"])
    connection.manager.reload()
    return {"changes": changes}


async def _unmask(connection: Connection, params: dict[str, Any]) -> Any:
    changes = install.unmask(params["names"])
    connection.manager.reload()
    return {"changes": changes}


async def _daemon_reload(connection: Connection, params: dict[str, Any]) -> Any:
    connection.manager.reload()
    return {}


async def _list_units(connection: Connection, params: dict[str, Any]) -> Any:
    patterns = params.get("patterns") or ["*"]
    manager = connection.manager
    chosen = [unit for name, unit in sorted(manager.units.items()) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return [properties.of_unit(manager, unit) for unit in chosen]


async def _list_unit_files(connection: Connection, params: dict[str, Any]) -> Any:
    manager = connection.manager
    found = {name: str(path) for name, path in manager.loader.all_files().items()}
    return [{"name": name, "path": path, "state": install.state(manager.loader, name)} for name, path in sorted(found.items())]


async def _get_unit(connection: Connection, params: dict[str, Any]) -> Any:
    """Properties of a unit; one that does not exist has LoadState not-found (and is no error, as in `systemctl show`)."""
    return properties.details(connection.manager, connection.manager.unit(_name(params)))


async def _get_unit_by_pid(connection: Connection, params: dict[str, Any]) -> Any:
    runner = connection.manager.unit_of_pid(int(params["pid"]))
    if runner is None:
        raise MethodError("NoUnitForPID", f"PID {params['pid']} does not belong to any loaded unit.")
    return properties.of_unit(connection.manager, connection.manager.units[runner.name])


async def _start_transient(connection: Connection, params: dict[str, Any]) -> Any:
    """Make and start a unit; answers its properties. When the start fails the error is that of StartUnit, and the unit stays listed."""
    manager, name = connection.manager, _name(params)
    if manager.going_down:
        raise MethodError("ShuttingDown", f"Failed to start {name}: the machine is going down.")
    unit = manager.add_transient(name, params["properties"])
    outcome = await manager.run_job(name, START)
    if outcome not in ("done", "skipped"):
        raise _job_error(manager, name, outcome)
    return properties.of_unit(manager, unit)


async def _reopen_log(connection: Connection, params: dict[str, Any]) -> Any:
    try:
        _runner(connection.manager, _name(params)).reopen_log()
    except OSError as error:
        raise MethodError("org.freedesktop.DBus.Error.FileNotFound", f"Failed to reopen the log of {params['name']}: {error}") from None
    return {}


async def _write_input(connection: Connection, params: dict[str, Any]) -> Any:
    runner = _runner(connection.manager, _name(params))
    if runner.input is None:
        raise MethodError("org.freedesktop.DBus.Error.InvalidArgs", f"Unit {params['name']} has no standard input.")
    try:
        await runner.input.write(base64.b64decode(params["data"]))
    except OSError as error:
        raise MethodError("org.freedesktop.DBus.Error.IOError", f"Failed to write the input of {params['name']}: {error}") from None
    if params.get("eof"):
        runner.input.close()
    return {}


async def _resize(connection: Connection, params: dict[str, Any]) -> Any:
    if not _runner(connection.manager, _name(params)).resize(int(params["width"]), int(params["height"])):
        raise MethodError("org.freedesktop.DBus.Error.InvalidArgs", f"Unit {params['name']} has no terminal.")
    return {}


async def _system_state(connection: Connection, params: dict[str, Any]) -> Any:
    manager = connection.manager
    failed = sum(1 for unit in manager.units.values() if unit.active_state == "failed")
    return {"SystemState": manager.system_state(), "NFailedUnits": failed, "Default": manager.loader.resolve("default.target")}


async def _environment(connection: Connection, params: dict[str, Any]) -> Any:
    return connection.manager.base_environment


def _power(verb: str) -> Callable[[Connection, dict[str, Any]], Awaitable[Any]]:
    async def go_down(connection: Connection, params: dict[str, Any]) -> Any:
        connection.manager.begin_shutdown(verb)
        return {}

    return go_down


# The interface: systemd's method names.
METHODS: dict[str, Callable[[Connection, dict[str, Any]], Awaitable[Any]]] = {
    "StartUnit": _start,
    "StopUnit": _stop,
    "RestartUnit": _restart,
    "TryRestartUnit": _try_restart,
    "ReloadUnit": _reload,
    "ReloadOrRestartUnit": _reload_or_restart,
    "KillUnit": _kill,
    "ResetFailedUnit": _reset_failed,
    "EnableUnitFiles": _enable,
    "DisableUnitFiles": _disable,
    "MaskUnitFiles": _mask,
    "UnmaskUnitFiles": _unmask,
    "Reload": _daemon_reload,
    "ListUnits": _list_units,
    "ListUnitFiles": _list_unit_files,
    "GetUnit": _get_unit,
    "GetUnitByPID": _get_unit_by_pid,
    "GetSystemState": _system_state,
    "GetEnvironment": _environment,
    "StartTransientUnit": _start_transient,
    "ReopenLog": _reopen_log,
    "WriteInput": _write_input,
    "ResizeUnit": _resize,
    "Subscribe": Connection.subscribe,
    "AttachUnit": Connection.attach,
    "PowerOff": _power("poweroff"),
    "Reboot": _power("reboot"),
    "Halt": _power("halt"),
}


async def serve(manager: Manager, scope: tasks.Scope, path: str = SOCKET_PATH) -> None:
    """Listen; connections live in `scope`."""
    count = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        try:
            await Connection(manager, reader, writer).serve()
        finally:
            count -= 1

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if count >= CONNECTIONS_MAX:
            writer.close()
            return
        scope.start(connected(reader, writer))

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    await asyncio.start_unix_server(accept, path, limit=LINE_BYTES_MAX)
    os.chmod(path, 0o600)
