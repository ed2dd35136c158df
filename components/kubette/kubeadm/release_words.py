"""Pure: the words kubeadm changed from release to release, so that what is on the screen is what that release's users know.

Until v1.31 an upgrade is one piece, since v1.32 it is a list of phases like init and join, and says so.
"""

from typing import NamedTuple

PHASED_SINCE_MINOR = 32
SHORT_FAILURE_SINCE_MINOR = 34  # preflight prints its findings itself, and the error is one line


class Words(NamedTuple):
    """Of one release's kubeadm. `{}` is a version."""

    phased: bool
    config_read: str
    config_hint: str
    config_prefix: str  # of `upgrade apply`
    chosen: str
    pull_prefix: str
    upgrading: str
    refused: str


_OLD = Words(
    phased=False,
    config_read="Reading configuration from the cluster...",
    config_hint="FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'",
    config_prefix="upgrade/config",
    chosen='[upgrade/version] You have chosen to change the cluster version to "{}"',
    pull_prefix="upgrade/prepull",
    upgrading='[upgrade/apply] Upgrading your Static Pod-hosted control plane to version "{}"',
    refused="[upgrade/version] FATAL: the --version argument",
)
_NEW = Words(
    phased=True,
    config_read='Reading configuration from the "kubeadm-config" ConfigMap in namespace "kube-system"...',
    config_hint="Use 'kubeadm init phase upload-config kubeadm --config your-config-file' to re-upload it.",
    config_prefix="upgrade",
    chosen='[upgrade/preflight] You have chosen to upgrade the cluster version to "{}"',
    pull_prefix="upgrade/preflight",
    upgrading='[upgrade/control-plane] Upgrading your static Pod-hosted control plane to version "{}"',
    refused="the version argument",
)


def of(minor: int) -> Words:
    """Of the kubeadm of a minor line."""
    return _NEW if minor >= PHASED_SINCE_MINOR else _OLD


def success(minor: int, release: str) -> str:
    """What `upgrade apply` ends with."""
    if minor >= PHASED_SINCE_MINOR:
        return (
            f'\n[upgrade] SUCCESS! A control plane node of your cluster was upgraded to "{release}".\n\n'
            "[upgrade] Now please proceed with upgrading the rest of the nodes by following the right order."
        )
    return (
        f'\n[upgrade/successful] SUCCESS! Your cluster was upgraded to "{release}". Enjoy!\n\n'
        "[upgrade/kubelet] Now that your control plane is upgraded, please proceed with upgrading your kubelets if you haven't already done so."
    )
