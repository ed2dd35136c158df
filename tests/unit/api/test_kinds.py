"""The table of kinds."""

from kubette.api import conversions, releases
from kubette.api.kinds import KindTable
from kubette.apimachinery.gvk import GroupVersion
from kubette.apimachinery.schema import Schemas


def test_every_kind_of_every_release_line_has_a_schema() -> None:
    for minor in (releases.OLDEST_MINOR, releases.NEWEST_MINOR):
        schemas = Schemas.load(f"v1.{minor}")
        assert [kind.gvk for kind in KindTable(minor).kinds if schemas.for_gvk(*kind.gvk) is None] == []


def test_keys_are_upstreams() -> None:
    table = KindTable(37)
    keys = {name: table.find(name) for name in ("pods", "nodes", "svc", "ep", "rc", "apiservices", "deploy", "ing")}
    assert {name: kind.storage_key("ns", "x") for name, kind in keys.items() if kind} == {
        "pods": "/registry/pods/ns/x",
        "nodes": "/registry/minions/x",
        "svc": "/registry/services/specs/ns/x",
        "ep": "/registry/services/endpoints/ns/x",
        "rc": "/registry/controllers/ns/x",
        "apiservices": "/registry/apiregistration.k8s.io/apiservices/x",
        "deploy": "/registry/deployments/ns/x",
        "ing": "/registry/ingress/ns/x",
    }


def test_a_release_serves_what_it_had() -> None:
    assert KindTable(32).find("servicecidrs") is None
    assert KindTable(33).find("servicecidrs") is not None


def test_conversions_lose_nothing() -> None:
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            ],
        },
        "status": {},
    }
    old = conversions.convert(hpa, GroupVersion("autoscaling", "v1"))
    assert old["spec"]["targetCPUUtilizationPercentage"] == 80
    assert conversions.convert(old, GroupVersion("autoscaling", "v2")) == hpa
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {}, "involvedObject": {"name": "x"}, "message": "m", "count": 2}
    new = conversions.convert(event, GroupVersion("events.k8s.io", "v1"))
    assert (new["regarding"], new["note"], new["deprecatedCount"]) == ({"name": "x"}, "m", 2)
    assert conversions.convert(new, GroupVersion("", "v1")) == event
