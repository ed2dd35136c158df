"""Flags and KubeletConfiguration (v1beta1), checked once.

Fields are decoded strictly, as upstream does. A field of upstream's that this kubelet does not implement is accepted with its
default value only: kubeadm writes many of those; anything else would be a promise not kept.
"""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubette.component_base import flags
from kubette.component_base.run import StartupError
from kubette.kubelet import eviction

Object = dict[str, Any]

CONFIG_API_VERSION = "kubelet.config.k8s.io/v1beta1"
DEFAULT_RUNTIME_ENDPOINT = "unix:///run/containerd/containerd.sock"
# The sandbox image is the runtime's business; the flag went away in this release.
POD_INFRA_IMAGE_UNTIL = (1, 35)

# What a field may be: the name of a parser, or a nested table.
_DURATION, _TEXT, _NUMBER, _BOOLEAN, _TEXTS, _MAP = "duration", "string", "number", "bool", "[]string", "map"
_FIELDS: Object = {
    "apiVersion": _TEXT,
    "kind": _TEXT,
    "enableServer": _BOOLEAN,
    "staticPodPath": _TEXT,
    "podLogsDir": _TEXT,
    "syncFrequency": _DURATION,
    "fileCheckFrequency": _DURATION,
    "address": _TEXT,
    "port": _NUMBER,
    "tlsCertFile": _TEXT,
    "tlsPrivateKeyFile": _TEXT,
    "rotateCertificates": _BOOLEAN,
    "authentication": {
        "x509": {"clientCAFile": _TEXT},
        "webhook": {"enabled": _BOOLEAN, "cacheTTL": _DURATION},
        "anonymous": {"enabled": _BOOLEAN},
    },
    "authorization": {"mode": _TEXT, "webhook": {"cacheAuthorizedTTL": _DURATION, "cacheUnauthorizedTTL": _DURATION}},
    "healthzPort": _NUMBER,
    "healthzBindAddress": _TEXT,
    "clusterDomain": _TEXT,
    "clusterDNS": _TEXTS,
    "streamingConnectionIdleTimeout": _DURATION,
    "nodeStatusUpdateFrequency": _DURATION,
    "nodeStatusReportFrequency": _DURATION,
    "nodeLeaseDurationSeconds": _NUMBER,
    "imageMinimumGCAge": _DURATION,
    "imageMaximumGCAge": _DURATION,
    "imageGCHighThresholdPercent": _NUMBER,
    "imageGCLowThresholdPercent": _NUMBER,
    "cgroupDriver": _TEXT,
    "cgroupRoot": _TEXT,
    "cgroupsPerQOS": _BOOLEAN,
    "runtimeRequestTimeout": _DURATION,
    "maxPods": _NUMBER,
    "podCIDR": _TEXT,
    "resolvConf": _TEXT,
    "serializeImagePulls": _BOOLEAN,
    "maxParallelImagePulls": _NUMBER,
    "evictionHard": _MAP,
    "evictionPressureTransitionPeriod": _DURATION,
    "containerLogMaxSize": _TEXT,
    "containerLogMaxFiles": _NUMBER,
    "systemReserved": _MAP,
    "kubeReserved": _MAP,
    "registerWithTaints": "taints",
    "registerNode": _BOOLEAN,
    "enableDebuggingHandlers": _BOOLEAN,
    "containerRuntimeEndpoint": _TEXT,
    "logging": {"format": _TEXT, "flushFrequency": "any", "verbosity": _NUMBER, "vmodule": "any", "options": _MAP},
}
# Upstream's fields that mean something here only at their default.
_DEFAULT_ONLY: Object = {
    "httpCheckFrequency": ("0s", "20s", ""),
    "cpuManagerReconcilePeriod": ("0s", "10s", ""),
    "volumeStatsAggPeriod": ("0s", "1m", "1m0s", ""),
    "shutdownGracePeriod": ("0s", ""),
    "shutdownGracePeriodCriticalPods": ("0s", ""),
    # Swap is the host's business: a machine of ours cannot tell it from its own.
    "failSwapOn": (False,),
    "memorySwap": ({},),
    "crashLoopBackOff": ({},),
    "cpuManagerPolicy": ("none",),
    "memoryManagerPolicy": ("None",),
    "topologyManagerPolicy": ("none",),
    "enableControllerAttachDetach": (True,),
    "hairpinMode": ("promiscuous-bridge",),
    "serverTLSBootstrap": (False,),
    "protectKernelDefaults": (False,),
    "makeIPTablesUtilChains": (True,),
    "featureGates": ({},),
    "imageServiceEndpoint": ("",),
    "contentType": ("application/vnd.kubernetes.protobuf", "application/json"),
    "readOnlyPort": (0,),
    "staticPodURL": ("",),
    "configMapAndSecretChangeDetectionStrategy": ("Watch",),
    "enforceNodeAllocatable": ([], ["pods"], ["none"]),
    "localStorageCapacityIsolation": (True,),
}


@dataclass(slots=True)
class Config:
    """Everything that was said on the command line and in the file."""

    hostname: str
    node_name: str
    kubeconfig: str = ""
    bootstrap_kubeconfig: str = ""
    root_dir: str = "/var/lib/kubelet"
    cert_dir: str = "/var/lib/kubelet/pki"
    node_ips: tuple[str, ...] = ()
    node_labels: dict[str, str] = field(default_factory=dict)
    taints: list[Object] = field(default_factory=list)
    register_node: bool = True
    runtime_endpoint: str = DEFAULT_RUNTIME_ENDPOINT
    static_pod_path: str = ""
    pod_logs_dir: str = "/var/log/pods"
    sync_frequency_s: float = 60.0
    file_check_frequency_s: float = 20.0
    enable_server: bool = True
    address: str = "0.0.0.0"
    port: int = 10250
    tls_cert_file: str = ""
    tls_key_file: str = ""
    rotate_certificates: bool = False
    client_ca_file: str = ""
    webhook_authentication: bool = True
    webhook_authentication_ttl_s: float = 120.0
    anonymous: bool = False
    authorization_mode: str = "Webhook"
    authorized_ttl_s: float = 300.0
    unauthorized_ttl_s: float = 30.0
    healthz_port: int = 10248
    healthz_address: str = "127.0.0.1"
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()
    streaming_idle_timeout_s: float = 4 * 3600.0
    status_update_s: float = 10.0
    status_report_s: float = 300.0
    lease_duration_s: int = 40
    image_minimum_age_s: float = 120.0
    image_maximum_age_s: float = 0.0
    image_high_percent: int = 85
    image_low_percent: int = 80
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = ""
    cgroups_per_qos: bool = True
    runtime_timeout_s: float = 120.0
    max_pods: int = 110
    pod_cidr: str = ""
    resolv_conf: str = "/etc/resolv.conf"
    pulls_max: int = 1
    eviction_hard: dict[str, str] = field(default_factory=lambda: dict(eviction.HARD_DEFAULTS))
    pressure_transition_s: float = 300.0
    log_bytes_max: int = 10 << 20
    log_files_max: int = 5
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    debugging_handlers: bool = True
    verbosity: int = 0
    raw: Object = field(default_factory=dict)


def flag_set(release: tuple[int, int]) -> flags.FlagSet:
    """The flags of the release."""
    known = flags.FlagSet("kubelet", 'The kubelet is the primary "node agent" that runs on each node.')
    known.string("config", "", "The Kubelet will load its initial configuration from this file.")
    known.string("kubeconfig", "", "Path to a kubeconfig file, specifying how to connect to the API server. Omitting it enables standalone mode.")
    known.string("bootstrap-kubeconfig", "", "Path to a kubeconfig file that will be used to get client certificate for kubelet.")
    known.string("cert-dir", "/var/lib/kubelet/pki", "The directory where the TLS certs are located.")
    known.string("root-dir", "/var/lib/kubelet", "Directory path for managing kubelet files (volume mounts, etc).")
    known.string("hostname-override", "", "If non-empty, will use this string as identification instead of the actual hostname.")
    known.string("node-ip", "", "IP address (or comma-separated dual-stack IP addresses) of the node.")
    known.mapping("node-labels", None, "Labels to add when registering the node in the cluster. Labels must be key=value pairs separated by ','.")
    known.string("register-with-taints", "", 'Register the node with the given list of taints (comma separated "<key>=<value>:<effect>").')
    known.bool("register-node", True, "Register the node with the apiserver.")
    known.string("container-runtime-endpoint", DEFAULT_RUNTIME_ENDPOINT, "The endpoint of container runtime service.")
    known.string("pod-manifest-path", "", "Path to the directory containing static pod files to run, or the path to a single static pod file.")
    known.strings("cluster-dns", (), "Comma-separated list of DNS server IP address.")
    known.string("cluster-domain", "", "Domain for this cluster.")
    known.int("max-pods", 110, "Number of Pods that can run on this Kubelet.")
    known.string("pod-cidr", "", "The CIDR to use for pod IP addresses, only used in standalone mode.")
    known.int("v", 0, "number for the log level verbosity", shorthand="v")
    for deprecated in ("register-with-taints", "pod-manifest-path", "cluster-dns", "cluster-domain", "max-pods", "pod-cidr"):
        known.deprecate(deprecated, _SET_IN_FILE)
    if release >= (1, 27):
        known.deprecate("container-runtime-endpoint", _SET_IN_FILE)
    if release < POD_INFRA_IMAGE_UNTIL:
        text = (
            "Specified image will not be pruned by the image garbage collector. CRI implementations have their own configuration to set this image."
        )
        known.string("pod-infra-container-image", "registry.k8s.io/pause:3.10", text)
        known.deprecate("pod-infra-container-image", "will be removed in 1.35. Image garbage collector will get sandbox image information from CRI.")
    return known


_SET_IN_FILE = (
    "This parameter should be set via the config file specified by the Kubelet's --config flag. "
    "See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information."
)


def load(options: Any) -> Config:
    """Flags over file over defaults. Raises StartupError in upstream's words."""
    hostname = (options.hostname_override or socket.gethostname()).strip().lower()
    if not hostname:
        raise StartupError("empty hostname is invalid")
    config = Config(hostname=hostname, node_name=hostname)
    if options.config:
        _apply_file(config, _read(options.config), options.config)
    _apply_flags(config, options)
    _validate(config)
    return config


def _read(path: str) -> Object:
    import yaml

    try:
        text = Path(path).read_text()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise StartupError(
            f'failed to load kubelet config file, path: {path}, error: failed to read kubelet config file "{path}", error: open {path}: {reason}'
        ) from error
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise StartupError(
            f"failed to load kubelet config file, path: {path}, error: failed to decode: yaml: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(document, dict) or document.get("kind") != "KubeletConfiguration":
        raise StartupError(f"failed to load kubelet config file, path: {path}, error: failed to decode: Object 'Kind' is missing")
    if document.get("apiVersion") != CONFIG_API_VERSION:
        raise StartupError(
            f'failed to load kubelet config file, path: {path}, error: failed to decode: no kind "KubeletConfiguration" '
            f'is registered for version "{document.get("apiVersion")}"'
        )
    problems = unknown_fields(document, _FIELDS, "")
    if problems:
        raise StartupError(f"failed to load kubelet config file, path: {path}, error: failed to decode: strict decoding error: {', '.join(problems)}")
    return document


def unknown_fields(document: Object, table: Object, prefix: str) -> list[str]:
    """Strict decoding's complaints: unknown fields, and values of the wrong kind."""
    problems = []
    for name, value in document.items():
        path = f"{prefix}{name}"
        kind = table.get(name)
        if kind is None:
            if not prefix and name in _DEFAULT_ONLY:
                if value not in (*_DEFAULT_ONLY[name], None):
                    problems.append(f'field "{path}": value {value!r} is not supported')
                continue
            problems.append(f'unknown field "{path}"')
        elif isinstance(kind, dict):
            if isinstance(value, dict):
                problems += unknown_fields(value, kind, f"{path}.")
            elif value is not None:
                problems.append(f"json: cannot unmarshal into Go struct field KubeletConfiguration.{path}")
        elif value is not None and not _fits(kind, value):
            problems.append(f"json: cannot unmarshal {_json_kind(value)} into Go struct field KubeletConfiguration.{path} of type {kind}")
    return problems


def _fits(kind: str, value: Any) -> bool:
    if kind == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == _BOOLEAN:
        return isinstance(value, bool)
    if kind in (_TEXTS, "taints"):
        return isinstance(value, list)
    if kind == "any":
        return True
    if kind == _MAP:
        return isinstance(value, dict)
    return isinstance(value, str)


def _json_kind(value: Any) -> str:
    return {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}.get(type(value), "value")


def _apply_file(config: Config, document: Object, path: str) -> None:
    config.raw = document

    def duration(text: Any, default: float) -> float:
        try:
            value = flags.parse_duration(str(text)) if text else 0.0
        except ValueError as error:
            raise StartupError(f"failed to load kubelet config file, path: {path}, error: failed to decode: {error}") from None
        return value or default

    authentication, authorization = document.get("authentication") or {}, document.get("authorization") or {}
    webhook = authentication.get("webhook") or {}
    config.client_ca_file = (authentication.get("x509") or {}).get("clientCAFile") or ""
    config.anonymous = bool((authentication.get("anonymous") or {}).get("enabled", False))
    config.webhook_authentication = bool(webhook.get("enabled", True))
    config.webhook_authentication_ttl_s = duration(webhook.get("cacheTTL"), config.webhook_authentication_ttl_s)
    config.authorization_mode = authorization.get("mode") or "Webhook"
    config.authorized_ttl_s = duration((authorization.get("webhook") or {}).get("cacheAuthorizedTTL"), config.authorized_ttl_s)
    config.unauthorized_ttl_s = duration((authorization.get("webhook") or {}).get("cacheUnauthorizedTTL"), config.unauthorized_ttl_s)
    for attribute, name in _DURATIONS.items():
        setattr(config, attribute, duration(document.get(name), getattr(config, attribute)))
    for attribute, name in _PLAIN.items():
        if document.get(name) not in (None, ""):
            setattr(config, attribute, document[name])
    if document.get("clusterDNS"):
        config.cluster_dns = tuple(document["clusterDNS"])
    config.pulls_max = 1 if document.get("serializeImagePulls", True) else int(document.get("maxParallelImagePulls") or 0)
    if document.get("evictionHard"):
        config.eviction_hard = {k: str(v) for k, v in document["evictionHard"].items()}
    if document.get("containerLogMaxSize"):
        from kubette.apimachinery import quantity

        config.log_bytes_max = quantity.parse(document["containerLogMaxSize"]).value
    config.taints = list(document.get("registerWithTaints") or [])
    logging = document.get("logging") or {}
    if logging.get("format") not in (None, "", "text"):
        raise StartupError(
            f'failed to validate kubelet configuration, error: logging.format: Invalid value: "{logging["format"]}": Unsupported log format'
        )
    config.verbosity = int(logging.get("verbosity") or 0)


_DURATIONS = {
    "sync_frequency_s": "syncFrequency",
    "file_check_frequency_s": "fileCheckFrequency",
    "streaming_idle_timeout_s": "streamingConnectionIdleTimeout",
    "status_update_s": "nodeStatusUpdateFrequency",
    "status_report_s": "nodeStatusReportFrequency",
    "image_minimum_age_s": "imageMinimumGCAge",
    "image_maximum_age_s": "imageMaximumGCAge",
    "runtime_timeout_s": "runtimeRequestTimeout",
    "pressure_transition_s": "evictionPressureTransitionPeriod",
}
_PLAIN = {
    "static_pod_path": "staticPodPath",
    "pod_logs_dir": "podLogsDir",
    "enable_server": "enableServer",
    "address": "address",
    "port": "port",
    "tls_cert_file": "tlsCertFile",
    "tls_key_file": "tlsPrivateKeyFile",
    "rotate_certificates": "rotateCertificates",
    "healthz_port": "healthzPort",
    "healthz_address": "healthzBindAddress",
    "cluster_domain": "clusterDomain",
    "lease_duration_s": "nodeLeaseDurationSeconds",
    "image_high_percent": "imageGCHighThresholdPercent",
    "image_low_percent": "imageGCLowThresholdPercent",
    "cgroup_driver": "cgroupDriver",
    "cgroup_root": "cgroupRoot",
    "cgroups_per_qos": "cgroupsPerQOS",
    "max_pods": "maxPods",
    "pod_cidr": "podCIDR",
    "resolv_conf": "resolvConf",
    "log_files_max": "containerLogMaxFiles",
    "system_reserved": "systemReserved",
    "kube_reserved": "kubeReserved",
    "register_node": "registerNode",
    "debugging_handlers": "enableDebuggingHandlers",
    "runtime_endpoint": "containerRuntimeEndpoint",
}


def _apply_flags(config: Config, options: Any) -> None:
    config.kubeconfig, config.bootstrap_kubeconfig = options.kubeconfig, options.bootstrap_kubeconfig
    config.root_dir = options.root_dir.rstrip("/")
    config.cert_dir = options.cert_dir if "cert-dir" in options.changed else f"{config.root_dir}/pki"
    if "v" in options.changed:
        config.verbosity = options.v
    config.node_labels = dict(options.node_labels)
    config.node_ips = tuple(ip.strip() for ip in options.node_ip.split(",") if ip.strip())
    for name, attribute in (
        ("container-runtime-endpoint", "runtime_endpoint"),
        ("pod-manifest-path", "static_pod_path"),
        ("cluster-domain", "cluster_domain"),
        ("max-pods", "max_pods"),
        ("pod-cidr", "pod_cidr"),
        ("register-node", "register_node"),
    ):
        if name in options.changed:
            setattr(config, attribute, getattr(options, name.replace("-", "_")))
    if "cluster-dns" in options.changed:
        config.cluster_dns = tuple(options.cluster_dns)
    if options.register_with_taints:
        config.taints = [_parse_taint(text) for text in options.register_with_taints.split(",")]
    if "/" in config.runtime_endpoint and "://" not in config.runtime_endpoint:
        config.runtime_endpoint = f"unix://{config.runtime_endpoint}"


def _parse_taint(text: str) -> Object:
    body, colon, effect = text.rpartition(":")
    key, _, value = body.partition("=")
    if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute") or not key:
        raise StartupError(f"invalid taint spec: {text}")
    return {"key": key, **({"value": value} if value else {}), "effect": effect}


_KUBELET_LABELS = {
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os", "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os",
    "node.kubernetes.io/instance-type", "topology.kubernetes.io/region", "topology.kubernetes.io/zone",
}  # fmt: skip
_KUBELET_LABEL_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def _validate(config: Config) -> None:
    unknown = []
    for label in config.node_labels:
        domain = label.partition("/")[0] if "/" in label else ""
        reserved = domain == "kubernetes.io" or domain.endswith((".kubernetes.io", ".k8s.io")) or domain == "k8s.io"
        own = label in _KUBELET_LABELS or any(domain == p or domain.endswith(f".{p}") for p in _KUBELET_LABEL_PREFIXES)
        if reserved and not own:
            unknown.append(label)
    if unknown:
        raise StartupError(
            f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{' '.join(sorted(unknown))}]\n--node-labels in the "
            f"'kubernetes.io' namespace must begin with an allowed prefix ({', '.join(_KUBELET_LABEL_PREFIXES)}) "
            f"or be in the specifically allowed set ({', '.join(sorted(_KUBELET_LABELS))})"
        )
    for name, value in (("port", config.port), ("healthzPort", config.healthz_port)):
        if not 0 <= value <= 65535:
            raise StartupError(
                f"failed to validate kubelet configuration, error: invalid configuration: {name} (--{name}) {value} must be between 0 and 65535"
            )
    if config.authorization_mode not in ("AlwaysAllow", "Webhook"):
        raise StartupError(f"unknown authorization mode {config.authorization_mode}")
    if config.max_pods < 0:
        raise StartupError(
            f"failed to validate kubelet configuration, error: invalid configuration: maxPods (--max-pods) {config.max_pods} must not be a negative number"
        )
    if config.bootstrap_kubeconfig and not config.kubeconfig:
        raise StartupError("--bootstrap-kubeconfig needs --kubeconfig: the obtained credentials are written there")
    if config.client_ca_file and not os.path.exists(config.client_ca_file):
        raise StartupError(f"unable to load client CA file {config.client_ca_file}: open {config.client_ca_file}: no such file or directory")
