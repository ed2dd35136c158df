"""The horizontal autoscaler's arithmetic: proposals, pods that only start, windows and policies."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.apimachinery import timestamps
from kubette.kube_controller_manager.horizontal import behavior, replicas
from kubette.kube_controller_manager.horizontal.replicas import NoMetrics, Settings, Value

Object = dict[str, Any]
NOW = 1_800_000_000.0
SETTINGS = Settings(NOW)


def pod(
    name: str, cpu: str | None = "1000m", age_s: float = 3600.0, ready: str = "True", phase: str = "Running", ready_for_s: float = 3000.0
) -> Object:
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    stamps = [timestamps.format_time(NOW - age) for age in (age_s, min(ready_for_s, age_s))]
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": stamps[1]}]
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "resources": resources}]},
        "status": {"phase": phase, "startTime": stamps[0], "conditions": conditions},
    }


def values(**milli: int) -> dict[str, Value]:
    return {name: Value(amount, NOW, 30.0) for name, amount in milli.items()}


def test_the_ratio_of_use_to_target_decides() -> None:
    three = [pod(name) for name in "abc"]
    assert replicas.by_utilization(3, 30, three, values(a=300, b=500, c=700), "cpu", SETTINGS) == replicas.Proposal(5, 50, 500)
    assert replicas.by_utilization(3, 50, three, values(a=100, b=300, c=500), "cpu", SETTINGS).replicas == 2
    # Within a tenth of the target nothing moves.
    assert replicas.by_utilization(3, 100, three, values(a=1010, b=1030, c=1020), "cpu", SETTINGS).replicas == 3


def test_a_pod_without_a_value_is_counted_against_the_change() -> None:
    four = [pod(name) for name in "abcd"]
    # Up: as if it did nothing; down: as if it did all that it asked for.
    assert replicas.by_utilization(4, 50, four, values(a=1000, b=1000, c=1000), "cpu", SETTINGS).replicas == 6
    assert replicas.by_utilization(4, 100, four, values(a=400, b=400, c=400), "cpu", SETTINGS).replicas == 3
    # Never so far that it turns the change round.
    assert replicas.by_utilization(4, 50, four, values(a=600), "cpu", SETTINGS).replicas == 4


def test_a_pod_that_only_starts_does_not_multiply_itself() -> None:
    starting = pod("c", age_s=20.0, ready_for_s=5.0)
    pods = [pod("a"), pod("b"), starting]
    assert replicas.group(pods, values(a=1, b=1, c=1), "cpu", SETTINGS).unready == {"c"}
    assert replicas.by_utilization(3, 50, pods, values(a=750, b=750, c=5000), "cpu", SETTINGS).replicas == 3
    assert replicas.group([pod("d", ready="False", phase="Pending")], values(d=1), "memory", SETTINGS).unready == {"d"}


def test_without_requests_there_is_no_utilization() -> None:
    with pytest.raises(NoMetrics, match="missing request for cpu in container main of Pod a"):
        replicas.by_utilization(1, 50, [pod("a", cpu=None)], values(a=1), "cpu", SETTINGS)
    assert replicas.by_average(1, 100, [pod("a", cpu=None)], values(a=350), "cpu", SETTINGS).replicas == 4


def test_one_value_for_the_whole() -> None:
    assert replicas.by_total(3, 3, 20_000, 10_000, 0.1).replicas == 6
    assert replicas.by_total(0, 0, 20_000, 10_000, 0.1).replicas == 2
    assert replicas.by_total_average(3, 90_000, 10_000, 0.1).replicas == 9
    assert replicas.by_total_average(9, 90_000, 10_000, 0.1).replicas == 9


@given(st.integers(1, 40), st.integers(1, 2000), st.integers(10, 200))
def test_equal_pods_settle_where_each_does_its_share(count: int, milli: int, target: int) -> None:
    pods = [pod(f"p{i}") for i in range(count)]
    found = replicas.by_utilization(count, target, pods, {f"p{i}": Value(milli, NOW) for i in range(count)}, "cpu", SETTINGS)
    utilization = milli * count * 100 // (1000 * count)
    expected = count if abs(1 - utilization / target) <= 0.1 else math.ceil(round(utilization / target * count, 9))
    assert found.replicas == expected


# Windows and policies


def normalized(spec: Object, current: int, desired: int, history: behavior.History | None = None, now: float = NOW) -> behavior.Outcome:
    return behavior.normalize({"maxReplicas": 100, **spec}, history or behavior.History(), current, desired, now, 300.0)


def test_growth_is_four_pods_or_the_double_every_quarter_of_a_minute() -> None:
    assert normalized({}, 1, 50) == behavior.Outcome(
        5, True, ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
    )
    assert normalized({}, 10, 50).replicas == 20
    history = behavior.History(changes=[(NOW - 5, 10)])
    assert normalized({}, 20, 50, history).replicas == 20
    assert normalized({}, 20, 50, history, NOW + 11).replicas == 40


def test_bounds_are_told() -> None:
    assert normalized({"maxReplicas": 3}, 2, 9).limit == behavior.TOO_MANY
    assert normalized({"minReplicas": 2}, 3, 1) == behavior.Outcome(2, True, behavior.TOO_FEW)
    assert normalized({}, 2, 2) == behavior.Outcome(2, False, behavior.IN_RANGE)


def test_shrinking_waits_for_the_window() -> None:
    history = behavior.History()
    assert normalized({}, 5, 5, history).replicas == 5
    held = normalized({}, 5, 1, history, NOW + 100)
    assert (held.replicas, held.stabilized) == (5, "ScaleDownStabilized")
    assert normalized({}, 5, 1, history, NOW + 301).replicas == 1


def test_policies_of_ones_own() -> None:
    slow = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}
    assert normalized(slow, 5, 1).replicas == 4
    never = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}}}
    assert normalized(never, 5, 1).replicas == 5
