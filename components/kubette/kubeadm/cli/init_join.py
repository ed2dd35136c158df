"""`kubeadm init`, `kubeadm join` and `kubeadm reset`."""

import platform
import re
import sys
from typing import Any

from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.kubeadm import config, local_address
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import Cluster, ConfigError, Local


def _local_flags(flag_set: FlagSet) -> None:
    flag_set.string("node-name", "", "Specify the node name.")
    flag_set.string("apiserver-advertise-address", "", "The IP address the API Server will advertise it's listening on.")
    flag_set.int("apiserver-bind-port", config.API_PORT, "Port for the API Server to bind to.")
    flag_set.string("cri-socket", config.CRI_SOCKET, "Path to the CRI socket to connect.")
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")
    flag_set.string("certificate-key", "", "Key used to encrypt the control-plane certificates in the kubeadm-certs Secret.")


def _local(options: Any, address: str) -> Local:
    name = options.node_name or platform.node().lower()
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        raise ConfigError(
            f'nodeRegistration.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters'
        )
    ignored = frozenset(check.lower() for check in options.ignore_preflight_errors)
    return Local(name, address, options.apiserver_bind_port, options.cri_socket, ignored)


def init(flag_set: FlagSet, words: list[str]) -> int:
    _local_flags(flag_set)
    flag_set.strings("apiserver-cert-extra-sans", (), "Optional extra Subject Alternative Names for the API Server serving certificate.")
    flag_set.string("cert-dir", config.PKI_DIR, "The path where to save and store the certificates.")
    flag_set.string("control-plane-endpoint", "", "Specify a stable IP address or DNS name for the control plane.")
    flag_set.string("image-repository", "registry.k8s.io", "Choose a container registry to pull control plane images from.")
    flag_set.string("kubernetes-version", version.git_version(), "Choose a specific Kubernetes version for the control plane.")
    flag_set.string("pod-network-cidr", "", "Specify range of IP addresses for the pod network.")
    flag_set.string("service-cidr", "10.96.0.0/12", "Use alternative range of IP address for service VIPs.")
    flag_set.string("service-dns-domain", "cluster.local", "Use alternative domain for services.")
    flag_set.string("token", "", "The token to use for establishing bidirectional trust between nodes and control-plane nodes.")
    flag_set.duration("token-ttl", config.DEFAULT_TOKEN_TTL_S, "The duration before the token is automatically deleted.")
    flag_set.bool("upload-certs", False, "Upload control-plane certificates to the kubeadm-certs Secret.")
    flag_set.bool("skip-token-print", False, "Skip printing of the default bootstrap token.")
    options = command_line.parse(flag_set, words)
    from kubette.kubeadm.phases import init as phases
    from kubette.kubeadm.phases.context import Context

    wanted = options.kubernetes_version
    cluster = Cluster(
        kubernetes_version=wanted if wanted.startswith("v") else f"v{wanted}",
        control_plane_endpoint=options.control_plane_endpoint,
        pod_subnet=options.pod_network_cidr,
        service_subnet=options.service_cidr,
        dns_domain=options.service_dns_domain,
        image_repository=options.image_repository,
        api_server_cert_sans=tuple(options.apiserver_cert_extra_sans),
        certificates_dir=options.cert_dir,
    )
    cluster.validate()
    if options.token:
        config.parse_token(options.token)
    context = Context(
        cluster,
        _local(options, options.apiserver_advertise_address or local_address.default()),
        say,
        token=options.token,
        token_ttl_s=options.token_ttl,
        upload_certs=options.upload_certs,
        certificate_key=options.certificate_key,
        skip_token_print=options.skip_token_print,
    )
    command_line.run(phases.run(context))
    say(phases.epilogue(context))
    return 0


def join(flag_set: FlagSet, words: list[str]) -> int:
    _local_flags(flag_set)
    flag_set.bool("control-plane", False, "Create a new control plane instance on this node.")
    flag_set.string("token", "", "Use this token for both discovery-token and tls-bootstrap-token.")
    flag_set.strings("discovery-token-ca-cert-hash", (), "Validate that the root CA public key matches this hash.")
    flag_set.bool("discovery-token-unsafe-skip-ca-verification", False, "Allow joining without --discovery-token-ca-cert-hash pinning.")
    options = command_line.parse(flag_set, words, arguments=1)
    if not options.args:
        raise ConfigError("discovery.bootstrapToken.apiServerEndpoint: Required value: the API server endpoint must be given as an argument")
    if not options.token:
        raise ConfigError('discovery.bootstrapToken.token: Invalid value: "": the bootstrap token is invalid')
    config.parse_token(options.token)
    pins = options.discovery_token_ca_cert_hash
    if not pins and not options.discovery_token_unsafe_skip_ca_verification:
        raise ConfigError(
            'discovery.bootstrapToken: Invalid value: "": using token-based discovery without caCertHashes can be unsafe. '
            "Set unsafeSkipCAVerification as true in your kubeadm config file or pass --discovery-token-unsafe-skip-ca-verification flag to continue"
        )
    config.check_ca_hashes(pins)
    if options.certificate_key and not options.control_plane:
        raise ConfigError("--certificate-key is only for --control-plane")
    endpoint = options.args[0]
    if not re.fullmatch(r"\[?[\w.:-]+\]?:\d+", endpoint):
        raise ConfigError(f'discovery.bootstrapToken.apiServerEndpoint: Invalid value: "{endpoint}": address {endpoint}: missing port in address')
    from kubette.kubeadm.phases import join as phases
    from kubette.kubeadm.phases.context import Context

    async def run() -> None:
        address = options.apiserver_advertise_address or await phases.stable_address(endpoint)
        context = Context(
            Cluster(kubernetes_version=version.git_version()),
            _local(options, address),
            say,
            token=options.token,
            certificate_key=options.certificate_key,
            control_plane=options.control_plane,
        )
        await phases.run(context, endpoint, pins)
        say(phases.epilogue(context))

    command_line.run(run())
    return 0


def reset_machine(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.bool("force", False, "Reset the node without prompting for confirmation.", shorthand="f")
    options = command_line.parse(flag_set, words)
    from kubette.kubeadm.phases import reset

    if not options.force:
        say("W [reset] WARNING: Changes made to this host by 'kubeadm init' or 'kubeadm join' will be reverted.")
        print("[reset] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ConfigError("error execution phase preflight: aborted reset operation")
    command_line.run(reset.run(say))
    say(reset.EPILOGUE)
    return 0
