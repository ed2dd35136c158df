"""The ClusterConfiguration that a running cluster keeps in its ConfigMap `kubeadm-config`."""

from collections.abc import Callable
from pathlib import Path

import yaml

from kubette.api import releases
from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.kubeconfig import KubeconfigError
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import version
from kubette.kubeadm import cluster_api, release_words, upgrade_policy
from kubette.kubeadm.config import Cluster, ConfigError


async def fetch(client: Client, prefix: str, say: Callable[[str], None]) -> Cluster:
    """Raises ApiError, ConfigError for a cluster that is too old for this kubeadm, or what the connection raises."""
    words = release_words.of(version.major_minor()[1])
    say(f"[{prefix}] {words.config_read}")
    found = await client.get(resources.CONFIGMAPS, "kube-system", "kubeadm-config")
    say(f"[{prefix}] {words.config_hint}")
    cluster = Cluster.from_dict(yaml.safe_load(found["data"]["ClusterConfiguration"]))
    check_age(cluster)
    return cluster


def check_age(cluster: Cluster) -> None:
    """Raises ConfigError."""
    against = upgrade_policy.too_old(releases.parse(cluster.kubernetes_version), releases.parse(version.git_version()))
    if against:
        raise ConfigError(against)


async def fetch_or_default(kubeconfig: Path, prefix: str, say: Callable[[str], None]) -> Cluster:
    """What concerns this machine's files must work without the cluster: an expired certificate is a reason to ask."""
    try:
        async with cluster_api.connect(kubeconfig) as client:
            return await fetch(client, prefix, say)
    except (ApiError, TransportError, KubeconfigError, ConfigError, OSError, TimeoutError, ValueError, KeyError):
        say(f"[{prefix}] Error reading configuration from the Cluster. Falling back to default configuration")
        return Cluster(version.git_version())
