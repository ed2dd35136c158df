"""The flags of kube-controller-manager, and their validation. Names, defaults and texts are upstream's."""

from collections.abc import Sequence
from typing import Any

from kubette.client.elected import add_leader_election_flags, add_serving_flags
from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.component_base.run import StartupError
from kubette.kube_controller_manager import controllers

PORT = 10257


def flag_set() -> FlagSet:
    """All flags that this program knows."""
    flags = FlagSet(
        "kube-controller-manager",
        "The Kubernetes controller manager is a daemon that embeds the core control loops shipped with Kubernetes: each watches the shared state"
        " of the cluster through the apiserver and makes changes attempting to move the current state towards the desired state.",
    )
    _generic(flags)
    add_serving_flags(flags, PORT)
    add_leader_election_flags(flags, "kube-controller-manager")
    _workers(flags)
    _nodes(flags)
    _certificates(flags)
    return flags


def _generic(flags: FlagSet) -> None:
    flags.strings(
        "controllers",
        ["*"],
        "A list of controllers to enable. '*' enables all on-by-default controllers, 'foo' enables 'foo', '-foo' disables 'foo'.",
    )
    flags.string("kubeconfig", help="Path to kubeconfig file with authorization and master location information.")
    flags.string("master", help="The address of the Kubernetes API server (overrides any value in kubeconfig).")
    flags.bool("use-service-account-credentials", help="If true, use individual service account credentials for each controller.")
    flags.string("cluster-name", "kubernetes", "The instance prefix for the cluster.")
    flags.string(
        "root-ca-file", help="If set, this root certificate authority is published as kube-root-ca.crt and put into service account's token secrets."
    )
    flags.string(
        "service-account-private-key-file", help="Filename containing a PEM-encoded private RSA or ECDSA key used to sign service account tokens."
    )
    flags.int(
        "terminated-pod-gc-threshold",
        12500,
        "Number of terminated pods that can exist before the garbage collector starts deleting them. <= 0 disables it.",
    )
    flags.bool("enable-garbage-collector", True, "Enables the generic garbage collector. MUST be synced with the kube-apiserver's flag.")
    flags.duration("namespace-sync-period", 300.0, "The period for syncing namespace life-cycle updates")
    flags.duration("resource-quota-sync-period", 300.0, "The period for syncing quota usage status in the system")
    flags.duration("pvclaimbinder-sync-period", 15.0, "The period for syncing persistent volumes and persistent volume claims")
    for name, default_s, what in (
        ("sync-period", 15.0, "The period for syncing the number of pods in horizontal pod autoscaler."),
        (
            "downscale-stabilization",
            300.0,
            "The period for which autoscaler will look backwards and not scale down below any recommendation it made during that period.",
        ),
        ("cpu-initialization-period", 300.0, "The period after pod start when CPU samples might be skipped."),
        ("initial-readiness-delay", 30.0, "The period after pod start during which readiness changes will be treated as initial readiness."),
    ):
        flags.duration(f"horizontal-pod-autoscaler-{name}", default_s, what)
    flags.number(
        "horizontal-pod-autoscaler-tolerance",
        0.1,
        "The minimum change (from 1.0) in the desired-to-actual metrics ratio for the horizontal pod autoscaler to consider scaling.",
    )
    flags.int("v", 0, "number for the log level verbosity", "v")


def _workers(flags: FlagSet) -> None:
    for name, default, what in (
        ("concurrent-deployment-syncs", 5, "deployment objects"),
        ("concurrent-replicaset-syncs", 5, "replica sets"),
        ("concurrent-rc-syncs", 5, "replication controllers"),
        ("concurrent-daemonset-syncs", 2, "daemonset objects"),
        ("concurrent-statefulset-syncs", 5, "statefulset objects"),
        ("concurrent-job-syncs", 5, "job objects"),
        ("concurrent-cron-job-syncs", 5, "cron job objects"),
        ("concurrent-endpoint-syncs", 5, "endpoint syncing operations"),
        ("concurrent-service-endpoint-syncs", 5, "service endpoint syncing operations"),
        ("concurrent-namespace-syncs", 10, "namespace objects"),
        ("concurrent-serviceaccount-syncs", 5, "service accounts"),
        ("concurrent-gc-syncs", 20, "garbage collector workers"),
        ("concurrent-horizontal-pod-autoscaler-syncs", 5, "horizontal pod autoscaler objects"),
        ("concurrent-resource-quota-syncs", 5, "resource quotas"),
        ("concurrent-ttl-after-finished-syncs", 5, "ttl-after-finished-controller workers"),
    ):
        flags.int(name, default, f"The number of {what} that are allowed to sync concurrently.")
    flags.int("max-endpoints-per-slice", 100, "The maximum number of endpoints that will be added to an EndpointSlice.")


def _nodes(flags: FlagSet) -> None:
    # 40 s until v1.31, 50 s from v1.32 on (kubernetes/kubernetes#126287): five missed kubelet status updates.
    grace_s = 50.0 if version.major_minor() >= (1, 32) else 40.0
    flags.bool("allocate-node-cidrs", False, "Should CIDRs for Pods be allocated.")
    flags.string("cluster-cidr", help="CIDR Range for Pods in cluster. Requires --allocate-node-cidrs to be true")
    flags.string("service-cluster-ip-range", help="CIDR Range for Services in cluster. Requires --allocate-node-cidrs to be true")
    flags.int("node-cidr-mask-size", 0, "Mask size for node cidr in cluster. Default is 24 for IPv4 and 64 for IPv6.")
    flags.int("node-cidr-mask-size-ipv4", 0, "Mask size for IPv4 node cidr in dual-stack cluster. Default is 24.")
    flags.int("node-cidr-mask-size-ipv6", 0, "Mask size for IPv6 node cidr in dual-stack cluster. Default is 64.")
    flags.duration("node-monitor-period", 5.0, "The period for syncing NodeStatus.")
    flags.duration("node-monitor-grace-period", grace_s, "Amount of time which we allow running Node to be unresponsive before marking it unhealthy.")
    flags.duration("node-startup-grace-period", 60.0, "Amount of time which we allow starting Node to be unresponsive before marking it unhealthy.")
    flags.number("node-eviction-rate", 0.1, "Number of nodes per second on which pods are deleted in case of node failure when a zone is healthy.")
    flags.number("secondary-node-eviction-rate", 0.01, "Number of nodes per second on which pods are deleted when a zone is unhealthy.")
    flags.int("large-cluster-size-threshold", 50, "Number of nodes from which the cluster is treated as large for the eviction logic.")
    flags.number(
        "unhealthy-zone-threshold", 0.55, "Fraction of Nodes in a zone which needs to be not Ready (minimum 3) for zone to be treated as unhealthy."
    )


def _certificates(flags: FlagSet) -> None:
    flags.string("cluster-signing-cert-file", help="Filename containing a PEM-encoded X509 CA certificate used to issue cluster-scoped certificates.")
    flags.string("cluster-signing-key-file", help="Filename containing a PEM-encoded private key used to sign cluster-scoped certificates.")
    flags.duration("cluster-signing-duration", 8760 * 3600.0, "The max length of duration signed certificates will be given.")


def validate(options: Any) -> list[controllers.Entry]:
    """The controllers to run. Raises StartupError in upstream's words."""
    try:
        chosen = controllers.selected(options.controllers)
    except controllers.UnknownController as error:
        raise StartupError(str(error)) from None
    if bool(options.tls_cert_file) != bool(options.tls_private_key_file):
        raise StartupError("both --tls-cert-file and --tls-private-key-file must be given")
    if bool(options.cluster_signing_cert_file) != bool(options.cluster_signing_key_file):
        raise StartupError("cannot specify one of --cluster-signing-cert-file and --cluster-signing-key-file without the other")
    for name in ("root-ca-file", "service-account-private-key-file", "cluster-signing-cert-file", "cluster-signing-key-file", "client-ca-file"):
        _readable(name, getattr(options, name.replace("-", "_")))
    if not options.enable_garbage_collector:
        chosen = [e for e in chosen if e.name != "garbage-collector-controller"]
    if not options.cluster_signing_cert_file:
        chosen = [e for e in chosen if e.name != "certificatesigningrequest-signing-controller"]
    if not options.service_account_private_key_file:
        chosen = [e for e in chosen if e.name != "serviceaccount-token-controller"]
    if not options.root_ca_file:
        chosen = [e for e in chosen if e.name != "root-ca-certificate-publisher-controller"]
    if not options.allocate_node_cidrs:
        chosen = [e for e in chosen if e.name != "node-ipam-controller"]
    _at_least_one(options, [f for f in vars(options) if f.startswith("concurrent_")])
    return chosen


def _readable(flag: str, path: str) -> None:
    if not path:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise StartupError(f"error reading file for --{flag}: open {path}: {(error.strerror or str(error)).lower()}") from error


def _at_least_one(options: Any, names: Sequence[str]) -> None:
    for name in names:
        if getattr(options, name) < 1:
            raise StartupError(f"{name.replace('_', '-')} must be greater than 0, but got {getattr(options, name)}")
