"""Claims and volumes: which volume a claim gets, what becomes of both, and what the scheduler makes of it. Stories of the pure parts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.api import volumes
from kubette.apimachinery import quantity
from kubette.kube_controller_manager.persistent_volumes import plan, recycler
from kubette.kube_scheduler.framework import FitError, Profile, Snapshot, Storage
from kubette.kube_scheduler.node_info import NodeInfo
from kubette.kube_scheduler.plugins import volume_binding

Object = dict[str, Any]


def volume(name: str, size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), phase: str = "Available", **spec: Any) -> Object:
    body = {"capacity": {"storage": size}, "accessModes": list(modes), "hostPath": {"path": f"/tmp/{name}"}, "volumeMode": "Filesystem", **spec}
    return {"metadata": {"name": name, "resourceVersion": "1"}, "spec": body, "status": {"phase": phase}}


def claim(name: str = "data", size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any) -> Object:
    body = {"resources": {"requests": {"storage": size}}, "accessModes": list(modes), "volumeMode": "Filesystem", **spec}
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"}, "spec": body, "status": {"phase": "Pending"}}


def pod_with(name: str) -> Object:
    mounts = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]
    return {"metadata": {"name": "db", "namespace": "default"}, "spec": {"volumes": mounts, "containers": []}}


def reference_to(one: Object) -> Object:
    return {"namespace": "default", "name": one["metadata"]["name"], "uid": one["metadata"]["uid"]}


def test_the_smallest_volume_that_will_do_is_taken() -> None:
    shelf = [volume("big", "5Gi"), volume("small", "500Mi"), volume("right", "2Gi"), volume("other-mode", "1Gi", ("ReadOnlyMany",))]
    step = plan.for_claim(claim(), plan.World(shelf))
    assert (step.phase, step.volume) == ("Bound", shelf[2])


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (volume("v", storageClassName="fast"), "storageClassName does not match"),
        (volume("v", volumeMode="Block"), "incompatible volumeMode"),
        (volume("v", size="1Mi"), "requested PV is too small"),
        (volume("v", modes=("ReadOnlyMany",)), "incompatible accessMode"),
    ],
)
def test_a_volume_that_will_not_do_is_named_when_it_was_asked_for(candidate: Object, why: str) -> None:
    assert plan.for_claim(claim(), plan.World([candidate])).volume is None
    step = plan.for_claim(claim(volumeName="v"), plan.World([candidate]))
    assert step.told == plan.Told("Warning", "VolumeMismatch", f'Cannot bind to requested volume "v": {why}')


def test_labels_choose_and_what_is_not_free_is_left_alone() -> None:
    marked = volume("marked")
    marked["metadata"]["labels"] = {"disk": "ssd"}
    shelf = [volume("plain"), marked, volume("released", phase="Released"), volume("taken", claimRef=reference_to(claim("other")))]
    assert plan.for_claim(claim(selector={"matchLabels": {"disk": "ssd"}}), plan.World(shelf)).volume is marked
    assert plan.for_claim(claim(), plan.World(shelf[2:])).told == plan.Told(
        "Normal", "FailedBinding", "no persistent volumes available for this claim and no storage class is set"
    )


def test_a_volume_made_for_a_claim_waits_for_it_and_nobody_else() -> None:
    kept = volume("kept", "9Gi", claimRef={"namespace": "default", "name": "data"})
    shelf = [volume("right"), kept]
    assert plan.for_claim(claim(), plan.World(shelf)).volume is kept
    assert plan.for_claim(claim("another"), plan.World([kept])).volume is None
    assert plan.for_volume(kept, None) == plan.VolumeStep("Available", asks="default/data")


def test_a_class_that_nobody_here_provisions_says_who_should() -> None:
    wanted = claim(storageClassName="fast")
    assert plan.for_claim(wanted, plan.World([])).told == plan.Told("Warning", "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    step = plan.for_claim(wanted, plan.World([], {"fast": {"metadata": {"name": "fast"}, "provisioner": "example.com/nfs"}}))
    assert step.provisioner == "example.com/nfs"
    assert step.told is not None
    assert step.told.reason == "ExternalProvisioning"


def test_a_bound_claim_that_loses_its_volume_is_lost() -> None:
    bound = plan.claim_bound_to(claim(), volume("v"))
    assert plan.for_claim(bound, plan.World([])) == plan.ClaimStep("Lost", told=plan.Told("Warning", "ClaimLost", plan.LOST_VOLUME))
    thief = volume("v", claimRef=reference_to(claim("thief")))
    assert plan.for_claim(bound, plan.World([thief])).told == plan.Told("Warning", "ClaimMisbound", plan.MISBOUND)


def test_the_life_of_a_volume() -> None:
    mine, free = claim(), volume("v")
    assert plan.for_volume(free, None).phase == "Available"
    kept = volumes.reserved_for(free, mine)
    assert kept["metadata"]["annotations"] == {volumes.BOUND_BY_CONTROLLER: "yes"}
    # The claim does not know yet: its turn.
    assert plan.for_volume(kept, mine) == plan.VolumeStep("Available", asks="default/data")
    bound = plan.claim_bound_to(mine, kept)
    assert plan.for_volume(kept, bound).phase == "Bound"
    assert plan.claim_status(bound, kept)["capacity"] == {"storage": "1Gi"}
    # The claim goes, and one of the same name that comes later is another.
    assert plan.for_volume(kept, None) == plan.VolumeStep("Released", reclaims=True)
    assert plan.for_volume(kept, {**mine, "metadata": {**mine["metadata"], "uid": "later"}}) == plan.VolumeStep("Released", reclaims=True)
    # A claim that took another volume sets this one free.
    elsewhere = plan.claim_bound_to(mine, volume("w"))
    step = plan.for_volume(kept, elsewhere)
    assert step.unreserved is not None
    assert "claimRef" not in step.unreserved["spec"]


def test_what_delete_and_recycle_can_do() -> None:
    assert plan.disposal(volume("v")) == "/tmp/v"
    with pytest.raises(ValueError, match=r"host_path deleter only supports /tmp/\.\+ but received provided /data"):
        plan.disposal(volume("v", hostPath={"path": "/data"}))
    with pytest.raises(ValueError, match="host_path deleter only supports"):
        plan.disposal(volume("v", hostPath={"path": "/tmp/../etc"}))
    local = {k: v for k, v in volume("v")["spec"].items() if k != "hostPath"} | {"local": {"path": "/mnt"}}
    with pytest.raises(ValueError, match="no deletable volume plugin matched"):
        plan.disposal({"metadata": {"name": "v"}, "spec": local})
    assert recycler.pod_for(volume("v"))["spec"]["volumes"][0]["hostPath"] == {"path": "/tmp/v"}


@given(st.lists(st.integers(1, 9), max_size=5), st.integers(1, 9))
def test_no_claim_gets_less_than_it_asked_for_or_more_than_it_must(sizes: list[int], wanted: int) -> None:
    shelf = [volume(f"v{i}", f"{size}Gi") for i, size in enumerate(sizes)]
    found = volumes.best_match(claim(size=f"{wanted}Gi"), shelf)
    enough = [size for size in sizes if size >= wanted]
    assert (found is None) == (not enough)
    if found is not None:
        assert quantity.parse(found["spec"]["capacity"]["storage"]) == quantity.parse(f"{min(enough)}Gi")


# The scheduler


def node(name: str) -> NodeInfo:
    return NodeInfo({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {}, "status": {"allocatable": {"pods": "9"}}})


def on(name: str) -> Object:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


def storage(claims: list[Object], shelf: list[Object], *classes: Object) -> Storage:
    return Storage(
        {f"default/{one['metadata']['name']}": one for one in claims},
        {one["metadata"]["name"]: one for one in shelf},
        {one["metadata"]["name"]: one for one in classes},
    )


def feasible(pod: Object, place: Storage) -> tuple[list[str], str]:
    snapshot = Snapshot([node("node01"), node("node02")], storage=place)
    try:
        return [one.name for one in Profile((volume_binding.VolumeBinding(),), ()).feasible(pod, snapshot)], ""
    except FitError as error:
        return [], str(error)


LOCAL = {"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}


def test_a_pod_waits_for_claims_that_are_bound_without_it() -> None:
    pod = pod_with("data")
    assert feasible(pod, storage([], []))[1] == '0/2 nodes are available: persistentvolumeclaim "data" not found.'
    assert feasible(pod, storage([claim()], []))[1] == "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def test_a_bound_claim_ties_the_pod_to_where_its_volume_is() -> None:
    shelf = [volume("v", nodeAffinity=on("node02"))]
    bound = plan.claim_bound_to(claim(), shelf[0])
    assert feasible(pod_with("data"), storage([bound], shelf)) == (["node02"], "")
    nowhere = volume("v", nodeAffinity=on("node09"))
    assert feasible(pod_with("data"), storage([bound], [nowhere]))[1] == (
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."
    )


def test_a_claim_that_waits_for_its_consumer_is_given_a_volume_of_the_nodes() -> None:
    waiting = claim(storageClassName="local")
    shelf = [volume("here", storageClassName="local", nodeAffinity=on("node01"))]
    place = storage([waiting], shelf, LOCAL)
    assert feasible(pod_with("data"), place) == (["node01"], "")
    chosen = volume_binding.chosen(pod_with("data"), "node01", Snapshot([node("node01")], storage=place))
    assert chosen is not None
    assert [(c["metadata"]["name"], v["metadata"]["name"]) for c, v in chosen.reserve] == [("data", "here")]
    # The binder leaves it alone until then, and completes it afterwards.
    world = plan.World(shelf, {"local": LOCAL})
    assert plan.for_claim(waiting, world).told == plan.Told(
        "Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
    )
    kept = volumes.reserved_for(shelf[0], waiting)
    assert plan.for_claim(waiting, plan.World([kept], {"local": LOCAL})).volume is kept
    assert feasible(pod_with("data"), storage([waiting], [], LOCAL))[1] == (
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
    )


def test_two_claims_of_a_pod_do_not_share_a_volume() -> None:
    pod = pod_with("a")
    pod["spec"]["volumes"].append({"name": "b", "persistentVolumeClaim": {"claimName": "b"}})
    claims = [claim("a", storageClassName="local"), claim("b", storageClassName="local")]
    one, two = (volume(name, storageClassName="local") for name in ("one", "two"))
    assert feasible(pod, storage(claims, [one], LOCAL))[0] == []
    assert feasible(pod, storage(claims, [one, two], LOCAL))[0] == ["node01", "node02"]


def test_a_provisioner_is_told_the_node() -> None:
    fast = {"metadata": {"name": "fast"}, "provisioner": "example.com/disk", "volumeBindingMode": "WaitForFirstConsumer"}
    place = storage([claim(storageClassName="fast")], [], fast)
    chosen = volume_binding.chosen(pod_with("data"), "node02", Snapshot([node("node02")], storage=place))
    assert chosen is not None
    assert [one["metadata"]["name"] for one in chosen.provision] == ["data"]
