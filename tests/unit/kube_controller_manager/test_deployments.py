"""Deployments and ReplicaSets as stories: the pure plans against a small model of the API server and perfect kubelets."""

import copy
from typing import Any

import pytest

from kubette.kube_controller_manager.deployment import conditions, plan, replica_sets, scaling
from kubette.kube_controller_manager.replicaset import plan as rs_plan

Object = dict[str, Any]
NOW = 1_800_000_000.0


def deployment(replicas: int = 3, image: str = "nginx:1", **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": {},
    }


class World:
    """ReplicaSets reach their size at once unless `stuck` names their image; every step is checked for availability."""

    def __init__(self, obj: Object) -> None:
        self.deployment, self.sets, self.stuck = obj, [], set()
        self.log: list[str] = []
        self.clock = NOW
        self.min_available = 0

    def image(self, rs: Object) -> str:
        return str(rs["spec"]["template"]["spec"]["containers"][0]["image"])

    def settle(self) -> None:
        for rs in self.sets:
            size = rs["spec"]["replicas"]
            ready = 0 if self.image(rs) in self.stuck else size
            rs["status"] = {"replicas": size, "readyReplicas": ready, "availableReplicas": ready, "observedGeneration": 1}

    def step(self) -> bool:
        """One plan carried out; answers whether it changed anything."""
        frozen = copy.deepcopy((self.deployment, self.sets))
        decided = plan.plan_deployment(self.deployment, self.sets, [], self.clock)
        assert (self.deployment, self.sets) == frozen, "a plan must not change cached objects"
        changed = bool(decided.create or decided.resize or decided.delete or decided.revision)
        if decided.create:
            rs = copy.deepcopy(decided.create)
            rs["metadata"] |= {"uid": rs["metadata"]["name"], "creationTimestamp": f"2026-01-01T00:00:{len(self.sets):02d}Z", "generation": 1}
            self.sets.append(rs)
            self.log.append(f"create {self.image(rs)} {rs['spec']['replicas']}")
        for change in decided.resize:
            rs = next(r for r in self.sets if r["metadata"]["uid"] == change.replica_set["metadata"]["uid"])
            if rs["spec"]["replicas"] != change.replicas:
                self.log.append(f"{self.image(rs)} {rs['spec']['replicas']}>{change.replicas}")
            rs["spec"]["replicas"] = change.replicas
            rs["metadata"]["annotations"] = dict(change.annotations)
        for doomed in decided.delete:
            self.sets = [r for r in self.sets if r["metadata"]["uid"] != doomed["metadata"]["uid"]]
        if decided.revision:
            self.deployment["metadata"].setdefault("annotations", {})[replica_sets.REVISION] = decided.revision
        changed |= decided.status != self.deployment["status"]
        self.deployment["status"] = decided.status
        self.settle()
        return changed

    def run(self) -> list[str]:
        self.log.clear()
        for _ in range(100):
            available = sum(r["status"]["availableReplicas"] for r in self.sets if "status" in r)
            assert available >= self.min_available, f"only {available} available: {self.log}"
            self.clock += 1
            if not self.step():
                return list(self.log)
        raise AssertionError(f"does not come to rest: {self.log}")

    def set_image(self, image: str) -> None:
        self.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
        self.deployment["metadata"]["generation"] += 1

    def progress(self) -> tuple[str, str]:
        found = next(c for c in self.deployment["status"]["conditions"] if c["type"] == "Progressing")
        return found["status"], found["reason"]


def test_a_new_deployment_creates_one_set_and_becomes_available() -> None:
    world = World(deployment())
    assert world.run() == ["create nginx:1 3"]
    assert world.deployment["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
    assert world.progress() == ("True", "NewReplicaSetAvailable")
    labels = world.sets[0]["spec"]["template"]["metadata"]["labels"]
    assert world.sets[0]["metadata"]["name"] == f"web-{labels['pod-template-hash']}"


def test_a_rolling_update_never_drops_below_what_must_be_available() -> None:
    world = World(deployment(replicas=4))
    world.run()
    world.set_image("nginx:2")
    world.min_available = 3
    assert world.run() == ["create nginx:2 1", "nginx:1 4>2", "nginx:2 1>3", "nginx:1 2>0", "nginx:2 3>4"]
    assert world.deployment["status"]["updatedReplicas"] == 4


def test_a_rollback_reuses_the_old_set_under_a_new_revision() -> None:
    world = World(deployment())
    world.run()
    world.set_image("nginx:2")
    world.run()
    world.set_image("nginx:1")
    world.run()
    assert len(world.sets) == 2
    annotations = world.sets[0]["metadata"]["annotations"]
    assert annotations[replica_sets.REVISION] == "3"
    assert annotations[replica_sets.REVISION_HISTORY] == "1"
    assert [r["spec"]["replicas"] for r in world.sets] == [3, 0]


def test_an_update_that_never_gets_ready_stops_and_times_out() -> None:
    world = World(deployment(replicas=4))
    world.run()
    world.stuck.add("broken")
    world.set_image("broken")
    world.min_available = 3
    world.run()
    assert {world.image(r): r["spec"]["replicas"] for r in world.sets} == {"nginx:1": 3, "broken": 2}
    world.clock += 601
    world.step()
    assert world.progress() == ("False", "ProgressDeadlineExceeded")
    message = next(c for c in world.deployment["status"]["conditions"] if c["type"] == "Progressing")["message"]
    assert message == f'ReplicaSet "{world.sets[1]["metadata"]["name"]}" has timed out progressing.'


def test_recreate_waits_for_the_old_pods_to_end() -> None:
    world = World(deployment(strategy={"type": "Recreate"}))
    world.run()
    world.set_image("nginx:2")
    world.step()
    assert world.log[-1] == "nginx:1 3>0"
    old = world.sets[0]
    ref = {"controller": True, "kind": "ReplicaSet", "uid": old["metadata"]["uid"], "name": old["metadata"]["name"]}
    still_there = [{"metadata": {"name": "p", "ownerReferences": [ref], "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}}]
    assert plan.plan_deployment(world.deployment, world.sets, still_there, NOW).create is None
    assert plan.plan_deployment(world.deployment, world.sets, [], NOW).create is not None


def test_scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() -> None:
    world = World(deployment(replicas=10))
    world.run()
    world.stuck.add("nginx:2")
    world.set_image("nginx:2")
    world.run()
    before = {world.image(r): r["spec"]["replicas"] for r in world.sets}
    world.deployment["spec"]["replicas"] = 20
    decided = plan.plan_deployment(world.deployment, world.sets, [], NOW)
    after = {world.image(c.replica_set): c.replicas for c in decided.resize}
    assert sum(after.values()) == 20 + 5  # 25% surge, rounded up
    assert all(after[image] > before[image] for image in before)


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World(deployment())
    world.run()
    world.deployment["spec"]["paused"] = True
    world.set_image("nginx:2")
    world.deployment["spec"]["replicas"] = 5
    assert world.run() == ["nginx:1 3>5"]
    assert world.progress() == ("Unknown", "DeploymentPaused")


def test_old_sets_beyond_the_history_limit_go_when_the_rollout_is_complete() -> None:
    world = World(deployment(revisionHistoryLimit=1))
    for number in range(1, 5):
        world.set_image(f"nginx:{number}")
        world.run()
    assert [world.image(r) for r in world.sets] == ["nginx:3", "nginx:4"]


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "resolved"),
    [(4, "25%", "25%", (1, 1)), (3, "25%", "25%", (1, 0)), (1, 0, 0, (0, 1)), (10, "50%", 2, (5, 2)), (2, 0, "10%", (0, 1))],
)
def test_fenceposts(replicas: int, surge: int | str, unavailable: int | str, resolved: tuple[int, int]) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    assert replica_sets.resolve_fenceposts(deployment(replicas, strategy=strategy)) == resolved


def test_the_hash_depends_on_the_template_and_the_collision_count_alone() -> None:
    template = deployment()["spec"]["template"]
    reordered = dict(reversed(template.items()))
    assert replica_sets.template_hash(template, None) == replica_sets.template_hash(reordered, None)
    assert replica_sets.template_hash(template, 1) != replica_sets.template_hash(template, None)
    assert scaling.is_rolling(deployment())
    assert conditions.has_deadline(deployment())


def pod(name: str, phase: str = "Running", ready: bool = True, node: str = "n1", since: str = "2026-01-01T00:00:00Z", cost: str = "") -> Object:
    metadata: Object = {"name": name, "creationTimestamp": since}
    if cost:
        metadata["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    return {"metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": {"phase": phase, "conditions": [condition]}}


def test_a_replica_set_deletes_the_least_useful_pods_first() -> None:
    pods = [
        pod("old", since="2025-01-01T00:00:00Z"),
        pod("cheap", cost="-5"),
        pod("unready", ready=False),
        pod("pending", phase="Pending", ready=False),
        pod("unassigned", phase="Pending", ready=False, node=""),
        pod("roomy", node="n2"),
        pod("roomy-too", node="n2"),
    ]
    rs = {"spec": {"replicas": 0}}
    order = [p["metadata"]["name"] for p in rs_plan.plan_replicas(rs, pods, pods, NOW).delete]
    # All on n1 but two: of the ready ones those on the crowded node go first, however old they are.
    assert order == ["unassigned", "pending", "unready", "cheap", "old", "roomy", "roomy-too"]
    assert rs_plan.plan_replicas({"spec": {"replicas": 9}}, pods, pods, NOW).create == 2
