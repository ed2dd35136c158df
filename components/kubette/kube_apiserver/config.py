"""The flags of kube-apiserver and what they mean, checked once.

Flags upstream has and we do not are refused as unknown; every flag here does what upstream's does.
"""

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubette.component_base import flags, run
from kubette.kube_apiserver.audit import options as audit_options

AUTHORIZATION_MODES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC")
ADDRESS_TYPES = ("Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP")


def flag_set() -> flags.FlagSet:
    """Upstream's names, defaults and words."""
    f = flags.FlagSet(
        "kube-apiserver",
        "The Kubernetes API server validates and configures data for the api objects which include pods, services, "
        "replicationcontrollers, and others. The API Server services REST operations and provides the frontend to the "
        "cluster's shared state through which all other components interact.",
    )
    f.string("advertise-address", "", "The IP address on which to advertise the apiserver to members of the cluster.")
    f.bool("allow-privileged", False, "If true, allow privileged containers.")
    f.bool("anonymous-auth", True, "Enables anonymous requests to the secure port of the API server.")
    f.strings("api-audiences", (), "Identifiers of the API. Defaults to the issuers of service account tokens.")
    f.int(
        "apiserver-count",
        1,
        "The number of apiservers running in the cluster, must be a positive number. (In use when --endpoint-reconciler-type=master-count is enabled.)",
    )
    f.deprecate("apiserver-count", "apiserver-count is deprecated and will be removed in a future version.")
    f.string(
        "audit-log-format",
        "json",
        'Format of saved audits. "legacy" indicates 1-line text format for each event. "json" indicates structured json format. Known formats are legacy,json.',
    )
    f.int("audit-log-maxage", 0, "The maximum number of days to retain old audit log files based on the timestamp encoded in their filename.")
    f.int(
        "audit-log-maxbackup",
        0,
        "The maximum number of old audit log files to retain. Setting a value of 0 will mean there's no restriction on the number of files.",
    )
    f.int("audit-log-maxsize", 0, "The maximum size in megabytes of the audit log file before it gets rotated.")
    f.string(
        "audit-log-mode",
        "blocking",
        "Strategy for sending audit events. Blocking indicates sending events should block server responses. Batch causes the backend to buffer and write events asynchronously. Known modes are batch,blocking,blocking-strict.",
    )
    f.string("audit-log-path", "", "If set, all requests coming to the apiserver will be logged to this file.  '-' means standard out.")
    f.string("audit-policy-file", "", "Path to the file that defines the audit policy configuration.")
    f.strings("authorization-mode", ("AlwaysAllow",), "Ordered list of plug-ins to do authorization on secure port.")
    f.string("bind-address", "0.0.0.0", "The IP address on which to listen for the --secure-port port.")
    f.string("cert-dir", "/var/run/kubernetes", "The directory where the TLS certs are located when none are given.")
    f.string("client-ca-file", "", "Any request presenting a client certificate signed by one of these authorities is authenticated by it.")
    f.int("default-watch-cache-size", 100, "Default watch cache size.")
    f.strings("disable-admission-plugins", (), "Admission plugins that should be disabled although they are in the default enabled plugins list.")
    f.strings("enable-admission-plugins", (), "Admission plugins that should be enabled in addition to default enabled ones.")
    f.bool(
        "enable-bootstrap-token-auth", False, "Allow secrets of type 'bootstrap.kubernetes.io/token' in kube-system to be used for TLS bootstrapping."
    )
    f.string("endpoint-reconciler-type", "lease", "Use an endpoint reconciler (lease, none).")
    f.string("etcd-cafile", "", "SSL Certificate Authority file used to secure etcd communication.")
    f.string("etcd-certfile", "", "SSL certification file used to secure etcd communication.")
    f.duration("etcd-compaction-interval", 300, "The interval of compaction requests. If 0, the compaction request from apiserver is disabled.")
    f.string("etcd-keyfile", "", "SSL key file used to secure etcd communication.")
    f.string("etcd-prefix", "/registry", "The prefix to prepend to all resource paths in etcd.")
    f.strings("etcd-servers", (), "List of etcd servers to connect with (scheme://ip:port), comma separated.")
    f.duration("event-ttl", 3600, "Amount of time to retain events.")
    f.string("external-hostname", "", "The hostname to use when generating externalized URLs for this master.")
    f.string("kubelet-certificate-authority", "", "Path to a cert file for the certificate authority of kubelets.")
    f.string("kubelet-client-certificate", "", "Path to a client cert file for TLS.")
    f.string("kubelet-client-key", "", "Path to a client key file for TLS.")
    f.strings("kubelet-preferred-address-types", ADDRESS_TYPES, "List of the preferred NodeAddressTypes to use for kubelet connections.")
    f.duration("kubelet-timeout", 5, "Timeout for kubelet operations.")
    f.int("max-mutating-requests-inflight", 200, "The maximum number of mutating requests in flight at a given time. 0 for no limit.")
    f.int("max-requests-inflight", 400, "The maximum number of non-mutating requests in flight at a given time. 0 for no limit.")
    f.int("min-request-timeout", 1800, "The minimum number of seconds a handler must keep a watch open before timing it out.")
    f.string("proxy-client-cert-file", "", "Client certificate used to prove the identity of the aggregator when it must call out during a request.")
    f.string("proxy-client-key-file", "", "Private key for the client certificate of the aggregator.")
    f.duration("request-timeout", 60, "The duration a handler must keep a request open before timing it out.")
    f.strings("requestheader-allowed-names", (), "Client certificate common names allowed to provide usernames in headers.")
    f.string("requestheader-client-ca-file", "", "Root certificate bundle to verify client certificates before trusting usernames in headers.")
    f.strings("requestheader-extra-headers-prefix", (), "List of request header prefixes to inspect.")
    f.strings("requestheader-group-headers", (), "List of request headers to inspect for groups.")
    f.strings("requestheader-username-headers", (), "List of request headers to inspect for usernames.")
    f.mapping("runtime-config", {}, "A set of key=value pairs that enable or disable built-in APIs.")
    f.int("secure-port", 6443, "The port on which to serve HTTPS with authentication and authorization.")
    f.strings("service-account-issuer", (), "Identifier of the service account token issuer; the first is used to issue, all are accepted.")
    f.strings("service-account-key-file", (), "File containing PEM-encoded x509 keys, used to verify ServiceAccount tokens.")
    f.string("service-account-signing-key-file", "", "Path to the file that contains the current private key of the service account token issuer.")
    f.string("service-cluster-ip-range", "10.0.0.0/24", "A CIDR notation IP range from which to assign service cluster IPs.")
    f.string("service-node-port-range", "30000-32767", "A port range to reserve for services with NodePort visibility.")
    f.duration("shutdown-delay-duration", 0, "Time to delay the termination. During that time the server keeps serving requests normally.")
    f.string("storage-backend", "etcd3", "The storage backend for persistence. Options: 'etcd3' (default).")
    f.string("tls-cert-file", "", "File containing the default x509 Certificate for HTTPS.")
    f.string("tls-private-key-file", "", "File containing the default x509 private key matching --tls-cert-file.")
    f.string("token-auth-file", "", "If set, the file that will be used to secure the secure port of the API server via token authentication.")
    f.int("v", 0, "number for the log level verbosity", "v")
    return f


FLAGS = flag_set()


@dataclass(slots=True)
class Config:
    """What the server runs with. `options` has the flags as given, for the parts that own them."""

    options: Any
    advertise_address: str
    service_range: ipaddress.IPv4Network | ipaddress.IPv6Network
    node_ports: range
    disabled_group_versions: frozenset[str] = field(default_factory=frozenset)


def load(options: Any) -> Config:
    """Check the flags against each other. Raises StartupError with every fault found, as upstream prints them."""
    faults: list[str] = []
    if not options.etcd_servers:
        faults.append("--etcd-servers must be specified")
    if options.storage_backend != "etcd3":
        faults.append(f"--storage-backend invalid, allowed values: etcd3. If not specified, it will default to 'etcd3': {options.storage_backend}")
    if not 0 <= options.secure_port <= 65535:
        faults.append(f"--secure-port {options.secure_port} must be between 1 and 65535, inclusive. It cannot be turned off with 0")
    modes, types = options.authorization_mode, options.kubelet_preferred_address_types
    faults += [f'authorization-mode "{mode}" is not a valid mode' for mode in modes if mode not in AUTHORIZATION_MODES]
    faults += [f'authorization-mode "{mode}" has been specified more than once' for mode in dict.fromkeys(modes) if modes.count(mode) > 1]
    faults += [f'--kubelet-preferred-address-types contains unknown type "{one}"' for one in types if one not in ADDRESS_TYPES]
    if options.endpoint_reconciler_type not in ("lease", "none"):
        faults.append(f'--endpoint-reconciler-type must be one of [lease none], got "{options.endpoint_reconciler_type}"')
    if options.apiserver_count <= 0:
        faults.append(f"--apiserver-count should be a positive number, but value '{options.apiserver_count}' provided")
    if bool(options.tls_cert_file) != bool(options.tls_private_key_file):
        faults.append("--tls-cert-file and --tls-private-key-file must be specified together")
    if bool(options.kubelet_client_certificate) != bool(options.kubelet_client_key):
        faults.append("--kubelet-client-certificate and --kubelet-client-key must be specified together")
    if bool(options.proxy_client_cert_file) != bool(options.proxy_client_key_file):
        faults.append("--proxy-client-cert-file and --proxy-client-key-file must be specified together")
    if options.max_requests_inflight < 0 or options.max_mutating_requests_inflight < 0:
        faults.append("--max-requests-inflight and --max-mutating-requests-inflight can not be negative value")
    if options.request_timeout < 0:
        faults.append("--request-timeout can not be negative value")
    if options.event_ttl <= 0:
        faults.append("--event-ttl must be positive")
    faults += audit_options.check(options)
    service_range = _network(options.service_cluster_ip_range, faults)
    node_ports = _port_range(options.service_node_port_range, faults)
    disabled = _runtime_config(options.runtime_config, faults)
    for name in ("etcd_cafile", "etcd_certfile", "etcd_keyfile", "client_ca_file", "token_auth_file", "kubelet_certificate_authority"):
        path = getattr(options, name)
        if path and not Path(path).is_file():
            faults.append(f"open {path}: no such file or directory")
    if faults:
        raise run.StartupError(faults[0] if len(faults) == 1 else "[" + ", ".join(faults) + "]")
    assert service_range is not None
    return Config(options, options.advertise_address or _default_address(options.bind_address), service_range, node_ports, disabled)


def _network(text: str, faults: list[str]) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        faults.append(f"--service-cluster-ip-range: invalid CIDR address: {text}")
        return None
    if network.num_addresses < 8:
        faults.append("specified --service-cluster-ip-range is too small: it must hold at least 8 addresses")
    return network


def _port_range(text: str, faults: list[str]) -> range:
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 0 < int(low) <= int(high) < 65536):
        faults.append(f'invalid argument "{text}" for "--service-node-port-range" flag')
        return range(0)
    return range(int(low), int(high) + 1)


def _runtime_config(given: dict[str, str], faults: list[str]) -> frozenset[str]:
    """The group-versions that are switched off. Only stable ones are served, so `api/all`, `api/beta` … switch nothing on."""
    disabled: set[str] = set()
    for name, value in given.items():
        try:
            enabled = flags.parse_bool(value) if value else True
        except ValueError as error:
            faults.append(f"invalid value of runtime-config {name}={value}: {error}")
            continue
        if name in ("api/all", "api/ga") and not enabled:
            faults.append(f"invalid value {name}={value}")
        elif name.startswith("api/") and name not in ("api/all", "api/ga", "api/beta", "api/alpha"):
            faults.append(f"unknown api groups {name}")
        elif not name.startswith("api/") and not enabled:
            disabled.add(name)
    return frozenset(disabled)


def _default_address(bind_address: str) -> str:
    """The address others reach this machine at: the bind address unless it is a loopback one, or the one the default route leaves from."""
    if bind_address not in ("", "0.0.0.0", "::", "::1") and not bind_address.startswith("127."):
        return bind_address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a UDP connect sends nothing, it only picks a route
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
