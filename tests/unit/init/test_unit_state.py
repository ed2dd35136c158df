"""The life of a service, as stories: what happens, and what the machine wants done."""

import pytest

from kubette.init import service_spec, unit_file, unit_state
from kubette.init.unit_state import (
    CONTROL,
    MAIN,
    Exited,
    Gone,
    Kill,
    MainFound,
    Ready,
    RestartJob,
    ServiceMachine,
    SetTimer,
    Spawn,
    StartRequested,
    StopRequested,
    SubState,
    Timeout,
)


def machine(text: str, unit_text: str = "") -> ServiceMachine:
    parsed = unit_file.parse(f"[Unit]\n{unit_text}\n[Service]\n{text}")
    return ServiceMachine(service_spec.unit_spec("a.service", parsed), service_spec.service_spec(parsed, {}))


def story(service: ServiceMachine, *events: unit_state.Event, now: float = 0.0) -> list[str]:
    """What is wanted, in words, without logs and timers; the state after each event."""
    told = []
    for event in events:
        wanted = []
        for action in service.step(event, now):
            if isinstance(action, Spawn):
                wanted.append(f"run {action.key}[{action.index}] as {action.which}")
            elif isinstance(action, Kill):
                wanted.append(f"kill {action.to} with {action.signal} until {action.until}")
            elif not isinstance(action, unit_state.Log | SetTimer):
                wanted.append(type(action).__name__)
        told.append(f"{service.state.value}: {', '.join(wanted)}".rstrip(": "))
    return told


def test_a_whole_life_with_every_command() -> None:
    service = machine("ExecStartPre=/p1\nExecStartPre=/p2\nExecStart=/m\nExecStartPost=/q\nExecStop=/s\nExecStopPost=/t\n")
    ok = Exited(CONTROL, "exited", 0)
    assert story(service, StartRequested(), ok, ok, ok, StopRequested(), ok, Exited(MAIN, "killed", 15), Gone(), ok, Gone()) == [
        "start-pre: run ExecStartPre[0] as control",
        "start-pre: run ExecStartPre[1] as control",
        "start-post: run ExecStart[0] as main, run ExecStartPost[0] as control",
        "running",
        "stop: run ExecStop[0] as control",
        "stop-sigterm: kill all with 15 until main",
        "stop-sigterm",
        "stop-post: run ExecStopPost[0] as control",
        "final-sigterm: kill all with 15 until all",
        "dead: Release",
    ]
    assert (service.result, service.active_state) == ("success", "inactive")


def test_a_failing_pre_command_ends_the_start_but_not_with_a_dash() -> None:
    assert story(machine("ExecStartPre=-/p\nExecStart=/m"), StartRequested(), Exited(CONTROL, "exited", 1))[-1] == "running: run ExecStart[0] as main"
    service = machine("ExecStartPre=/p\nExecStart=/m")
    assert story(service, StartRequested(), Exited(CONTROL, "exited", 1))[-1].startswith("stop-sigterm")
    story(service, Gone(), Gone())
    assert (service.state, service.result, service.started) == (SubState.FAILED, "exit-code", False)


def test_notify_waits_for_ready_and_an_early_exit_is_a_protocol_failure() -> None:
    service = machine("Type=notify\nExecStart=/m")
    assert story(service, StartRequested(), Ready()) == ["start: run ExecStart[0] as main", "running"]
    service = machine("Type=notify\nExecStart=/m")
    story(service, StartRequested(), Exited(MAIN, "exited", 0), Gone(), Gone())
    assert (service.state, service.result) == (SubState.FAILED, "protocol")


def test_forking_follows_the_process_its_launcher_leaves() -> None:
    service = machine("Type=forking\nExecStart=/m\nPIDFile=/run/x")
    told = story(service, StartRequested(), Exited(CONTROL, "exited", 0), MainFound(), Exited(MAIN, "exited", 3), Gone(), Gone())
    assert told[:3] == ["start: run ExecStart[0] as control", "start: FindMain", "running"]
    assert (service.state, service.result) == (SubState.FAILED, "exit-code")


def test_a_oneshot_runs_its_commands_in_turn_and_may_remain() -> None:
    service = machine("Type=oneshot\nExecStart=/a\nExecStart=/b\nRemainAfterExit=yes")
    ok = Exited(MAIN, "exited", 0)
    assert story(service, StartRequested(), ok, ok) == ["start: run ExecStart[0] as main", "start: run ExecStart[1] as main", "exited"]


@pytest.mark.parametrize(
    ("restart", "exits"),
    [
        ("no", set()),
        ("on-success", {"clean"}),
        ("on-failure", {"status", "signal", "timeout"}),
        ("on-abnormal", {"signal", "timeout"}),
        ("on-abort", {"signal"}),
        ("always", {"clean", "status", "signal", "timeout"}),
    ],
)
def test_restart_follows_the_table(restart: str, exits: set[str]) -> None:
    """The table of systemd.service(5)."""
    endings = {"clean": [Exited(MAIN, "killed", 15)], "status": [Exited(MAIN, "exited", 1)], "signal": [Exited(MAIN, "killed", 9)]}
    restarted = set()
    for name, ending in endings.items():
        service = machine(f"ExecStart=/m\nRestart={restart}")
        story(service, StartRequested(), *ending, Gone(), Gone())
        if service.state is SubState.AUTO_RESTART:
            restarted.add(name)
    service = machine(f"Type=notify\nExecStart=/m\nRestart={restart}")
    story(service, StartRequested(), Timeout(), Exited(MAIN, "killed", 15), Gone(), Gone())
    if service.state is SubState.AUTO_RESTART:
        restarted.add("timeout")
    assert restarted == exits


def test_a_stop_forbids_the_restart_and_prevented_statuses_do_too() -> None:
    service = machine("ExecStart=/m\nRestart=always")
    story(service, StartRequested(), StopRequested(), Exited(MAIN, "exited", 1), Gone(), Gone())
    assert service.state is SubState.FAILED
    service = machine("ExecStart=/m\nRestart=always\nRestartPreventExitStatus=255")
    story(service, StartRequested(), Exited(MAIN, "exited", 255), Gone(), Gone())
    assert service.state is SubState.FAILED


def test_the_start_limit_is_a_window() -> None:
    service = machine("ExecStart=/m\nRestart=always", "StartLimitBurst=2\nStartLimitIntervalSec=10")
    die = (Exited(MAIN, "exited", 1), Gone(), Gone())
    story(service, StartRequested(), *die, StartRequested(automatic=True), *die)
    assert story(service, Timeout())[-1].endswith("RestartJob")
    story(service, StartRequested(automatic=True))
    assert (service.state, service.result) == (SubState.FAILED, "start-limit-hit")
    assert story(service, StartRequested(), now=10.0)[-1].startswith("running")


@pytest.mark.parametrize(
    ("mode", "first", "last"),
    [
        ("control-group", "kill all with 15 until main", "kill all with 15 until all"),
        ("mixed", "kill main with 15 until main", "kill all with 9 until all"),
        ("process", "kill main with 15 until main", "kill main with 15 until main"),
    ],
)
def test_kill_mode(mode: str, first: str, last: str) -> None:
    told = story(machine(f"ExecStart=/m\nKillMode={mode}"), StartRequested(), StopRequested(), Exited(MAIN, "killed", 15), Gone())
    assert told[1] == f"stop-sigterm: {first}"
    assert told[3] == f"final-sigterm: {last}"


def test_who_ignores_sigterm_is_killed() -> None:
    service = machine("ExecStart=/m\nTimeoutStopSec=5")
    assert SetTimer(5.0) in [a for event in (StartRequested(), StopRequested()) for a in service.step(event, 0.0)]
    assert story(service, Timeout()) == ["stop-sigkill: kill all with 9 until main"]
    story(service, Exited(MAIN, "killed", 9), Gone(), Gone())
    assert (service.state, service.result) == (SubState.FAILED, "timeout")


def test_a_failing_reload_leaves_the_service_running() -> None:
    service = machine("ExecStart=/m\nExecReload=/r")
    assert story(service, StartRequested(), unit_state.ReloadRequested(), Exited(CONTROL, "exited", 1))[-1] == "running"
    assert service.reload_result == "exit-code"


def test_events_that_mean_nothing_change_nothing() -> None:
    """Every state ignores what is not in its row."""
    for state in SubState:
        for event in (
            StartRequested(),
            StopRequested(),
            Ready(),
            MainFound(),
            Timeout(),
            Gone(),
            unit_state.Stopping(),
            unit_state.WatchdogExpired(),
        ):
            service = machine("ExecStart=/m")
            service.state = state
            if type(event) not in unit_state.HANDLERS[state]:
                assert service.step(event, 0.0) == []
                assert service.state is state


def test_every_state_has_a_row_and_an_active_state() -> None:
    assert set(unit_state.HANDLERS) == set(SubState) == set(unit_state.ACTIVE_STATE)
    assert isinstance(RestartJob(), RestartJob)
