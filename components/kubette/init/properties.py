"""A unit as `GetUnit` and the events show it: systemd's property names. Times are Unix seconds (float), 0 when it has not happened."""

import os
from typing import Any

from kubette.init import cgroup
from kubette.init.manager import Manager
from kubette.init.unit import Unit

# A status line shows the processes of a unit; a unit with more is cut there.
PROCESSES_MAX = 500


def of_unit(manager: Manager, unit: Unit) -> dict[str, Any]:
    """What every unit has; services add what they run. Cheap enough for every event."""
    loaded, times = unit.loaded, unit.times
    properties: dict[str, Any] = {
        "Id": unit.name,
        "Description": loaded.unit.description,
        "Documentation": list(loaded.unit.documentation),
        "LoadState": loaded.load_state,
        "ActiveState": unit.active_state,
        "SubState": unit.sub_state,
        "FragmentPath": loaded.fragment_path,
        "DropInPaths": list(loaded.drop_in_paths),
        "Transient": unit.transient,
        "ConditionResult": unit.condition_result,
        "LoadError": loaded.error,
        "StateChangeTimestamp": times.state_change,
        "ActiveEnterTimestamp": times.active_enter,
        "ActiveExitTimestamp": times.active_exit,
        "InactiveEnterTimestamp": times.inactive_enter,
        "InactiveExitTimestamp": times.inactive_exit,
    }
    if unit.runner is not None:
        runner, info = unit.runner, unit.runner.exec_info
        properties |= {
            "Type": runner.spec.type,
            "Restart": runner.spec.restart,
            "MainPID": runner.main_pid,
            "ControlPID": runner.control_pid,
            "ExecMainPID": info.pid,
            "ExecMainStartTimestamp": info.started,
            "ExecMainExitTimestamp": info.exited,
            "ExecMainCode": info.code,
            "ExecMainStatus": info.status,
            "NRestarts": runner.machine.n_restarts,
            "Result": runner.machine.result,
            "StatusText": runner.status_text,
            "InvocationID": runner.invocation_id,
            "Slice": runner.spec.slice,
        }
    return properties


def details(manager: Manager, unit: Unit) -> dict[str, Any]:
    """What only `GetUnit` and `systemctl show|status` want: dependencies, settings, processes."""
    properties = of_unit(manager, unit)
    spec = unit.loaded.unit
    properties |= {key: list(names) for key, names in spec.dependencies.items()}
    properties["UnitFileState"] = manager.unit_file_state(unit.name)
    properties["UnitFilePreset"] = "enabled"  # systemd's default without preset files
    properties["NeedDaemonReload"] = not unit.transient and manager.loader.changed_on_disk(unit.loaded)
    properties["Names"] = [unit.name]
    if unit.runner is None:
        return properties
    service = unit.runner.spec
    pids = unit.runner.members()[:PROCESSES_MAX] if unit.active_state not in ("inactive", "failed") else []
    properties |= {
        "KillMode": service.kill_mode,
        "KillSignal": service.kill_signal,
        "PIDFile": service.pid_file,
        "User": service.user,
        "Group": service.group,
        "WorkingDirectory": service.working_directory,
        "Environment": [f"{name}={value}" for name, value in service.environment],
        "EnvironmentFiles": list(service.environment_files),
        "StandardInput": service.standard_input,
        "StandardOutput": service.standard_output,
        "StandardError": service.standard_error,
        "RestartUSec": _usec(service.restart_s),
        "TimeoutStartUSec": _usec(service.timeout_start_s),
        "TimeoutStopUSec": _usec(service.timeout_stop_s),
        "RemainAfterExit": service.remain_after_exit,
        "ControlGroup": f"/{cgroup.slice_path(service.slice)}/{unit.name}",
        "Processes": [{"pid": pid, "command": _command_line(pid)} for pid in pids],
        "TasksCurrent": sum(_tasks(pid) for pid in pids),
        "MemoryCurrent": sum(_memory(pid) for pid in pids),
        "CPUUsageNSec": int(sum(_cpu_s(pid) for pid in pids) * 1e9),
    }
    for key, commands in service.commands.items():
        properties[key] = [{"path": command.path, "argv": list(command.argv), "ignore_errors": command.ignore_failure} for command in commands]
    return properties


def _usec(seconds: float) -> int | str:
    return "infinity" if seconds == float("inf") else int(seconds * 1e6)


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        if text:
            return text
        with open(f"/proc/{pid}/comm") as comm:
            return f"[{comm.read().strip()}]"
    except OSError:
        return ""


def _tasks(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _memory(pid: int) -> int:
    """Proportional set size: warm-started programs share most of their pages with init."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
    except OSError:
        return 0


def _cpu_s(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks
