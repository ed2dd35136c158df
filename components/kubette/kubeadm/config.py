"""Pure: what kubeadm was asked to build, validated once.

`Cluster` is upstream's ClusterConfiguration, `Local` the part of InitConfiguration/JoinConfiguration that is about this machine.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from kubette.kubeadm import images

API_PORT = 6443
KUBERNETES_DIR = "/etc/kubernetes"
PKI_DIR = "/etc/kubernetes/pki"
MANIFESTS_DIR = "/etc/kubernetes/manifests"
ETCD_DATA_DIR = "/var/lib/etcd"
KUBELET_DIR = "/var/lib/kubelet"
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
DEFAULT_TOKEN_TTL_S = 24 * 3600.0

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_CA_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}")


class ConfigError(Exception):
    """The request cannot be carried out; the text is what kubeadm prints."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The same on every machine of the cluster; stored in the ConfigMap `kubeadm-config`."""

    kubernetes_version: str
    cluster_name: str = "kubernetes"
    control_plane_endpoint: str = ""
    pod_subnet: str = ""
    service_subnet: str = "10.96.0.0/12"
    dns_domain: str = "cluster.local"
    image_repository: str = images.REPOSITORY
    api_server_cert_sans: tuple[str, ...] = ()
    certificates_dir: str = PKI_DIR

    def validate(self) -> None:
        """Raises ConfigError in upstream's words."""
        try:
            images.minor_of(self.kubernetes_version)
        except ValueError:
            raise ConfigError(
                f'version "{self.kubernetes_version}" doesn\'t match patterns for neither semantic version nor labels (stable, latest, ...)'
                if not re.fullmatch(r"v?\d+\.\d+\.\d+(-[\w.]+)?", self.kubernetes_version)
                else f"this version of kubeadm only supports deploying clusters with the control plane version >= 1.{images.supported_minors()[0]}.0. "
                f"Current version: {self.kubernetes_version}"
            ) from None
        for name, subnet in (("podSubnet", self.pod_subnet), ("serviceSubnet", self.service_subnet)):
            if not subnet:
                continue
            try:
                ipaddress.ip_network(subnet)
            except ValueError:
                raise ConfigError(f'{name}: Invalid value: "{subnet}": couldn\'t parse subnet') from None

    @property
    def service_ip(self) -> str:
        """The ClusterIP of the service `kubernetes`."""
        return str(ipaddress.ip_network(self.service_subnet)[1])

    @property
    def dns_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_subnet)[10])

    def to_dict(self) -> dict[str, Any]:
        """The ClusterConfiguration document, kubeadm.k8s.io/v1beta4."""
        document: dict[str, Any] = {
            "apiServer": {"certSANs": list(self.api_server_cert_sans)} if self.api_server_cert_sans else {},
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "caCertificateValidityPeriod": "87600h0m0s",
            "certificateValidityPeriod": "8760h0m0s",
            "certificatesDir": self.certificates_dir,
            "clusterName": self.cluster_name,
            "controllerManager": {},
            "dns": {},
            "encryptionAlgorithm": "RSA-2048",
            "etcd": {"local": {"dataDir": ETCD_DATA_DIR}},
            "imageRepository": self.image_repository,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": self.kubernetes_version,
            "networking": {"dnsDomain": self.dns_domain, "serviceSubnet": self.service_subnet},
            "proxy": {},
            "scheduler": {},
        }
        if self.control_plane_endpoint:
            document["controlPlaneEndpoint"] = self.control_plane_endpoint
        if self.pod_subnet:
            document["networking"]["podSubnet"] = self.pod_subnet
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Cluster":
        """From what `to_dict` stored."""
        networking = document.get("networking", {})
        return cls(
            kubernetes_version=document["kubernetesVersion"],
            cluster_name=document.get("clusterName", "kubernetes"),
            control_plane_endpoint=document.get("controlPlaneEndpoint", ""),
            pod_subnet=networking.get("podSubnet", ""),
            service_subnet=networking.get("serviceSubnet", "10.96.0.0/12"),
            dns_domain=networking.get("dnsDomain", "cluster.local"),
            image_repository=document.get("imageRepository", images.REPOSITORY),
            api_server_cert_sans=tuple(document.get("apiServer", {}).get("certSANs", ())),
            certificates_dir=document.get("certificatesDir", PKI_DIR),
        )


@dataclass(frozen=True, slots=True)
class Local:
    """This machine: its name, address and how its kubelet is started."""

    node_name: str
    advertise_address: str
    bind_port: int = API_PORT
    cri_socket: str = CRI_SOCKET
    ignore_preflight_errors: frozenset[str] = field(default_factory=frozenset)

    def endpoint(self, cluster: Cluster) -> str:
        """`host:port` that clients of the cluster use: the shared endpoint if there is one."""
        endpoint = cluster.control_plane_endpoint
        if not endpoint:
            return f"{self.advertise_address}:{self.bind_port}"
        return endpoint if ":" in endpoint else f"{endpoint}:{API_PORT}"

    def local_endpoint(self) -> str:
        """The API server of this machine itself."""
        return f"{self.advertise_address}:{self.bind_port}"


def parse_token(token: str) -> tuple[str, str]:
    """(id, secret). Raises ConfigError."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ConfigError(f'the bootstrap token "{token}" was not of the form "\\\\A([a-z0-9]{{6}})\\\\.([a-z0-9]{{16}})\\\\z"')
    return match[1], match[2]


def check_ca_hashes(hashes: list[str]) -> None:
    """Raises ConfigError for a pin that is not `sha256:<hex>`."""
    for text in hashes:
        if not _CA_HASH.fullmatch(text):
            raise ConfigError(f'discovery.bootstrapToken.caCertHashes: Invalid value: "{text}": invalid public key hash, expected "format:hex-value"')
