"""What is written down of a request."""

import json

import orjson

from kubette.kube_apiserver.audit import auditor, event
from kubette.kube_apiserver.audit.policy import Level
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo

ANN = UserInfo("ann", groups=("developers",), extra={"scopes": ("a",)})
CREATE = AuthzAttributes(ANN, "create", "apps", "v1", "deployments", "", "default")


def test_a_record_has_upstreams_fields_in_upstreams_order() -> None:
    record = event.head(Level.METADATA, "an-id", "/apis/apps/v1/namespaces/default/deployments?dryRun=All", CREATE, 1_700_000_000.25)
    record |= {"stage": "RequestReceived", "stageTimestamp": record["requestReceivedTimestamp"], "sourceIPs": ["10.0.0.1"]}
    line = event.json_line(record)
    assert line.endswith(b"}\n")
    assert list(json.loads(line).items()) == [
        ("kind", "Event"),
        ("apiVersion", "audit.k8s.io/v1"),
        ("level", "Metadata"),
        ("auditID", "an-id"),
        ("stage", "RequestReceived"),
        ("requestURI", "/apis/apps/v1/namespaces/default/deployments?dryRun=All"),
        ("verb", "create"),
        ("user", {"username": "ann", "groups": ["developers"], "extra": {"scopes": ["a"]}}),
        ("sourceIPs", ["10.0.0.1"]),
        ("objectRef", {"resource": "deployments", "namespace": "default", "apiGroup": "apps", "apiVersion": "v1"}),
        ("requestReceivedTimestamp", "2023-11-14T22:13:20.250000Z"),
        ("stageTimestamp", "2023-11-14T22:13:20.250000Z"),
    ]


def test_the_object_that_was_sent_names_what_the_path_does_not() -> None:
    reference = event.object_reference(CREATE)
    event.complete_reference(reference, {"metadata": {"name": "web", "namespace": "other", "uid": "u", "resourceVersion": "7"}})
    assert (reference["name"], reference["namespace"], reference["uid"], reference["resourceVersion"]) == ("web", "default", "u", "7")


def test_addresses_come_from_the_proxies_and_from_the_connection() -> None:
    assert event.source_ips({}, "10.0.0.9") == ["10.0.0.9"]
    headers = {"X-Forwarded-For": "1.1.1.1, 2.2.2.2", "X-Real-Ip": "3.3.3.3"}
    assert event.source_ips(headers, "10.0.0.9") == ["1.1.1.1", "2.2.2.2", "3.3.3.3", "10.0.0.9"]
    assert event.source_ips({"X-Forwarded-For": "1.1.1.1, 10.0.0.9"}, "10.0.0.9") == ["1.1.1.1", "10.0.0.9"]


def test_a_long_user_agent_is_cut() -> None:
    assert event.user_agent("x" * 1024) == "x" * 1024
    assert event.user_agent("x" * 1025) == "x" * 1024 + "...TRUNCATED"


def test_the_status_of_a_failure_is_recorded_and_of_an_object_its_code() -> None:
    refused = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403}
    assert event.response_status(403, orjson.dumps(refused)) == {
        "metadata": {},
        "status": "Failure",
        "message": "no",
        "reason": "Forbidden",
        "code": 403,
    }
    assert event.response_status(201, b'{"kind":"Pod","metadata":{"name":"web"}}') == {"metadata": {}, "code": 201}
    assert event.response_status(200, b'{"kind":"Status","status":"Success"}') == {"metadata": {}, "status": "Success", "code": 200}
    assert event.response_status(500, b"{not json") == {"metadata": {}, "code": 500}


def test_managed_fields_are_left_out_of_objects_lists_and_tables() -> None:
    one = {"kind": "Pod", "metadata": {"name": "web", "managedFields": [{}]}}
    bare = {"kind": "Pod", "metadata": {"name": "web"}}
    assert event.without_managed_fields(one) == bare
    assert event.without_managed_fields({"kind": "PodList", "items": [one]}) == {"kind": "PodList", "items": [bare]}
    assert event.without_managed_fields({"kind": "Table", "rows": [{"object": one}]}) == {"kind": "Table", "rows": [{"object": bare}]}
    assert one["metadata"] == {"name": "web", "managedFields": [{}]}


def test_the_legacy_line() -> None:
    record = event.head(Level.METADATA, "an-id", "/api/v1/pods", AuthzAttributes(ANN, "list", "", "v1", "pods"), 1_700_000_000.0)
    record |= {"stage": "ResponseComplete", "sourceIPs": ["10.0.0.1"], "responseStatus": {"metadata": {}, "code": 200}}
    assert event.legacy_line(record).decode() == (
        '2023-11-14T22:13:20.000000Z AUDIT: id="an-id" stage="ResponseComplete" ip="10.0.0.1" method="list" user="ann" groups="\\"developers\\"" '
        'as="<self>" asgroups="<lookup>" user-agent="" namespace="<none>" uri="/api/v1/pods" response="200"\n'
    )


def test_a_refused_client_is_told_by_what_it_tried() -> None:
    assert auditor.attempted({}, {}, False) == "Authentication failed, no credentials provided"
    assert (
        auditor.attempted({"Authorization": "Bearer x"}, {"access_token": "y"}, True)
        == "Authentication failed, attempted: bearer, access_token, x509"
    )
