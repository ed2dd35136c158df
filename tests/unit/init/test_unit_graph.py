"""Transactions: what a request pulls in, and in which order."""

import pytest

from kubette.init import service_spec, unit_file, unit_graph


def graph(**units: str) -> unit_graph.Graph:
    """Units by name (without suffix), their [Unit] lines separated by `;`; no default dependencies."""
    specs = {}
    for name, text in units.items():
        full = f"{name}.service"
        body = "[Unit]\nDefaultDependencies=no\n" + text.replace(";", "\n")
        specs[full] = service_spec.unit_spec(full, unit_file.parse(body))
    return unit_graph.Graph(specs.get, lambda: specs)


def plan(units: unit_graph.Graph, anchor: str, job: str, *up: str) -> str:
    active = {f"{name}.service" for name in up}
    return unit_graph.plan(units, f"{anchor}.service", job, active.__contains__).describe().replace(".service", "")


def test_start_pulls_in_requirements_and_wishes_in_order() -> None:
    units = graph(a="Requires=b.service;After=b.service;Wants=c.service missing.service", b="", c="After=a.service")
    assert plan(units, "a", "start") == "start a after b\nstart b\nstart c after a"


def test_what_is_up_is_left_alone() -> None:
    assert plan(graph(a="Requires=b.service;After=b.service", b=""), "a", "start", "b") == "start a"


def test_a_missing_requirement_is_refused() -> None:
    with pytest.raises(unit_graph.TransactionError, match=r"Unit b\.service not found"):
        plan(graph(a="Requires=b.service"), "a", "start")


def test_stop_takes_along_who_requires_it_in_reverse_order() -> None:
    units = graph(a="", b="Requires=a.service;After=a.service", c="PartOf=b.service;After=b.service", d="Wants=a.service")
    assert plan(units, "a", "stop", "a", "b", "c", "d") == "stop a after b\nstop b after c\nstop c"


def test_restart_takes_along_what_is_up_and_bound_to_it() -> None:
    units = graph(a="", b="BindsTo=a.service;After=a.service", c="Requires=a.service")
    assert plan(units, "a", "restart", "a", "b") == "restart a\nrestart b after a"


def test_conflicts_stop_first() -> None:
    assert plan(graph(a="Conflicts=b.service", b=""), "a", "start", "b") == "start a\nstop b"
    assert plan(graph(a="Conflicts=b.service;Before=b.service", b=""), "a", "start", "b") == "start a after b\nstop b"


def test_a_cycle_loses_the_job_nobody_requires() -> None:
    units = graph(a="Wants=b.service;After=b.service", b="After=a.service")
    transaction = unit_graph.plan(units, "a.service", "start", lambda name: False)
    assert transaction.describe() == "start a.service"
    assert "Job b.service/start deleted to break ordering cycle starting with a.service/start" in transaction.messages[-1]


def test_a_cycle_of_requirements_is_refused() -> None:
    with pytest.raises(unit_graph.TransactionError) as refused:
        plan(graph(a="Requires=b.service;After=b.service", b="After=a.service"), "a", "start")
    assert refused.value.name == "org.freedesktop.systemd1.TransactionOrderIsCyclic"


def test_shutdown_stops_everything_backwards_and_survives_cycles() -> None:
    units = graph(a="", b="After=a.service", c="After=b.service", x="After=y.service", y="After=x.service")
    transaction = unit_graph.plan_shutdown(units, ["c.service", "a.service", "b.service", "x.service", "y.service"])
    assert transaction.waits["a.service"] == ("b.service",)
    assert transaction.waits["b.service"] == ("c.service",)
    assert len(transaction.waits["x.service"]) + len(transaction.waits["y.service"]) == 1
