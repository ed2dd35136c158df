"""Pure: what `kubeadm upgrade plan` prints (upstream: cmd/kubeadm/app/cmd/upgrade/plan.go)."""

from collections.abc import Mapping
from typing import Any

from kubette.api import releases
from kubette.kubeadm import tables
from kubette.kubeadm.upgrade_policy import State, Upgrade

_RULE = "_" * 69
_HEAD = ("COMPONENT", "NODE", "CURRENT", "TARGET")
# The order of the table; the names that pods and images have, and what goes with a release.
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "CoreDNS", "etcd")


def target_version(component: str, upgrade: Upgrade) -> str:
    companions = releases.companions(upgrade.target.minor)
    return {"CoreDNS": companions.coredns, "etcd": companions.etcd}.get(component, str(upgrade.target))


def render(state: State, upgrades: list[Upgrade], config_versions: Mapping[str, str]) -> str:
    """All sections; `config_versions` is API group -> version of the configurations of kubelet and kube-proxy."""
    if not upgrades:
        return "Awesome, you're up-to-date! Enjoy!"
    return "\n".join([*(_section(state, upgrade) for upgrade in upgrades), _configurations(config_versions)])


def document(state: State, upgrades: list[Upgrade], config_versions: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `-o json`: UpgradePlan of kubeadm's output API."""

    def components(upgrade: Upgrade) -> list[dict[str, str]]:
        rows = [row for name in COMPONENTS for row in _rows(name, state.components.get(name, {}), target_version(name, upgrade))]
        rows += _rows("kubelet", state.kubelets, str(upgrade.target))
        kubeadm = {"name": "kubeadm", "currentVersion": str(state.kubeadm), "newVersion": str(upgrade.kubeadm)}
        return [*({"name": name, "currentVersion": old, "newVersion": new, "nodeName": node} for name, node, old, new in rows), kubeadm]

    return {
        "availableUpgrades": [{"description": upgrade.description, "components": components(upgrade)} for upgrade in upgrades],
        "configVersions": [
            {"group": group, "currentVersion": version, "preferredVersion": version, "manualUpgradeRequired": False}
            for group, version in config_versions.items()
        ],
    }


def _rows(component: str, versions: Mapping[str, list[str]], target: str) -> list[tuple[str, str, str, str]]:
    return [(component, node, version, target) for version in sorted(versions) for node in versions[version]]


def _section(state: State, upgrade: Upgrade) -> str:
    target, lines = str(upgrade.target), []
    if state.kubelets and set(state.kubelets) != {target}:
        lines += [
            "Components that must be upgraded manually after you have upgraded the control plane with 'kubeadm upgrade apply':",
            tables.render([_HEAD, *_rows("kubelet", state.kubelets, target)]),
            "",
        ]
    rows = [row for name in COMPONENTS for row in _rows(name, state.components.get(name, {}), target_version(name, upgrade))]
    flag = {"experimental version": " --allow-experimental-upgrades", "release candidate version": " --allow-release-candidate-upgrades"}
    lines += [
        f"Upgrade to the latest {upgrade.description}:",
        "",
        tables.render([_HEAD, *rows]),
        "",
        "You can now apply the upgrade by executing the following command:",
        "",
        f"\tkubeadm upgrade apply {target}{flag.get(upgrade.description, '')}",
        "",
    ]
    if upgrade.kubeadm != state.kubeadm:
        lines += [f"Note: Before you can perform this upgrade, you have to update kubeadm to {upgrade.kubeadm}.", ""]
    return "\n".join([*lines, _RULE, ""])


def _configurations(versions: Mapping[str, str]) -> str:
    rows = [("API GROUP", "CURRENT VERSION", "PREFERRED VERSION", "MANUAL UPGRADE REQUIRED")]
    rows += [(group, version, version, "no") for group, version in versions.items()]
    return "\n".join(
        [
            "",
            "The table below shows the current state of component configs as understood by this version of kubeadm.",
            'Configs that have a "yes" mark in the "MANUAL UPGRADE REQUIRED" column require manual config upgrade or',
            "resetting to kubeadm defaults before a successful upgrade can be performed. The version to manually",
            'upgrade to is denoted in the "PREFERRED VERSION" column.',
            "",
            tables.render(rows),
            _RULE,
            "",
        ]
    )
