"""Every exercise of `kubette lab`: its situation comes about and is graded as undone, its own solution satisfies its own checks, its reset takes all back.

A cluster of the file's own for each style. What is typed is the same in both for most exercises: those run in one.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from kubette.cli.lab import library
from kubette.cli.lab.exercise import STYLES, Exercise

EXERCISES = library.load()
AT_THE_END = "etcd-restore"  # the clients of a cluster that went back in time need a while to notice


def _runs_in(one: Exercise, style: str) -> bool:
    scripts = [[one.steps(which, each) for which in ("setup", "solve", "reset")] for each in one.styles]
    return style == one.styles[0] or (style in one.styles and scripts[0] != scripts[1])


CASES = [
    pytest.param(style, name, id=f"{name}-{style}")
    for style in STYLES
    for name in sorted(EXERCISES, key=lambda name: (name == AT_THE_END, name))
    if _runs_in(EXERCISES[name], style)
]


@pytest.fixture(scope="module")
def labs(new_cluster: Callable[..., Cluster]) -> Iterator[Callable[[str], Cluster]]:
    """The cluster of a style: controlplane, node01, node02; made when the first test asks for it."""
    made: dict[str, Cluster] = {}

    def of(style: str) -> Cluster:
        if style not in made:
            made[style] = new_cluster(f"labs-{style}")
            made[style].up(f"--style={style}")
            made[style].kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=60s", timeout_s=70)
        return made[style]

    yield of
    for cluster in made.values():
        cluster.remove()


def picture(cluster: Cluster) -> dict[str, Any]:
    """What an exercise may change and its reset must take back."""
    nodes = cluster.kubectl.json("get", "nodes")["items"]
    files = "find /etc/kubernetes /etc/systemd/system /etc/apt/sources.list.d /var/lib/kubelet/*.yaml -type f | grep -v '/pki/\\|/tmp/' | sort | xargs md5sum"
    return {
        **{f"{machine} files": cluster.typed(machine, files).splitlines() for machine in ("controlplane", "node01", "node02")},
        "schedulable": {node["metadata"]["name"]: not node["spec"].get("unschedulable", False) for node in nodes},
        "taints": {node["metadata"]["name"]: sorted(map(str, node["spec"].get("taints") or ())) for node in nodes},
        "opt": cluster.typed("controlplane", "ls /opt"),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key])


def findings(cluster: Cluster) -> list[str]:
    return [finding["id"] for finding in json.loads(cluster.run("doctor", "-o", "json").stdout)["findings"]]


@pytest.mark.parametrize(("style", "name"), CASES)
def test_the_solution_of_an_exercise_satisfies_its_checks(labs: Callable[[str], Cluster], style: str, name: str) -> None:
    lab, one = labs(style), EXERCISES[name]
    before = picture(lab)
    try:
        assert one.task in lab("lab", "start", name)
        done = lab.run("lab", "check")
        assert done.returncode == 1, done.stdout + done.stderr
        assert any(f"  - {check.missing}\n" in done.stdout for check in one.checks)
        if one.doctor and style == "kubeadm":  # of units the doctor reads less than of manifests
            eventually(lambda: findings(lab), lambda found: one.doctor in found, timeout_s=60)
        assert f"{name}: done ({len(one.checks)} of {len(one.checks)})" in lab("lab", "solve")
    finally:
        lab("lab", "reset", name)
    eventually(lambda: differences(before, picture(lab)), lambda text: not text, timeout_s=40, what="the cluster is as before")


def test_one_exercise_at_a_time(labs: Callable[[str], Cluster]) -> None:
    lab = labs("systemd")
    lab("lab", "start", "taint")
    try:
        refused = lab.run("lab", "start", "quota")
        assert refused.returncode == 1
        assert 'exercise "taint" is under way' in refused.stderr
        assert lab("lab", "hint").startswith("hint 1 of ")
        assert lab("lab", "hint").startswith("hint 2 of ")
        assert 'exercise "tain" not found; did you mean taint' in lab.run("lab", "check", "tain").stderr
    finally:
        lab("lab", "reset", "taint")
