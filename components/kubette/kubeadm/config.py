"""Pure: what kubeadm was asked to build, validated once.

`Cluster` is upstream's ClusterConfiguration, `Local` the part of InitConfiguration/JoinConfiguration that is about this machine.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kubette.component_base import flags
from kubette.kubeadm import images, schemas

API_PORT = 6443
KUBERNETES_DIR = "/etc/kubernetes"
PKI_DIR = "/etc/kubernetes/pki"
MANIFESTS_DIR = "/etc/kubernetes/manifests"
ETCD_DATA_DIR = "/var/lib/etcd"
KUBELET_DIR = "/var/lib/kubelet"
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
DEFAULT_TOKEN_TTL_S = 24 * 3600.0
CONTROL_PLANE_TAINT = {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}

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
    ca_validity: str = "87600h0m0s"
    certificate_validity: str = "8760h0m0s"
    # etcd that is not kubeadm's: endpoints, caFile, certFile, keyFile (`etcd.external`).
    etcd_external: Mapping[str, Any] = field(default_factory=dict)
    # What --config says of single components, in v1beta4's form: apiServer, controllerManager, scheduler, etcd (the local one), dns, proxy.
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def extra_args(self, component: str) -> dict[str, str]:
        """Flags that overrule ours."""
        return {argument["name"]: argument["value"] for argument in self.components.get(component, {}).get("extraArgs") or ()}

    def extra_volumes(self, component: str) -> list[Mapping[str, Any]]:
        return list(self.components.get(component, {}).get("extraVolumes") or ())

    @property
    def etcd_data_dir(self) -> str:
        return str(self.components.get("etcd", {}).get("dataDir") or ETCD_DATA_DIR)

    def image_of(self, component: str) -> tuple[str, str]:
        """(repository, tag) of etcd's or dns's image where the configuration names them."""
        wanted = self.components.get(component, {})
        return str(wanted.get("imageRepository") or ""), str(wanted.get("imageTag") or "")

    def external_etcd_files(self) -> list[str]:
        """Its authority, and the API server's certificate and key for it; none without TLS."""
        return [path for path in (str(self.etcd_external.get(name) or "") for name in ("caFile", "certFile", "keyFile")) if path]

    def disabled(self, addon: str) -> bool:
        return bool(self.components.get(addon, {}).get("disabled"))

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
        self._validate_external_etcd()
        for name, validity in (("caCertificateValidityPeriod", self.ca_validity), ("certificateValidityPeriod", self.certificate_validity)):
            try:
                positive = flags.parse_duration(validity) > 0
            except ValueError:
                positive = False
            if not positive:
                raise ConfigError(f'{name}: Invalid value: "{validity}": the value must be a positive duration')

    def _validate_external_etcd(self) -> None:
        external = self.etcd_external
        if not external:
            return
        ca, cert, key = (str(external.get(name) or "") for name in ("caFile", "certFile", "keyFile"))
        if bool(cert) != bool(key):
            raise ConfigError(
                'etcd.external: Invalid value: "": either both or none of .Etcd.External.CertFile and .Etcd.External.KeyFile must be set'
            )
        if cert and not ca:
            raise ConfigError(
                'etcd.external: Invalid value: "": setting .Etcd.External.CertFile and .Etcd.External.KeyFile requires .Etcd.External.CAFile'
            )
        for endpoint in external.get("endpoints") or [""]:
            url = urlsplit(endpoint)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise ConfigError(f'etcd.external.endpoints: Invalid value: "{endpoint}": not a valid URL')
            if ca and url.scheme != "https":
                raise ConfigError(f'etcd.external.endpoints: Invalid value: "{endpoint}": the URL must be using the HTTPS scheme')
        for name, path in (("caFile", ca), ("certFile", cert), ("keyFile", key)):
            if path and not path.startswith("/"):
                raise ConfigError(f'etcd.external.{name}: Invalid value: "{path}": not an absolute path')

    @property
    def service_ip(self) -> str:
        """The ClusterIP of the service `kubernetes`."""
        return str(ipaddress.ip_network(self.service_subnet)[1])

    @property
    def dns_ip(self) -> str:
        return str(ipaddress.ip_network(self.service_subnet)[10])

    def to_dict(self) -> dict[str, Any]:
        """The ClusterConfiguration document, kubeadm.k8s.io/v1beta4."""
        parts = {name: dict(part) for name, part in self.components.items()}
        sans = {"certSANs": list(self.api_server_cert_sans)} if self.api_server_cert_sans else {}
        document: dict[str, Any] = {
            "apiServer": parts.get("apiServer", {}) | sans,
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "caCertificateValidityPeriod": self.ca_validity,
            "certificateValidityPeriod": self.certificate_validity,
            "certificatesDir": self.certificates_dir,
            "clusterName": self.cluster_name,
            "controllerManager": parts.get("controllerManager", {}),
            "dns": parts.get("dns", {}),
            "encryptionAlgorithm": "RSA-2048",
            "etcd": {"external": dict(self.etcd_external)}
            if self.etcd_external
            else {"local": parts.get("etcd", {}) | {"dataDir": self.etcd_data_dir}},
            "imageRepository": self.image_repository,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": self.kubernetes_version,
            "networking": {"dnsDomain": self.dns_domain, "serviceSubnet": self.service_subnet},
            "proxy": parts.get("proxy", {}),
            "scheduler": parts.get("scheduler", {}),
        }
        if self.control_plane_endpoint:
            document["controlPlaneEndpoint"] = self.control_plane_endpoint
        if self.pod_subnet:
            document["networking"]["podSubnet"] = self.pod_subnet
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Cluster":
        """From what `to_dict` stored, or the document of a checked `--config` file."""
        if document.get("apiVersion") == "kubeadm.k8s.io/v1beta3":
            document = schemas.to_latest(document, "v1beta3")
        networking, api_server = document.get("networking") or {}, dict(document.get("apiServer") or {})
        sans = tuple(api_server.pop("certSANs", None) or ())
        parts = {name: document.get(name) for name in ("controllerManager", "scheduler", "dns", "proxy")}
        parts |= {"apiServer": api_server, "etcd": (document.get("etcd") or {}).get("local")}
        return cls(
            kubernetes_version=document["kubernetesVersion"],
            cluster_name=document.get("clusterName") or "kubernetes",
            control_plane_endpoint=document.get("controlPlaneEndpoint") or "",
            pod_subnet=networking.get("podSubnet") or "",
            service_subnet=networking.get("serviceSubnet") or "10.96.0.0/12",
            dns_domain=networking.get("dnsDomain") or "cluster.local",
            image_repository=document.get("imageRepository") or images.REPOSITORY,
            api_server_cert_sans=sans,
            certificates_dir=document.get("certificatesDir") or PKI_DIR,
            ca_validity=document.get("caCertificateValidityPeriod") or "87600h0m0s",
            certificate_validity=document.get("certificateValidityPeriod") or "8760h0m0s",
            etcd_external=(document.get("etcd") or {}).get("external") or {},
            components={name: part for name, part in parts.items() if part},
        )


@dataclass(frozen=True, slots=True)
class Local:
    """This machine: its name, address and how its kubelet is started."""

    node_name: str
    advertise_address: str
    bind_port: int = API_PORT
    cri_socket: str = CRI_SOCKET
    ignore_preflight_errors: frozenset[str] = field(default_factory=frozenset)
    # None: a control plane gets its usual taint, a worker none.
    taints: tuple[Mapping[str, str], ...] | None = None
    kubelet_extra_args: Mapping[str, str] = field(default_factory=dict)

    def registered_taints(self, *, control_plane: bool) -> list[dict[str, str]]:
        """The taints of this machine's Node."""
        if self.taints is not None:
            return [dict(taint) for taint in self.taints]
        return [dict(CONTROL_PLANE_TAINT)] if control_plane else []

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
