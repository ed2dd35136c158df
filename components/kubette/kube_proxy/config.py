"""The flags of kube-proxy and its KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)."""

import os
from dataclasses import dataclass
from typing import Any

import yaml

from kubette.component_base.flags import FlagSet, parse_duration
from kubette.component_base.run import StartupError

_MODES = ("", "iptables", "userspace")


@dataclass(frozen=True, slots=True)
class Config:
    """One kube-proxy."""

    kubeconfig: str
    node: str
    mode: str
    cluster_cidr: str
    healthz_address: str
    metrics_address: str
    masquerade_all: bool
    min_sync_s: float
    sync_s: float
    cleanup: bool


def flag_set() -> FlagSet:
    flags = FlagSet("kube-proxy", "The Kubernetes network proxy runs on each node.")
    flags.string("config", help="The path to the configuration file.")
    flags.string("kubeconfig", help="Path to kubeconfig file with authorization information.")
    flags.string("hostname-override", help="If non-empty, will be used as the name of the Node that kube-proxy is running on.")
    flags.string("proxy-mode", help="Which proxy mode to use: 'iptables' or 'userspace'; the first if its program is on this machine.")
    flags.string("cluster-cidr", help="The CIDR range of the pods in the cluster.")
    flags.string("healthz-bind-address", "0.0.0.0:10256", "The IP address and port for the health check server to serve on.")
    flags.string("metrics-bind-address", "127.0.0.1:10249", "The IP address and port for the metrics server to serve on.")
    flags.bool("masquerade-all", help="SNAT all traffic sent via Service cluster IPs.")
    flags.duration("iptables-min-sync-period", 1.0, "The minimum period between iptables rule resyncs.")
    flags.duration("iptables-sync-period", 30.0, "How often a failed or waiting sync is reported as unhealthy (twice this).")
    flags.bool("cleanup", help="If true cleanup iptables rules and exit.")
    flags.int("v", 0, "number for the log level verbosity", "v")
    return flags


def load(options: Any) -> Config:
    """Raises StartupError in upstream's words. A configuration file wins over flags, as upstream's does."""
    document = _read(options.config) if options.config else {}
    iptables = document.pop("iptables", None) or {}
    connection = document.pop("clientConnection", None) or {}
    for field in ("apiVersion", "kind"):
        document.pop(field, None)
    known = ("bindAddress", "clusterCIDR", "healthzBindAddress", "metricsBindAddress", "mode", "hostnameOverride")
    unknown = [*(f for f in document if f not in known)]
    unknown += [f"iptables.{f}" for f in iptables if f not in ("masqueradeAll", "minSyncPeriod", "syncPeriod")]
    unknown += [f"clientConnection.{f}" for f in connection if f != "kubeconfig"]
    if unknown:
        raise StartupError(f'strict decoding error: unknown field "{unknown[0]}"')
    if document.get("bindAddress", "0.0.0.0") != "0.0.0.0":
        raise StartupError(f'BindAddress: Invalid value: "{document["bindAddress"]}": only 0.0.0.0 is supported')
    mode = document.get("mode") or options.proxy_mode
    if mode not in _MODES:
        raise StartupError(f'Mode: Invalid value: "{mode}": must be iptables or userspace (blank means the best-available proxy)')
    # Not platform.node(): a program that is started warm would inherit the name that its parent, on the host, once asked for.
    return Config(
        connection.get("kubeconfig") or options.kubeconfig,
        options.hostname_override or document.get("hostnameOverride") or os.uname().nodename.lower(),
        mode,
        document.get("clusterCIDR") or options.cluster_cidr,
        document.get("healthzBindAddress") or options.healthz_bind_address,
        document.get("metricsBindAddress") or options.metrics_bind_address,
        bool(iptables.get("masqueradeAll", options.masquerade_all)),
        _seconds(iptables.get("minSyncPeriod"), options.iptables_min_sync_period),
        _seconds(iptables.get("syncPeriod"), options.iptables_sync_period),
        options.cleanup,
    )


def _seconds(text: Any, default: float) -> float:
    return parse_duration(text) or default if isinstance(text, str) else default


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path) as file:
            document = yaml.safe_load(file)
    except OSError as error:
        raise StartupError(f"failed complete: open {path}: {(error.strerror or str(error)).lower()}") from error
    except yaml.YAMLError as error:
        raise StartupError(f"failed complete: yaml: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "KubeProxyConfiguration":
        raise StartupError(f"failed complete: {path} is not a KubeProxyConfiguration")
    return document
