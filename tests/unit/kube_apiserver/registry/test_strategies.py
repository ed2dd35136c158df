"""Defaults, preparation, validation and printing of the kinds a cluster lives on."""

from typing import Any

import pytest

from kubette.api.kinds import KindTable
from kubette.kube_apiserver import discovery, openapi
from kubette.kube_apiserver.registry.strategies import strategy_for
from kubette.kube_apiserver.registry.strategy import Context, Strategy

TABLE = KindTable(37)
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def strategy(name: str) -> Strategy:
    kind = TABLE.find(name)
    assert kind is not None
    return strategy_for(kind)


def made(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    found = strategy(name)
    obj.setdefault("metadata", {"name": "x", "namespace": "default", "uid": "u"})
    found.default(obj)
    found.prepare_for_create(obj, Context(now="2026-01-01T00:00:00Z"))
    return obj


def pod(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": "nginx", **container}]}}


def complaints(name: str, obj: dict[str, Any]) -> list[str]:
    return [str(error) for error in strategy(name).validate(obj)]


def test_a_pod_gets_upstreams_defaults() -> None:
    spec = made("pods", pod(resources={"limits": {"cpu": "1", "memory": "1Gi"}}, livenessProbe={"httpGet": {"port": 80}}))
    assert spec["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}
    container = spec["spec"].pop("containers")[0]
    assert spec["spec"] == {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert container["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_a_tag_decides_the_pull_policy() -> None:
    policies = [
        made("pods", pod(image=image))["spec"]["containers"][0]["imagePullPolicy"] for image in ("a:1", "a", "r:5000/a", "a@sha256:1", "a:latest")
    ]
    assert policies == ["IfNotPresent", "Always", "Always", "IfNotPresent", "Always"]


@pytest.mark.parametrize(
    ("container", "complaint"),
    [
        ({"name": "A"}, 'spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label'),
        ({"image": ""}, "spec.containers[0].image: Required value"),
        (
            {"ports": [{"containerPort": 70000}]},
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            'spec.containers[0].resources.requests[cpu]: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        ({"volumeMounts": [{"name": "q", "mountPath": "/x"}]}, 'spec.containers[0].volumeMounts[0].name: Not found: "q"'),
        ({"livenessProbe": {}}, "spec.containers[0].livenessProbe: Required value: must specify a handler type"),
    ],
)
def test_a_bad_container_is_named_in_upstreams_words(container: dict[str, Any], complaint: str) -> None:
    found = complaints("pods", made("pods", pod(**container)))
    assert len(found) == 1
    assert found[0].startswith(complaint)


def test_a_pod_may_change_its_image_and_little_else() -> None:
    old = made("pods", pod())
    old["metadata"]["resourceVersion"] = "1"
    new = made("pods", pod(image="nginx:2", imagePullPolicy="Always"))
    new["metadata"]["resourceVersion"] = "1"
    assert strategy("pods").validate_update(new, old) == []
    new["spec"]["hostNetwork"] = True
    [error] = strategy("pods").validate_update(new, old)
    assert str(error).startswith("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    return {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}}


def test_a_deployment_keeps_status_and_counts_generations() -> None:
    deployments = strategy("deployments")
    old = made("deployments", deployment())
    assert old["metadata"]["generation"] == 1
    assert old["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    old["status"] = {"replicas": 1}
    new = made("deployments", deployment(replicas=3))
    deployments.prepare_for_update(new, old)
    assert (new["metadata"]["generation"], new["status"]) == (2, {"replicas": 1})
    new["status"] = {"replicas": 3}
    changed = {**new, "spec": {"replicas": 9}, "metadata": dict(new["metadata"])}
    deployments.prepare_for_update(changed, new, "status")
    assert changed["spec"]["replicas"] == 3
    assert changed["metadata"]["generation"] == 2


def test_a_selector_must_match_and_never_changes() -> None:
    [text] = complaints("deployments", made("deployments", deployment(selector={"matchLabels": {"x": "y"}})))
    assert text == 'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`'
    old, new = made("deployments", deployment()), made("deployments", deployment())
    new["metadata"] = {**new["metadata"], "resourceVersion": "1"}
    new["spec"]["selector"] = {"matchLabels": {"a": "b", "c": "d"}}
    new["spec"]["template"]["metadata"]["labels"] = {"a": "b", "c": "d"}
    [error] = strategy("deployments").validate_update(new, old)
    assert error.detail == "field is immutable"


def test_a_service_keeps_its_addresses_when_an_update_forgets_them() -> None:
    services = strategy("services")
    old = made("services", {"spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    old["spec"].update(clusterIP="10.96.0.7", clusterIPs=["10.96.0.7"])
    old["spec"]["ports"][0]["nodePort"] = 30080
    new = made("services", {"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "name": "b"}]}})
    services.prepare_for_update(new, old)
    assert new["spec"]["clusterIP"] == "10.96.0.7"
    assert [port.get("nodePort") for port in new["spec"]["ports"]] == [30080, None]
    plain = made("services", {"spec": {"ports": [{"port": 80, "nodePort": 30080}]}})
    services.prepare_for_update(plain, old)
    assert "nodePort" not in plain["spec"]["ports"][0]


def test_a_job_selects_its_pods_by_its_uid() -> None:
    job = made("jobs", {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}})
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert job["spec"]["template"]["metadata"]["labels"]["job-name"] == "x"
    assert complaints("jobs", job) == []


@pytest.mark.parametrize(
    ("status", "extra", "expected"),
    [
        ({"phase": "Pending"}, {}, ("0/1", "Pending", "0")),
        ({"phase": "Running", "containerStatuses": [{"ready": True, "state": {"running": {}}}]}, {}, ("1/1", "Running", "0")),
        ({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, {}, ("0/1", "ContainerCreating", "0")),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"finishedAt": "2025-12-31T23:55:00Z"}},
                    }
                ],
            },
            {},
            ("0/1", "CrashLoopBackOff", "3 (5m ago)"),
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]},
            {},
            ("0/1", "Completed", "0"),
        ),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}, {}, ("0/1", "ExitCode:3", "0")),
        ({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}, {}, ("0/1", "Init:0/1", "0")),
        ({"phase": "Running"}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, ("0/1", "Terminating", "0")),
    ],
)
def test_a_pods_row_reads_as_kubectl_get_prints_it(status: dict[str, Any], extra: dict[str, Any], expected: tuple[str, str, str]) -> None:
    obj = {"metadata": {"name": "x", "creationTimestamp": "2025-12-31T23:50:00Z", **extra}, **pod(), "status": status}
    if "initContainerStatuses" in status:
        obj["spec"]["initContainers"] = [{"name": "i"}]
    columns, [row] = strategy("pods").table([obj], NOW)
    cells = dict(zip([column["name"] for column in columns], row["cells"], strict=True))
    assert (cells["Ready"], cells["Status"], cells["Restarts"]) == expected
    assert (cells["Age"], cells["IP"]) == ("10m", "<none>")


def test_every_kind_prints_as_many_cells_as_it_has_columns() -> None:
    for kind in TABLE.storage_kinds():
        columns, [row] = strategy_for(kind).table([{"metadata": {"name": "x"}}], NOW)
        assert len(columns) == len(row["cells"]), kind.resource


def test_discovery_knows_pods_as_upstream_does() -> None:
    documents = discovery.Discovery(TABLE)
    plain = documents.document("/api/v1")
    assert plain is not None
    assert b'"storageVersionHash":"xPOwRZ+Yhw8="' in plain.body
    aggregated = documents.document("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")
    assert aggregated is not None
    assert aggregated.content_type.endswith("as=APIGroupDiscoveryList")
    assert aggregated.etag
    assert documents.document("/apis/nonsense/v1") is None


def test_openapi_describes_a_patch_with_field_validation() -> None:
    import orjson

    documents = openapi.OpenAPI(TABLE, "v1.37.0")
    found = documents.v3("apis/coordination.k8s.io/v1")
    assert found is not None
    doc = orjson.loads(found.body)
    operation = doc["paths"]["/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"]["patch"]
    assert operation["x-kubernetes-group-version-kind"] == {"group": "coordination.k8s.io", "version": "v1", "kind": "Lease"}
    assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}
    assert doc["components"]["schemas"]["io.k8s.api.coordination.v1.LeaseSpec"]["properties"]["holderIdentity"]["type"] == "string"
