"""Which upgrades kubeadm allows, and what `upgrade plan` prints (rows R04, R05, R09, U04, U10, U15)."""

import pytest

from kubette.api import releases
from kubette.kubeadm import upgrade_policy, upgrade_report
from kubette.kubeadm.upgrade_policy import Allowed, Objections, State

NODES = ["controlplane", "node01"]


def judge(wanted: str, cluster: str, kubeadm: str, kubelets: tuple[str, ...] = (), allowed: Allowed | None = None) -> Objections:
    parse = releases.parse
    return upgrade_policy.objections(parse(wanted), parse(cluster), parse(kubeadm), kubelets, allowed or Allowed())


def state(cluster: str, kubeadm: str, kubelets: dict[str, list[str]] | None = None) -> State:
    release = releases.parse(cluster)
    companions = releases.companions(release.minor)
    components = {name: {cluster: ["controlplane"]} for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")}
    components |= {"kube-proxy": {cluster[1:]: [""]}, "CoreDNS": {companions.coredns: [""]}, "etcd": {companions.etcd: ["controlplane"]}}
    return State(release, releases.parse(kubeadm), components, {cluster: NODES} if kubelets is None else kubelets)


@pytest.mark.parametrize(
    ("wanted", "cluster", "kubeadm"), [("v1.31.0", "v1.30.0", "v1.31.0"), ("v1.30.6", "v1.30.0", "v1.30.6"), ("v1.31.0", "v1.31.0", "v1.31.0")]
)
def test_one_minor_a_patch_and_the_same_again_are_allowed(wanted: str, cluster: str, kubeadm: str) -> None:
    assert judge(wanted, cluster, kubeadm, ("v1.30.0",)) == Objections()


@pytest.mark.parametrize(
    ("wanted", "cluster", "kubeadm", "words"),
    [
        ("v1.33.0", "v1.31.0", "v1.33.0", 'upgrade to "v1.33.0" is too high; kubeadm can upgrade only 1 minor version at a time'),
        ("v1.30.0", "v1.32.0", "v1.32.0", 'downgrade to "v1.30.0" is too low; kubeadm can downgrade only 1 minor version at a time'),
        ("v1.32.0", "v1.31.0", "v1.31.0", "is at least one minor release higher than the kubeadm minor release (32 > 31)"),
        ("v1.29.0", "v1.30.0", "v1.30.0", "is equal to or lower than the minimum supported version"),
    ],
)
def test_fatal_errors_cannot_be_forced(wanted: str, cluster: str, kubeadm: str, words: str) -> None:
    found = judge(wanted, cluster, kubeadm)
    assert any(words in line for line in found.mandatory)
    refusal = upgrade_policy.refusal(found, force=True)
    assert refusal.startswith("is invalid due to these fatal errors:\n\n\t- Specified version")
    assert refusal.endswith("Please fix the misalignments highlighted above and try upgrading again")


@pytest.mark.parametrize(
    ("wanted", "cluster", "kubeadm", "kubelets", "words"),
    [
        ("v1.31.5", "v1.31.0", "v1.31.2", (), 'is higher than the kubeadm version "v1.31.2". Upgrade kubeadm first'),
        ("v1.31.0", "v1.31.0", "v1.32.0", (), "Kubeadm version v1.32.0 can only be used to upgrade to Kubernetes version 1.32"),
        (
            "v1.32.0-beta.0",
            "v1.31.0",
            "v1.32.0",
            (),
            "is an unstable version and such upgrades weren't allowed via setting the --allow-*-upgrades flags",
        ),
        ("v1.34.0", "v1.33.0", "v1.34.0", ("v1.31.0", "v1.30.2", "v1.30.0"), "too old that have these versions [v1.30.0 v1.30.2]"),
    ],
)
def test_other_errors_yield_to_force(wanted: str, cluster: str, kubeadm: str, kubelets: tuple[str, ...], words: str) -> None:
    found = judge(wanted, cluster, kubeadm, kubelets)
    assert found.mandatory == ()
    assert any(words in line for line in found.skippable)
    assert "Can be bypassed if you pass the --force flag" in upgrade_policy.refusal(found, force=False)
    assert upgrade_policy.refusal(found, force=True) == ""


def test_a_candidate_is_allowed_as_such() -> None:
    assert judge("v1.32.0-rc.1", "v1.31.0", "v1.32.0", allowed=Allowed(candidates=True)) == Objections()
    assert judge("v1.32.0-alpha.1", "v1.31.0", "v1.32.0", allowed=Allowed(candidates=True)).skippable
    assert judge("v1.32.0-alpha.1", "v1.31.0", "v1.32.0", allowed=Allowed(experimental=True)) == Objections()


def test_an_older_kubeadm_aims_at_its_own_line() -> None:
    target, newest = upgrade_policy.stable(releases.parse("v1.30.0"))
    assert (target.minor, newest.minor) == (30, releases.NEWEST_MINOR)


def test_a_cluster_at_the_target_is_up_to_date() -> None:
    newest = str(releases.latest())
    now = state(newest, newest)
    assert (
        upgrade_report.render(now, upgrade_policy.possible(now, releases.latest(), releases.latest(), Allowed()), {})
        == "Awesome, you're up-to-date! Enjoy!"
    )


def test_plan_names_the_patch_and_the_minor_upgrade() -> None:
    now = state("v1.30.0", "v1.31.0")
    upgrades = upgrade_policy.possible(now, releases.parse("v1.31.0"), releases.latest("v1.30"), Allowed())
    patch = releases.latest("v1.30")
    assert [(each.description, each.target) for each in upgrades] == [
        ("version in the v1.30 series", patch),
        ("stable version", releases.parse("v1.31.0")),
    ]
    text = upgrade_report.render(now, upgrades[1:], {"kubelet.config.k8s.io": "v1beta1"})
    assert (
        text
        == """\
Components that must be upgraded manually after you have upgraded the control plane with 'kubeadm upgrade apply':
COMPONENT   NODE           CURRENT   TARGET
kubelet     controlplane   v1.30.0   v1.31.0
kubelet     node01         v1.30.0   v1.31.0

Upgrade to the latest stable version:

COMPONENT                 NODE           CURRENT    TARGET
kube-apiserver            controlplane   v1.30.0    v1.31.0
kube-controller-manager   controlplane   v1.30.0    v1.31.0
kube-scheduler            controlplane   v1.30.0    v1.31.0
kube-proxy                               1.30.0     v1.31.0
CoreDNS                                  v1.11.1    v1.11.1
etcd                      controlplane   3.5.12-0   3.5.15-0

You can now apply the upgrade by executing the following command:

	kubeadm upgrade apply v1.31.0

_____________________________________________________________________


The table below shows the current state of component configs as understood by this version of kubeadm.
Configs that have a "yes" mark in the "MANUAL UPGRADE REQUIRED" column require manual config upgrade or
resetting to kubeadm defaults before a successful upgrade can be performed. The version to manually
upgrade to is denoted in the "PREFERRED VERSION" column.

API GROUP               CURRENT VERSION   PREFERRED VERSION   MANUAL UPGRADE REQUIRED
kubelet.config.k8s.io   v1beta1           v1beta1             no
_____________________________________________________________________
"""
    )


def test_whoever_names_a_version_is_taken_to_know_the_newest_of_every_line() -> None:
    """As upstream's plan without a network: `kubeadm upgrade plan v1.31.0` has one section."""
    wanted = releases.parse("v1.31.0")
    found = upgrade_policy.possible(state("v1.30.0", "v1.31.0"), wanted, wanted, Allowed())
    assert [(each.description, each.target) for each in found] == [("version in the v1.30 series", wanted)]


def test_plan_tells_when_kubeadm_itself_comes_first() -> None:
    now = state("v1.30.0", "v1.30.0")
    text = upgrade_report.render(now, upgrade_policy.possible(now, releases.parse("v1.31.0"), releases.latest("v1.30"), Allowed()), {})
    assert "Note: Before you can perform this upgrade, you have to update kubeadm to v1.31.0." in text


def test_kubelets_that_are_there_already_are_not_listed() -> None:
    now = state("v1.30.0", "v1.31.0", {"v1.31.0": NODES})
    text = upgrade_report.render(now, upgrade_policy.possible(now, releases.parse("v1.31.0"), releases.latest("v1.30"), Allowed())[1:], {})
    assert "must be upgraded manually" not in text


def test_components_that_run_too_far_apart_are_named() -> None:
    now = state("v1.33.0", "v1.33.0", {"v1.29.9": ["node01"], "v1.34.0": ["node02"], "v1.31.0": ["node03"]})
    now.components["kube-controller-manager"] = {"v1.31.0": ["cp1"], "v1.32.5": ["cp2"]}
    now.components["kube-scheduler"] = {"v1.34.1": ["cp1"]}
    assert upgrade_policy.skews(now) == [
        "kube-controller-manager v1.31.0 on cp1 may be at most one minor version older than kube-apiserver",
        "kube-scheduler v1.34.1 on cp1 must not be newer than kube-apiserver",
        "kubelet v1.29.9 on node01 is too old for kube-apiserver v1.33.0",
        "kubelet v1.34.0 on node02 must not be newer than kube-apiserver v1.33.0",
    ]
    assert upgrade_policy.skews(state("v1.33.0", "v1.33.0")) == []


def test_a_controller_manager_must_fit_the_oldest_and_the_newest_api_server() -> None:
    now = state("v1.33.0", "v1.33.0")
    now.components["kube-apiserver"] = {"v1.32.0": ["cp1"], "v1.33.0": ["cp2"]}
    now.components["kube-controller-manager"] = {"v1.33.0": ["cp2"], "v1.32.0": ["cp1"]}
    assert "kube-controller-manager v1.33.0 on cp2 must not be newer than kube-apiserver" in upgrade_policy.skews(now)
