"""What paths mean."""

import pytest

from kubette.kube_apiserver import request_info


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "", "pods", "", "")),
        ("GET", "/api/v1/pods", {"watch": "1"}, ("watch", "", "pods", "", "")),
        ("GET", "/api/v1/pods", {"watch": "false"}, ("list", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces/d/pods/web/log", {}, ("get", "d", "pods", "web", "log")),
        ("POST", "/api/v1/namespaces/d/pods", {}, ("create", "d", "pods", "", "")),
        ("DELETE", "/api/v1/namespaces/d/pods", {}, ("deletecollection", "d", "pods", "", "")),
        ("DELETE", "/api/v1/namespaces/d/pods/web", {}, ("delete", "d", "pods", "web", "")),
        ("PATCH", "/apis/apps/v1/namespaces/d/deployments/web/scale", {}, ("patch", "d", "deployments", "web", "scale")),
        ("GET", "/api/v1/namespaces/d", {}, ("get", "d", "namespaces", "d", "")),
        ("PUT", "/api/v1/namespaces/d/finalize", {}, ("update", "d", "namespaces", "d", "finalize")),
        ("GET", "/api/v1/watch/namespaces/d/pods", {}, ("watch", "d", "pods", "", "")),
    ],
)
def test_resource_paths(method: str, path: str, query: dict[str, str], expected: tuple[str, ...]) -> None:
    info = request_info.resolve(method, path, query)
    assert info.is_resource
    assert (info.verb, info.namespace, info.resource, info.name, info.subresource) == expected


@pytest.mark.parametrize(
    "path", ["/", "/version", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/etcd", "/api/v1/namespaces/d/pods/a/b/c/d"]
)
def test_other_paths_are_not_resources(path: str) -> None:
    assert not request_info.resolve("GET", path, {}).is_resource


def test_an_encoded_slash_stays_inside_its_segment() -> None:
    info = request_info.resolve("GET", "/api/v1/namespaces/d/pods/a%2Fb", {})
    assert (info.name, info.subresource) == ("a/b", "")


def test_proxy_keeps_what_follows() -> None:
    info = request_info.resolve("GET", "/api/v1/namespaces/d/services/web:80/proxy/metrics/x", {})
    assert (info.subresource, info.tail) == ("proxy", "/metrics/x")
