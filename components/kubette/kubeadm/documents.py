"""Pure: the file of `--config`: read, checked strictly, brought to v1beta4; and the defaults that `config print` shows.

A field of upstream's API that this kubeadm does not implement is refused by name; it is never read and forgotten.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from kubette.api import releases
from kubette.component_base import flags
from kubette.kubeadm import config, schemas, timeouts
from kubette.kubeadm.config import Cluster, ConfigError

_COMPONENT_GROUPS = {"KubeletConfiguration": "kubelet.config.k8s.io", "KubeProxyConfiguration": "kubeproxy.config.k8s.io"}
PLACEHOLDER_TOKEN = "abcdef.0123456789abcdef"
# Fields of which one value is implemented; any other is refused in the words of field.NotSupported.
_ONLY: dict[str, Any] = {
    "encryptionAlgorithm": "RSA-2048",
    "featureGates": {},
    "etcd.local.extraEnvs": [],
    "apiServer.extraEnvs": [],
    "apiServer.timeoutForControlPlane": "4m0s",
    "controllerManager.extraEnvs": [],
    "scheduler.extraEnvs": [],
    "nodeRegistration.imagePullPolicy": "IfNotPresent",
    "nodeRegistration.imagePullSerial": True,
    "caCertPath": f"{config.PKI_DIR}/ca.crt",
}


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a file by kind, kubeadm's own in v1beta4."""

    by_kind: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    def cluster(self) -> Cluster:
        """Raises ConfigError for values that no cluster can have."""
        document = dict(self.by_kind.get("ClusterConfiguration") or {})
        document["kubernetesVersion"] = resolve_version(document.get("kubernetesVersion") or "stable-1")
        cluster = Cluster.from_dict(document)
        cluster.validate()
        return cluster


def resolve_version(text: str) -> str:
    """`v1.37.0` for itself, `1.37.0`, and the labels stable, stable-1, stable-1.37, latest, latest-1.37 of the release list."""
    label, _, line = text.partition("-")
    if label not in ("stable", "latest"):
        return text if text.startswith("v") else f"v{text}"
    try:
        return str(releases.latest(None if line in ("", "1") else f"v{line}"))
    except ValueError:
        raise ConfigError(f'could not fetch a Kubernetes version from the list of releases: no release for label "{text}"') from None


def load(text: str) -> Documents:
    """Raises ConfigError for what is not a configuration, in the words of strict decoding."""
    try:
        parts = [part for part in yaml.safe_load_all(text) if part is not None]
    except yaml.YAMLError as error:
        raise ConfigError(f"error converting YAML to JSON: yaml: {error}") from error
    found: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for part in parts:
        kind, group, version = _identify(part)
        if kind in found:
            raise ConfigError(f'invalid configuration: kind "{kind}" is specified twice in YAML file')
        if group == schemas.GROUP and kind in schemas.KINDS:
            if version != schemas.LATEST:
                warnings.append(
                    f'your configuration file uses a deprecated API spec: "{group}/{version}" (kind: "{kind}"). Please use '
                    "'kubeadm config migrate --old-config old-config-file --new-config new-config-file', "
                    "which will write the new, similar spec using a newer API version."
                )
            if version not in schemas.versions_of(kind):
                raise ConfigError(f'no kind "{kind}" is registered for version "{group}/{version}"')
            found[kind] = _decode(part, kind, version)
        elif _COMPONENT_GROUPS.get(kind) == group:
            found[kind] = part
        else:
            warnings.append(f"[config] WARNING: Ignored configuration document with GroupVersionKind {group}/{version}, Kind={kind}")
    if not found:
        raise ConfigError("no InitConfiguration, ClusterConfiguration or JoinConfiguration kind was found in the YAML file")
    return Documents(found, warnings)


def _identify(part: Any) -> tuple[str, str, str]:
    if not isinstance(part, dict) or not isinstance(part.get("kind"), str) or not isinstance(part.get("apiVersion"), str):
        raise ConfigError("invalid configuration: kind and apiVersion is mandatory information that must be specified")
    group, _, version = part["apiVersion"].rpartition("/")
    if group == schemas.GROUP and version not in schemas.VERSIONS:
        raise ConfigError(
            f'your configuration file uses an old API spec: "{part["apiVersion"]}" (kind: "{part["kind"]}"). Please use an older kubeadm and run '
            "'kubeadm config migrate --old-config old-config-file --new-config new-config-file', which will write the new, similar spec using a newer API version."
        )
    return part["kind"], group, version


def _decode(part: dict[str, Any], kind: str, version: str) -> dict[str, Any]:
    problems = schemas.problems(part, version, kind)
    if problems:
        identity = f'schema.GroupVersionKind{{Group:"{schemas.GROUP}", Version:"{version}", Kind:"{kind}"}}'
        raise ConfigError(f"error unmarshaling configuration {identity}: strict decoding error: {', '.join(problems)}")
    if (part.get("etcd") or {}).get("local") is not None and part["etcd"].get("external") is not None:
        raise ConfigError('etcd: Invalid value: "": .Etcd.Local and .Etcd.External are mutually exclusive')
    for path, only in _ONLY.items():
        value = _at(part, path)
        if value is not None and value != only and not _same_duration(value, only):
            supported = "supported values: none" if only in (None, "", [], {}) else f'supported values: "{only}"'
            raise ConfigError(f'{path}: Unsupported value: "{value}": {supported}')
    return schemas.to_latest(part, version)


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _same_duration(one: Any, other: Any) -> bool:
    try:
        return flags.parse_duration(one) == flags.parse_duration(other)
    except (AttributeError, TypeError, ValueError):
        return False


def _registration(name: str) -> dict[str, Any]:
    return {"criSocket": config.CRI_SOCKET, "imagePullPolicy": "IfNotPresent", "imagePullSerial": True, "name": name, "taints": None}


def init_defaults(kubernetes_version: str) -> list[dict[str, Any]]:
    """InitConfiguration and ClusterConfiguration of `kubeadm config print init-defaults`."""
    token = {"groups": ["system:bootstrappers:kubeadm:default-node-token"], "token": PLACEHOLDER_TOKEN, "ttl": "24h0m0s"}
    init = {
        "apiVersion": f"{schemas.GROUP}/{schemas.LATEST}",
        "bootstrapTokens": [token | {"usages": ["signing", "authentication"]}],
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": "1.2.3.4", "bindPort": config.API_PORT},
        "nodeRegistration": _registration("node"),
        "timeouts": timeouts.DEFAULTS,
    }
    cluster = Cluster(f"v{releases.parse(kubernetes_version).major}.{releases.parse(kubernetes_version).minor}.0").to_dict()
    return [init, cluster | {"kubernetesVersion": cluster["kubernetesVersion"].removeprefix("v")}]


def join_defaults(node_name: str) -> list[dict[str, Any]]:
    """JoinConfiguration of `kubeadm config print join-defaults`."""
    token = {"apiServerEndpoint": "kube-apiserver:6443", "token": PLACEHOLDER_TOKEN, "unsafeSkipCAVerification": True}
    return [
        {
            "apiVersion": f"{schemas.GROUP}/{schemas.LATEST}",
            "caCertPath": f"{config.PKI_DIR}/ca.crt",
            "discovery": {"bootstrapToken": token, "tlsBootstrapToken": PLACEHOLDER_TOKEN},
            "kind": "JoinConfiguration",
            "nodeRegistration": _registration(node_name),
            "timeouts": timeouts.DEFAULTS,
        }
    ]


def reset_defaults() -> list[dict[str, Any]]:
    """ResetConfiguration of `kubeadm config print reset-defaults`."""
    head = {"apiVersion": f"{schemas.GROUP}/{schemas.LATEST}", "kind": "ResetConfiguration"}
    return [head | {"certificatesDir": config.PKI_DIR, "criSocket": config.CRI_SOCKET, "timeouts": timeouts.DEFAULTS}]


def upgrade_defaults() -> list[dict[str, Any]]:
    """UpgradeConfiguration of `kubeadm config print upgrade-defaults`."""
    work = {"certificateRenewal": True, "etcdUpgrade": True, "imagePullPolicy": "IfNotPresent", "imagePullSerial": True}
    head = {"apiVersion": f"{schemas.GROUP}/{schemas.LATEST}", "kind": "UpgradeConfiguration"}
    return [head | {"apply": work, "diff": {}, "node": work, "plan": {"etcdUpgrade": True}, "timeouts": timeouts.DEFAULTS}]


def dump(documents: list[dict[str, Any]]) -> str:
    """As kubeadm prints them: keys in order, one after the other."""
    return "---\n".join(yaml.safe_dump(document, sort_keys=True, default_flow_style=False, width=1000) for document in documents)
