"""Flags: what contradicts itself is refused at once, all faults together."""

import pytest

from kubette.component_base import flags
from kubette.component_base.run import StartupError
from kubette.kube_apiserver import config

GOOD = ["--etcd-servers=http://127.0.0.1:2379", "--service-cluster-ip-range=10.96.0.0/12"]


def load(*argv: str) -> config.Config:
    return config.load(config.flag_set().parse([*GOOD, *argv]))


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--authorization-mode=RBAC,Foo"], '"Foo" is not a valid mode'),
        (["--authorization-mode=RBAC,RBAC"], "more than once"),
        (["--service-cluster-ip-range=10.96.0.0/99"], "invalid CIDR"),
        (["--service-node-port-range=5-3"], "service-node-port-range"),
        (["--apiserver-count=0"], "--apiserver-count should be a positive number, but value '0' provided"),
        (["--tls-cert-file=x"], "must be specified together"),
        (["--storage-backend=etcd2"], "etcd3"),
        (["--client-ca-file=/nowhere"], "no such file"),
        (["--runtime-config=api/foo=true"], "unknown api groups"),
    ],
)
def test_faults_are_named(argv: list[str], text: str) -> None:
    with pytest.raises(StartupError, match=text):
        load(*argv)


def test_a_flag_that_is_not_implemented_is_unknown() -> None:
    with pytest.raises(flags.FlagError, match="unknown flag: --audit-webhook-config-file"):
        load("--audit-webhook-config-file=x")


def test_the_number_of_api_servers_is_deprecated() -> None:
    warnings = config.flag_set().parse([*GOOD, "--apiserver-count=3"]).warnings
    assert warnings == ["Flag --apiserver-count has been deprecated, apiserver-count is deprecated and will be removed in a future version."]


def test_a_group_version_can_be_switched_off() -> None:
    assert load("--runtime-config=batch/v1=false,api/all=true").disabled_group_versions == {"batch/v1"}
