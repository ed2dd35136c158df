"""Typed decoding, patches, server-side apply: objects through their schemas."""

from typing import Any

import pytest

from kubette.apimachinery import apply, codec, field_errors, patch, status, validation
from kubette.apimachinery.schema import Schema, Schemas

TIME = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load("v1.37")


@pytest.fixture(scope="module")
def deployments(schemas: Schemas) -> Schema:
    found = schemas.for_gvk("apps", "v1", "Deployment")
    assert found is not None
    return found


def deployment(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "x:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}
    body = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": body}


def test_unknown_fields_are_dropped_and_named(deployments: Schema) -> None:
    obj = deployment(foo=1)
    obj["spec"]["template"]["spec"]["containers"][0]["imagge"] = "y"
    unknown = validation.conform(obj, deployments)
    assert unknown == ["spec.template.spec.containers[0].imagge", "spec.foo"] or set(unknown) == {
        "spec.foo",
        "spec.template.spec.containers[0].imagge",
    }
    assert "foo" not in obj["spec"]
    text = validation.strict_decoding_error(validation.strict_errors(["spec.foo"], ["spec.replicas"]))
    assert text == 'strict decoding error: duplicate field "spec.replicas", unknown field "spec.foo"'


def test_a_wrong_type_is_named_as_go_names_it(deployments: Schema) -> None:
    with pytest.raises(validation.DecodeError) as caught:
        validation.conform(deployment(replicas="two"), deployments)
    assert str(caught.value) == "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"


def test_decoding_canonicalises_quantities_and_leaves_out_nulls(schemas: Schemas) -> None:
    pod = {
        "metadata": {"creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
    }
    schema = schemas.for_gvk("", "v1", "Pod")
    assert schema is not None
    validation.conform(pod, schema)
    assert pod["metadata"] == {}
    assert pod["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m", "memory": "1Gi"}}  # type: ignore[index]


def test_duplicate_keys_are_found_with_their_path() -> None:
    assert codec.decode_object(b'{"a":[{"b":1,"b":2}]}', find_duplicates=True).duplicates == ("a[0].b",)


def test_yaml_is_read_as_json_would_be() -> None:
    assert codec.decode(b"a: 2020-01-01\nb: 0644\nc: yes\nd: null\n1: x\n", codec.YAML) == {
        "a": "2020-01-01",
        "b": 0o644,
        "c": True,
        "d": None,
        "1": "x",
    }
    with pytest.raises(codec.CodecError, match='key "a" already set in map'):
        codec.decode(b"a: 1\na: 2\n", codec.YAML)


def test_a_json_patch_works_or_says_why_not() -> None:
    doc = {"a": [1, 2], "b": {"c": 1}}
    assert patch.json_patch(doc, [{"op": "add", "path": "/a/-", "value": 3}, {"op": "remove", "path": "/b/c"}]) == {"a": [1, 2, 3], "b": {}}
    assert doc["b"] == {"c": 1}, "the argument is left alone"
    with pytest.raises(patch.PatchError, match="testing value /b/c failed"):
        patch.json_patch(doc, [{"op": "test", "path": "/b/c", "value": 2}])


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("original", "change", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
    ],
)
def test_merge_patch(original: Any, change: Any, result: Any) -> None:
    assert patch.merge_patch(original, change) == result


def test_strategic_merge_merges_lists_by_their_key(deployments: Schema) -> None:
    env = [{"name": "A", "$patch": "delete"}, {"name": "C", "value": "3"}]
    change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2", "env": env}, {"name": "d", "image": "y"}]}}}}
    merged = patch.strategic_merge_patch(deployment(), change, deployments)
    containers = merged["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in containers] == ["c", "d"]
    assert containers[0] == {"name": "c", "image": "x:2", "env": [{"name": "C", "value": "3"}, {"name": "B", "value": "2"}]}


def test_strategic_merge_obeys_its_directives(deployments: Schema) -> None:
    live = deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    live["metadata"]["finalizers"] = ["a/a", "a/b"]
    change = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"]},
        "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "template": {"$patch": "replace", "spec": {}}},
    }
    merged = patch.strategic_merge_patch(live, change, deployments)
    assert merged["metadata"]["finalizers"] == ["a/b"]
    assert merged["spec"]["strategy"] == {"type": "Recreate"}
    assert merged["spec"]["template"] == {"spec": {}}


def applied(live: dict[str, Any] | None, config: dict[str, Any], manager: str, schema: Schema, *, force: bool = False) -> dict[str, Any]:
    return apply.apply(live, config, manager, force, "apps/v1", TIME, schema)


def test_apply_removes_what_its_manager_no_longer_says(deployments: Schema) -> None:
    live = applied(None, deployment(), "one", deployments)
    config = deployment()
    del config["spec"]["replicas"]
    config["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "B", "value": "2"}]
    again = applied(live, config, "one", deployments)
    assert "replicas" not in again["spec"]
    assert again["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]


def test_apply_conflicts_with_an_updater_until_forced(deployments: Schema) -> None:
    live = deployment()
    apply.track_update(None, live, "kubectl-client-side-apply", "apps/v1", TIME, deployments)
    config = deployment(replicas=5)
    with pytest.raises(status.ApiError) as caught:
        applied(live, config, "two", deployments)
    assert caught.value.code == 409
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
    forced = applied(live, config, "two", deployments, force=True)
    assert forced["spec"]["replicas"] == 5
    owners = {entry["manager"]: entry["fieldsV1"] for entry in forced["metadata"]["managedFields"]}
    assert "f:replicas" in owners["two"]["f:spec"]
    assert "f:replicas" not in owners["kubectl-client-side-apply"]["f:spec"]


def test_an_update_takes_the_fields_it_changes(deployments: Schema) -> None:
    live = applied(None, deployment(), "one", deployments)
    new = validation.copy(live)
    new["spec"]["replicas"] = 3
    new["metadata"]["annotations"] = {"x": "y"}
    apply.track_update(live, new, "kubectl-scale", "apps/v1", TIME, deployments)
    entries = {entry["manager"]: entry for entry in new["metadata"]["managedFields"]}
    assert entries["kubectl-scale"]["fieldsV1"] == {"f:metadata": {"f:annotations": {".": {}, "f:x": {}}}, "f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in entries["one"]["fieldsV1"]["f:spec"]


def test_a_created_object_is_tracked_like_upstreams(deployments: Schema) -> None:
    live = deployment()
    live["metadata"]["labels"] = {"app": "web"}
    apply.track_update(None, live, "kubectl-create", "apps/v1", TIME, deployments)
    fields = live["metadata"]["managedFields"][0]["fieldsV1"]
    assert fields["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}
    assert fields["f:spec"]["f:selector"] == {}
    container = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert container["f:env"]['k:{"name":"A"}'] == {".": {}, "f:name": {}, "f:value": {}}


def test_invalid_lists_its_errors_as_kubectl_prints_them() -> None:
    errors = [field_errors.required("spec.a"), field_errors.invalid("spec.b", "x", "must be y")]
    error = status.invalid("Deployment.apps", "web", errors)
    assert error.message == 'Deployment.apps "web" is invalid: [spec.a: Required value, spec.b: Invalid value: "x": must be y]'
    assert error.details["causes"][0] == {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"}
    assert status.from_status(error.to_status()).to_status() == error.to_status()
