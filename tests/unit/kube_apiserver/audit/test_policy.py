"""Which requests a policy records, at which level and stages, and what it says of a policy that is wrong."""

from typing import Any

import pytest
import yaml

from kubette.kube_apiserver.audit import policy
from kubette.kube_apiserver.audit.policy import Level
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo

ANN = UserInfo("ann", groups=("developers", "system:authenticated"))


def load(*rules: dict[str, Any], **more: Any) -> policy.Policy:
    return policy.load({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more})[0]


def pods(
    verb: str = "get", subresource: str = "", namespace: str = "default", name: str = "web", user: UserInfo = ANN, group: str = ""
) -> AuthzAttributes:
    return AuthzAttributes(user, verb, group, "v1", "pods", subresource, namespace, name)


def path(url: str) -> AuthzAttributes:
    return AuthzAttributes(ANN, "get", path=url, is_resource=False)


def test_the_first_rule_that_matches_decides() -> None:
    made = load({"level": "None", "verbs": ["get"]}, {"level": "Request", "users": ["ann"]}, {"level": "Metadata"})
    assert made.evaluate(pods("get")).level is Level.NONE
    assert made.evaluate(pods("create")).level is Level.REQUEST
    assert made.evaluate(pods("create", user=UserInfo("bob"))).level is Level.METADATA


def test_what_no_rule_matches_is_not_recorded() -> None:
    assert load({"level": "Metadata", "users": ["bob"]}).evaluate(pods()).level is Level.NONE


@pytest.mark.parametrize(
    ("rule", "asked", "matches"),
    [
        ({"users": ["ann"]}, pods(), True),
        ({"users": ["bob"]}, pods(), False),
        ({"userGroups": ["testers", "developers"]}, pods(), True),
        ({"userGroups": ["testers"]}, pods(), False),
        ({"verbs": ["create", "delete"]}, pods("delete"), True),
        ({"verbs": ["create"]}, pods("delete"), False),
        ({"namespaces": ["default"]}, pods(), True),
        ({"namespaces": ["kube-system"]}, pods(), False),
        ({"namespaces": [""]}, pods(namespace=""), True),  # what is in no namespace
        ({"namespaces": ["default"]}, path("/version"), False),
        ({"resources": [{"group": ""}]}, pods(), True),
        ({"resources": [{"group": "apps"}]}, pods(), False),
        ({"resources": [{"resources": ["pods"]}]}, pods(), True),
        ({"resources": [{"resources": ["pods"]}]}, pods(subresource="log"), False),  # a subresource is not its resource
        ({"resources": [{"resources": ["pods/log"]}]}, pods(subresource="log"), True),
        ({"resources": [{"resources": ["pods/*"]}]}, pods(subresource="log"), True),
        ({"resources": [{"resources": ["*/log"]}]}, pods(subresource="log"), True),
        ({"resources": [{"resources": ["*/log"]}]}, pods(subresource="exec"), False),
        ({"resources": [{"resources": ["*"]}]}, pods(subresource="exec"), True),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["web"]}]}, pods(), True),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["db"]}]}, pods(), False),
        ({"resources": [{"resources": ["pods"]}]}, path("/version"), False),
        ({"nonResourceURLs": ["/healthz*"]}, path("/healthz/etcd"), True),
        ({"nonResourceURLs": ["/healthz"]}, path("/healthz/etcd"), False),
        ({"nonResourceURLs": ["*"]}, path("/version"), True),
        ({"nonResourceURLs": ["*"]}, pods(), False),
        ({}, path("/version"), True),
    ],
)
def test_a_rule_matches_by_all_of_its_fields(rule: dict[str, Any], asked: AuthzAttributes, matches: bool) -> None:
    assert (load({"level": "Metadata", **rule}).evaluate(asked).level is Level.METADATA) is matches


def test_who_is_not_known_is_no_user_of_a_rule() -> None:
    made = load({"level": "None", "users": [""]}, {"level": "None", "userGroups": ["system:authenticated"]}, {"level": "Metadata"})
    assert made.evaluate(pods(user=UserInfo("")), is_known=False).level is Level.METADATA


def test_stages_of_policy_and_rule_add_up_and_managed_fields_are_the_rules() -> None:
    made = load(
        {"level": "Request", "verbs": ["get"], "omitStages": ["ResponseStarted"], "omitManagedFields": False},
        {"level": "Request"},
        omitStages=["RequestReceived"],
        omitManagedFields=True,
    )
    assert made.evaluate(pods("get")) == policy.Outcome(Level.REQUEST, frozenset({"RequestReceived", "ResponseStarted"}), False)
    assert made.evaluate(pods("create")) == policy.Outcome(Level.REQUEST, frozenset({"RequestReceived"}), True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "unknown group version field audit.k8s.io/__internal, Kind=Policy in policy"),
        ("apiVersion: audit.k8s.io/v1\nkind: Policy", "loaded illegal policy with 0 rules"),
        ("", "loaded illegal policy with 0 rules"),
        (
            "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: Metadata}]",
            'failed decoding: no kind "Policy" is registered for version "audit.k8s.io/v1beta1"',
        ),
        ("rules: [{}]", "rules[0].level: Required value"),
        (
            "rules: [{level: FooBar}]",
            'rules[0].level: Unsupported value: "FooBar": supported values: "None", "Metadata", "Request", "RequestResponse"',
        ),
        (
            "rules: [{level: None}, {level: Metadata, omitStages: [Begin]}]",
            'rules[1].omitStages[0]: Invalid value: "Begin": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic',
        ),
        (
            "rules: [{level: None, nonResourceURLs: [logs]}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"logs\": non-resource URL rules must begin with a '/' character",
        ),
        (
            "rules: [{level: None, nonResourceURLs: ['/a/*/b']}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"/a/*/b\": non-resource URL wildcards '*' must be the final character of the rule",
        ),
        (
            "rules: [{level: None, nonResourceURLs: [/a], namespaces: [default]}]",
            'rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular resources and non-resource URLs',
        ),
        (
            "rules: [{level: None, resources: [{resourceNames: [web]}]}]",
            'rules[0].resources.resourceNames: Invalid value: ["web"]: using resourceNames requires at least one resource',
        ),
        (
            "rules: [{level: None, resources: [{group: rbac.authorization.k8s.io/v1}]}]",
            'rules[0].resources.group: Invalid value: "rbac.authorization',
        ),
        ("rules: [{}, {}]", "[rules[0].level: Required value, rules[1].level: Required value]"),
        (
            "rules: [{level: None, users: ann}]",
            "failed decoding: json: cannot unmarshal string into Go struct field PolicyRule.users of type []string",
        ),
        ("rules: {level: None}", "failed decoding: json: cannot unmarshal object into Go struct field Policy.rules of type []object"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_in_upstreams_words(text: str, complaint: str) -> None:
    document = yaml.safe_load(text if not text.startswith("rules") else f"apiVersion: audit.k8s.io/v1\nkind: Policy\n{text}")
    with pytest.raises(policy.PolicyError) as refused:
        policy.load(document)
    assert complaint in str(refused.value)


def test_a_field_nobody_knows_is_left_out_with_a_warning() -> None:
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata", "user": ["ann"]}], "rule": []}
    made, unknown = policy.load(document)
    assert len(made.rules) == 1
    assert policy.lenient_warning(unknown) == (
        'Audit policy contains errors, falling back to lenient decoding: strict decoding error: unknown field "rule", unknown field "rules[0].user"'
    )
