"""Pure: what a unit's settings mean: `UnitFile` in, one frozen value out.

Covers [Unit] for every kind of unit and [Service] for services (and for transient scopes, which are run as services). A setting that
systemd knows and init does not apply is named in `warnings`, so that nobody relies on a sandbox that is not there.
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubette.init import unit_file
from kubette.init.unit_file import ExecCommand, UnitFileError

DEFAULT_TIMEOUT_START_S = 90.0
DEFAULT_TIMEOUT_STOP_S = 90.0
DEFAULT_RESTART_S = 0.1
DEFAULT_START_LIMIT_INTERVAL_S = 10.0
DEFAULT_START_LIMIT_BURST = 5

SERVICE_TYPES = ("simple", "exec", "forking", "notify", "oneshot", "idle")
RESTART_MODES = ("no", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog", "always")
KILL_MODES = ("control-group", "mixed", "process", "none")
EXEC_KEYS = ("ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")

DEPENDENCY_KEYS = (
    "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "Conflicts", "Before", "After", "OnFailure", "OnSuccess", "PropagatesStopTo",
)  # fmt: skip
CONDITION_KEYS = (
    "PathExists", "PathExistsGlob", "PathIsDirectory", "PathIsSymbolicLink", "PathIsReadWrite", "DirectoryNotEmpty", "FileNotEmpty",
    "FileIsExecutable", "Environment", "Host", "User", "Virtualization", "Architecture", "KernelCommandLine", "Capability", "FirstBoot",
)  # fmt: skip
_UNIT_KEYS = {
    "Description", "Documentation", "DefaultDependencies", "RefuseManualStart", "RefuseManualStop", "StartLimitBurst", "StartLimitIntervalSec", "StartLimitInterval",
    "SourcePath",
    *DEPENDENCY_KEYS, *(f"Condition{key}" for key in CONDITION_KEYS), *(f"Assert{key}" for key in CONDITION_KEYS),
}  # fmt: skip
_SERVICE_KEYS = {
    "Type", "RemainAfterExit", "GuessMainPID", "PIDFile", "NotifyAccess", "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "TimeoutSec", "RuntimeMaxSec",
    "SuccessExitStatus", "RestartPreventExitStatus", "RestartForceExitStatus", "StartLimitBurst", "StartLimitInterval", "WatchdogSec", "KillMode", "KillSignal", "FinalKillSignal",
    "SendSIGKILL", "SendSIGHUP", "Environment", "EnvironmentFile", "PassEnvironment", "UnsetEnvironment", "WorkingDirectory", "User", "Group", "SupplementaryGroups", "UMask", "Nice",
    "OOMScoreAdjust", "StandardInput", "StandardOutput", "StandardError", "SyslogIdentifier", "SyslogLevel", "RuntimeDirectory", "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve", "StateDirectory", "StateDirectoryMode", "LogsDirectory", "LogsDirectoryMode", "CacheDirectory", "CacheDirectoryMode",
    "ConfigurationDirectory", "ConfigurationDirectoryMode", "Slice", "IgnoreSIGPIPE",
    # Tasks, memory and delegation: the kernel's cgroups are the host's; these say nothing that init would do differently.
    "Delegate", "TasksMax", "CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting", "OOMPolicy", "Alias",
    *EXEC_KEYS,
}  # fmt: skip
LIMIT_KEYS = {
    "LimitCPU": "RLIMIT_CPU", "LimitFSIZE": "RLIMIT_FSIZE", "LimitDATA": "RLIMIT_DATA", "LimitSTACK": "RLIMIT_STACK", "LimitCORE": "RLIMIT_CORE",
    "LimitNOFILE": "RLIMIT_NOFILE", "LimitAS": "RLIMIT_AS", "LimitNPROC": "RLIMIT_NPROC", "LimitMEMLOCK": "RLIMIT_MEMLOCK",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """`ConditionPathExists=!/x`: kind, argument, and whether it is negated or one of the alternatives (`|`)."""

    kind: str
    argument: str
    negated: bool = False
    trigger: bool = False
    is_assert: bool = False

    def __str__(self) -> str:
        marks = ("|" if self.trigger else "") + ("!" if self.negated else "")
        return f"{'Assert' if self.is_assert else 'Condition'}{self.kind}={marks}{self.argument}"


@dataclass(frozen=True, slots=True)
class ExitStatusSet:
    """Exit codes and signals that count as success (or prevent or force a restart)."""

    codes: frozenset[int] = frozenset()
    signals: frozenset[int] = frozenset()

    def __contains__(self, exit_: tuple[str, int]) -> bool:
        code, status = exit_
        return status in (self.codes if code == "exited" else self.signals)


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """[Unit] and [Install]: the same for every kind of unit."""

    name: str
    description: str
    documentation: tuple[str, ...] = ()
    dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    wanted_by: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    default_instance: str = ""
    start_limit_burst: int = DEFAULT_START_LIMIT_BURST
    start_limit_interval_s: float = DEFAULT_START_LIMIT_INTERVAL_S
    refuse_manual_start: bool = False
    refuse_manual_stop: bool = False
    warnings: tuple[str, ...] = ()

    def of(self, key: str) -> tuple[str, ...]:
        """The units named by a dependency setting."""
        return self.dependencies.get(key, ())


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """[Service], checked."""

    type: str = "simple"
    commands: Mapping[str, tuple[ExecCommand, ...]] = field(default_factory=dict)
    remain_after_exit: bool = False
    pid_file: str = ""
    notify_access: str = "none"
    restart: str = "no"
    restart_s: float = DEFAULT_RESTART_S
    timeout_start_s: float = DEFAULT_TIMEOUT_START_S
    timeout_stop_s: float = DEFAULT_TIMEOUT_STOP_S
    runtime_max_s: float = unit_file.INFINITY
    watchdog_s: float = 0.0
    success_exit: ExitStatusSet = ExitStatusSet()
    restart_prevent_exit: ExitStatusSet = ExitStatusSet()
    restart_force_exit: ExitStatusSet = ExitStatusSet()
    kill_mode: str = "control-group"
    kill_signal: int = signal.SIGTERM
    final_kill_signal: int = signal.SIGKILL
    send_sigkill: bool = True
    send_sighup: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    environment_files: tuple[str, ...] = ()
    pass_environment: tuple[str, ...] = ()
    unset_environment: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""
    group: str = ""
    supplementary_groups: tuple[str, ...] = ()
    umask: int = 0o022
    nice: int = 0
    oom_score_adjust: int | None = None
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    standard_input: str = "null"
    standard_output: str = "journal"
    standard_error: str = "inherit"
    syslog_identifier: str = ""
    syslog_level: int = 6
    directories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    directory_modes: Mapping[str, int] = field(default_factory=dict)
    preserve_runtime_directory: bool = False
    slice: str = "system.slice"
    ignore_sigpipe: bool = True
    warnings: tuple[str, ...] = ()


def unit_spec(name: str, unit: unit_file.UnitFile) -> UnitSpec:
    """Read [Unit] and [Install]. Never raises: a bad value keeps its default and becomes a warning, as with systemd."""
    reader = _Reader(unit, "Unit")
    suffix = name.rpartition(".")[2]
    dependencies: dict[str, tuple[str, ...]] = {key: tuple(reader.words(key)) for key in DEPENDENCY_KEYS}
    if reader.boolean("DefaultDependencies", True):
        _add_default_dependencies(name, suffix, dependencies)
    limit_section = "Service" if unit.values("Service", "StartLimitBurst") or unit.values("Service", "StartLimitInterval") else "Unit"
    limits = _Reader(unit, limit_section)
    interval = limits.span("StartLimitIntervalSec", limits.span("StartLimitInterval", DEFAULT_START_LIMIT_INTERVAL_S))
    install = _Reader(unit, "Install")
    reader.note_unknown(_UNIT_KEYS)
    return UnitSpec(
        name=name,
        description=unit.value("Unit", "Description", name),
        documentation=tuple(reader.words("Documentation")),
        dependencies=dependencies,
        conditions=tuple(_conditions(unit)),
        wanted_by=tuple(install.words("WantedBy")),
        required_by=tuple(install.words("RequiredBy")),
        aliases=tuple(install.words("Alias")),
        also=tuple(install.words("Also")),
        default_instance=unit.value("Install", "DefaultInstance"),
        start_limit_burst=limits.integer("StartLimitBurst", DEFAULT_START_LIMIT_BURST),
        start_limit_interval_s=interval,
        refuse_manual_start=reader.boolean("RefuseManualStart", False),
        refuse_manual_stop=reader.boolean("RefuseManualStop", False),
        warnings=(*unit.warnings, *reader.warnings, *limits.warnings, *install.warnings),
    )


def _add_default_dependencies(name: str, suffix: str, dependencies: dict[str, tuple[str, ...]]) -> None:
    """What DefaultDependencies=yes adds (systemd.service(5), systemd.target(5))."""

    def add(key: str, *names: str) -> None:
        dependencies[key] = tuple(dict.fromkeys((*dependencies[key], *names)))

    if suffix == "service":
        add("Requires", "sysinit.target")
        add("After", "sysinit.target", "basic.target")
        add("Conflicts", "shutdown.target")
        add("Before", "shutdown.target")
    elif suffix == "target" and name != "shutdown.target":
        # A target is reached when what it wants is up.
        before = set(dependencies["Before"])
        add("After", *(other for key in ("Wants", "Requires") for other in dependencies[key] if other not in before))
        add("Conflicts", "shutdown.target")
        add("Before", "shutdown.target")


def _conditions(unit: unit_file.UnitFile) -> list[Condition]:
    found: list[Condition] = []
    for entry in unit.assignments:
        match = re.fullmatch(r"(Condition|Assert)([A-Za-z]+)", entry.key)
        if entry.section != "Unit" or match is None or match[2] not in CONDITION_KEYS:
            continue
        if not entry.value:
            found.clear()  # an empty assignment resets all conditions, of every kind
            continue
        argument = entry.value
        trigger = argument.startswith("|")
        argument = argument.removeprefix("|").lstrip()
        negated = argument.startswith("!")
        found.append(Condition(match[2], argument.removeprefix("!").lstrip(), negated, trigger, match[1] == "Assert"))
    return found


def service_spec(unit: unit_file.UnitFile, specifiers: Mapping[str, str]) -> ServiceSpec:
    """Read [Service]. Raises UnitFileError when the unit cannot be run at all (no ExecStart, unknown Type, …)."""
    reader = _Reader(unit, "Service")
    commands = {key: _commands(unit, key, specifiers) for key in EXEC_KEYS}
    pid_file = unit_file.expand_specifiers(unit.value("Service", "PIDFile"), specifiers)
    default_type = "simple" if commands["ExecStart"] else "oneshot"
    kind = reader.choice("Type", SERVICE_TYPES, default_type)
    remain = reader.boolean("RemainAfterExit", False)
    if not commands["ExecStart"] and not commands["ExecStop"]:
        raise UnitFileError("Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.")
    if kind != "oneshot" and not commands["ExecStart"]:
        raise UnitFileError("Service has no ExecStart= setting, which is only allowed for Type=oneshot services. Refusing.")
    if kind != "oneshot" and len(commands["ExecStart"]) > 1:
        raise UnitFileError("Service has more than one ExecStart= setting, which is only allowed for Type=oneshot services. Refusing.")
    restart = reader.choice("Restart", RESTART_MODES, "no")
    if kind == "oneshot" and restart in ("always", "on-success"):
        raise UnitFileError("Service has Restart= set to either always or on-success, which isn't allowed for Type=oneshot services. Refusing.")
    both = reader.span("TimeoutSec", -1.0)
    start_default = unit_file.INFINITY if kind == "oneshot" else DEFAULT_TIMEOUT_START_S
    environment = {}
    for value in unit.values("Service", "Environment"):
        for word in unit_file.split_words(unit_file.expand_specifiers(value, specifiers)):
            name, separator, content = word.partition("=")
            if separator:
                environment[name] = content
    directories, modes = _directories(unit, reader, specifiers)
    reader.note_unknown(_SERVICE_KEYS | set(LIMIT_KEYS))
    return ServiceSpec(
        type=kind,
        commands=commands,
        remain_after_exit=remain,
        pid_file=pid_file if not pid_file or pid_file.startswith("/") else "/run/" + pid_file,
        notify_access=reader.choice("NotifyAccess", ("none", "main", "exec", "all"), "main" if kind == "notify" else "none"),
        restart=restart,
        restart_s=reader.span("RestartSec", DEFAULT_RESTART_S),
        timeout_start_s=_unlimited(reader.span("TimeoutStartSec", both if both >= 0 else start_default)),
        timeout_stop_s=_unlimited(reader.span("TimeoutStopSec", both if both >= 0 else DEFAULT_TIMEOUT_STOP_S)),
        runtime_max_s=_unlimited(reader.span("RuntimeMaxSec", unit_file.INFINITY)),
        watchdog_s=reader.span("WatchdogSec", 0.0),
        success_exit=reader.exit_statuses("SuccessExitStatus"),
        restart_prevent_exit=reader.exit_statuses("RestartPreventExitStatus"),
        restart_force_exit=reader.exit_statuses("RestartForceExitStatus"),
        kill_mode=reader.choice("KillMode", KILL_MODES, "control-group"),
        kill_signal=reader.signal("KillSignal", signal.SIGTERM),
        final_kill_signal=reader.signal("FinalKillSignal", signal.SIGKILL),
        send_sigkill=reader.boolean("SendSIGKILL", True),
        send_sighup=reader.boolean("SendSIGHUP", False),
        environment=tuple(environment.items()),
        environment_files=tuple(unit_file.expand_specifiers(v, specifiers) for v in unit.values("Service", "EnvironmentFile")),
        pass_environment=tuple(reader.words("PassEnvironment")),
        unset_environment=tuple(reader.words("UnsetEnvironment")),
        working_directory=unit_file.expand_specifiers(unit.value("Service", "WorkingDirectory"), specifiers),
        user=unit_file.expand_specifiers(unit.value("Service", "User"), specifiers),
        group=unit_file.expand_specifiers(unit.value("Service", "Group"), specifiers),
        supplementary_groups=tuple(reader.words("SupplementaryGroups")),
        umask=int(unit.value("Service", "UMask", "0022"), 8),
        nice=reader.integer("Nice", 0),
        oom_score_adjust=reader.integer("OOMScoreAdjust", 0) if unit.value("Service", "OOMScoreAdjust") else None,
        limits=_limits(unit, reader),
        standard_input=unit.value("Service", "StandardInput", "null"),
        standard_output=unit_file.expand_specifiers(unit.value("Service", "StandardOutput", "journal"), specifiers),
        standard_error=unit_file.expand_specifiers(unit.value("Service", "StandardError", "inherit"), specifiers),
        syslog_identifier=unit_file.expand_specifiers(unit.value("Service", "SyslogIdentifier"), specifiers),
        syslog_level=_SYSLOG_LEVELS.get(unit.value("Service", "SyslogLevel", "info"), 6),
        directories=directories,
        directory_modes=modes,
        preserve_runtime_directory=unit.value("Service", "RuntimeDirectoryPreserve", "no") in ("yes", "restart"),
        slice=unit.value("Service", "Slice", "system.slice"),
        ignore_sigpipe=reader.boolean("IgnoreSIGPIPE", True),
        warnings=tuple(reader.warnings),
    )


_SYSLOG_LEVELS = {name: level for level, name in enumerate(("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"))}


def _unlimited(seconds: float) -> float:
    """Zero disables a timeout, as `infinity` does."""
    return seconds or unit_file.INFINITY


def _commands(unit: unit_file.UnitFile, key: str, specifiers: Mapping[str, str]) -> tuple[ExecCommand, ...]:
    found: list[ExecCommand] = []
    for line in unit.values("Service", key):
        for command in unit_file.parse_exec(line):
            expanded = tuple(unit_file.expand_specifiers(word, specifiers) for word in command.argv)
            path = unit_file.expand_specifiers(command.path, specifiers)
            found.append(ExecCommand(expanded, path, command.ignore_failure, command.expand_environment, command.full_privileges))
    return tuple(found)


def _directories(unit: unit_file.UnitFile, reader: "_Reader", specifiers: Mapping[str, str]) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    names, modes = {}, {}
    for kind in ("RuntimeDirectory", "StateDirectory", "LogsDirectory", "CacheDirectory", "ConfigurationDirectory"):
        chosen = []
        for word in reader.words(kind):
            expanded = unit_file.expand_specifiers(word, specifiers)
            if expanded.startswith("/") or ".." in expanded.split("/"):
                reader.warnings.append(f"{kind}= path is not valid, ignoring assignment: {word}")
            else:
                chosen.append(expanded)
        if chosen:
            names[kind] = tuple(chosen)
            modes[kind] = int(unit.value("Service", kind + "Mode", "0755"), 8)
    return names, modes


_SIZE_FACTORS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _limits(unit: unit_file.UnitFile, reader: "_Reader") -> dict[str, tuple[int, int]]:
    """`LimitNOFILE=1024:65536` → {"RLIMIT_NOFILE": (1024, 65536)}; -1 is infinity."""
    limits = {}
    for key, resource_name in LIMIT_KEYS.items():
        text = unit.value("Service", key)
        if not text:
            continue
        try:
            soft, _, hard = text.partition(":")
            limits[resource_name] = (_limit(soft), _limit(hard or soft))
        except ValueError:
            reader.warnings.append(f"Failed to parse resource value, ignoring: {text}")
    return limits


def _limit(text: str) -> int:
    body = text.strip()
    if body == "infinity":
        return -1
    if body[-1:] in _SIZE_FACTORS:
        return int(body[:-1]) * _SIZE_FACTORS[body[-1]]
    return int(body)


class _Reader:
    """Typed reading of one section, collecting warnings."""

    def __init__(self, unit: unit_file.UnitFile, section: str) -> None:
        self.unit = unit
        self.section = section
        self.warnings: list[str] = []

    def words(self, key: str) -> list[str]:
        try:
            return self.unit.words(self.section, key)
        except UnitFileError as error:
            self.warnings.append(f"Failed to parse {key}=, ignoring: {error}")
            return []

    def boolean(self, key: str, default: bool) -> bool:
        text = self.unit.value(self.section, key)
        try:
            return unit_file.parse_boolean(text) if text else default
        except UnitFileError:
            self.warnings.append(f"Failed to parse {key}= value, ignoring: {text}")
            return default

    def span(self, key: str, default: float) -> float:
        text = self.unit.value(self.section, key)
        try:
            return unit_file.parse_time_span(text) if text else default
        except UnitFileError:
            self.warnings.append(f"Failed to parse {key}= parameter, ignoring: {text}")
            return default

    def integer(self, key: str, default: int) -> int:
        text = self.unit.value(self.section, key)
        try:
            return int(text) if text else default
        except ValueError:
            self.warnings.append(f"Failed to parse {key}= value, ignoring: {text}")
            return default

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        text = self.unit.value(self.section, key, default)
        if text in choices:
            return text
        self.warnings.append(f"Failed to parse {key}= setting, ignoring: {text}")
        return default

    def signal(self, key: str, default: int) -> int:
        text = self.unit.value(self.section, key)
        number = signal_number(text) if text else default
        if number is None:
            self.warnings.append(f"Failed to parse {key}= value, ignoring: {text}")
            return default
        return number

    def exit_statuses(self, key: str) -> ExitStatusSet:
        codes, signals = set(), set()
        for word in self.words(key):
            number = signal_number(word) if not word.isdigit() else None
            if number is not None:
                signals.add(number)
            elif word.isdigit() and int(word) <= 255:
                codes.add(int(word))
            else:
                self.warnings.append(f"Failed to parse value, ignoring: {key}={word}")
        return ExitStatusSet(frozenset(codes), frozenset(signals))

    def note_unknown(self, known: set[str]) -> None:
        for entry in self.unit.assignments:
            if entry.section == self.section and entry.key not in known and not entry.key.startswith("X-"):
                self.warnings.append(f"{entry.path}:{entry.line}: Unknown key name '{entry.key}' in section '{self.section}', ignoring.")


def signal_number(text: str) -> int | None:
    """`SIGTERM`, `TERM`, `15` or `SIGRTMIN+4` as a number; None when there is no such signal."""
    name = text.strip().upper()
    if name.isdigit():
        return int(name) if 0 < int(name) <= signal.SIGRTMAX else None
    if not name.startswith("SIG"):
        name = "SIG" + name
    match = re.fullmatch(r"SIGRTMIN\+(\d+)", name)
    if match:
        return signal.SIGRTMIN + int(match[1])
    found = getattr(signal, name, None)
    return int(found) if isinstance(found, signal.Signals) else None
