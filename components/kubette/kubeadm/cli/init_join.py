"""`kubeadm init` and `kubeadm join`."""

import platform
import re
from typing import TYPE_CHECKING, Any

from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.kubeadm import config, documents, joining, local_address, patches, timeouts
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli import config as config_commands
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import Cluster, ConfigError, Local

if TYPE_CHECKING:
    from kubette.kubeadm.phases.context import Context


# What may stand beside --config; anything else would say the same thing twice.
_BESIDE_CONFIG = {
    "config",
    "dry-run",
    "ignore-preflight-errors",
    "node-name",
    "skip-certificate-key-print",
    "skip-phases",
    "skip-token-print",
    "upload-certs",
    "v",
}


def _local_flags(flag_set: FlagSet) -> None:
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.string("node-name", "", "Specify the node name.")
    flag_set.string("apiserver-advertise-address", "", "The IP address the API Server will advertise it's listening on.")
    flag_set.int("apiserver-bind-port", config.API_PORT, "Port for the API Server to bind to.")
    flag_set.string("cri-socket", config.CRI_SOCKET, "Path to the CRI socket to connect.")
    flag_set.bool("dry-run", False, "Don't apply any changes; just output what would be done.")
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")
    flag_set.string("patches", "", 'Path to a directory that contains files named "target[suffix][+patchtype].extension".')
    flag_set.string("certificate-key", "", "Key used to encrypt the control-plane certificates in the kubeadm-certs Secret.")
    if not flag_set.program.endswith("phase"):
        flag_set.strings("skip-phases", (), "List of phases to be skipped.")


def _local(options: Any, document: dict[str, Any], endpoint: dict[str, Any], address: str) -> Local:
    """This machine, out of flags or of the document's nodeRegistration and localAPIEndpoint."""
    registration = document.get("nodeRegistration") or {}
    name = options.node_name or registration.get("name") or platform.node().lower()
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        raise ConfigError(
            f'nodeRegistration.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters'
        )
    ignored = [*options.ignore_preflight_errors, *(registration.get("ignorePreflightErrors") or ())]
    taints = registration.get("taints")
    return Local(
        name,
        options.apiserver_advertise_address or endpoint.get("advertiseAddress") or address,
        endpoint.get("bindPort") or options.apiserver_bind_port,
        registration.get("criSocket") or options.cri_socket,
        frozenset(check.lower() for check in ignored),
        None if taints is None else tuple(taints),
        {argument["name"]: argument["value"] for argument in registration.get("kubeletExtraArgs") or ()},
    )


def init(flag_set: FlagSet, words: list[str]) -> int:
    context, options = _init_context(flag_set, words, arguments=0)
    from kubette.kubeadm.phases import init as phases
    from kubette.kubeadm.phases import workflow

    command_line.run(workflow.run(phases.PHASES, context, options.skip_phases))
    return 0


def init_phase(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import init as phases
    from kubette.kubeadm.phases import workflow

    context, options = _init_context(flag_set, words, arguments=2)
    command_line.run(workflow.run_one(phases.PHASES, options.args, context))
    return 0


def _init_context(flag_set: FlagSet, words: list[str], arguments: int) -> "tuple[Context, Any]":
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
    flag_set.bool("skip-certificate-key-print", False, "Don't print the key used to encrypt the control-plane certificates.")
    flag_set.bool("skip-token-print", False, "Skip printing of the default bootstrap token.")
    options = command_line.parse(flag_set, words, arguments)
    from kubette.kubeadm import cluster_config
    from kubette.kubeadm.phases.context import Context

    loaded = config_commands.load_beside(options, _BESIDE_CONFIG)
    document = (loaded.by_kind.get("InitConfiguration") if loaded else None) or {}
    if loaded:
        cluster = loaded.cluster()
    else:
        cluster = Cluster(
            kubernetes_version=documents.resolve_version(options.kubernetes_version),
            control_plane_endpoint=options.control_plane_endpoint,
            pod_subnet=options.pod_network_cidr,
            service_subnet=options.service_cidr,
            dns_domain=options.service_dns_domain,
            image_repository=options.image_repository,
            api_server_cert_sans=tuple(options.apiserver_cert_extra_sans),
            certificates_dir=options.cert_dir,
        )
        cluster.validate()
    cluster_config.check_age(cluster)
    tokens = document.get("bootstrapTokens") or []
    for token in (options.token, *(wish.get("token", "") for wish in tokens)):
        if token:
            config.parse_token(token)
    options.skip_phases = [*getattr(options, "skip_phases", ()), *(document.get("skipPhases") or ())]
    endpoint = document.get("localAPIEndpoint") or {}
    address = options.apiserver_advertise_address or endpoint.get("advertiseAddress") or local_address.default()
    context = Context(
        cluster,
        _local(options, document, endpoint, address),
        say,
        token=options.token,
        token_ttl_s=options.token_ttl,
        upload_certs=options.upload_certs,
        certificate_key=options.certificate_key or document.get("certificateKey") or "",
        skip_token_print=options.skip_token_print,
        skip_certificate_key_print=options.skip_certificate_key_print,
        bootstrap_tokens=tokens,
        kubelet_configuration=(loaded.by_kind.get("KubeletConfiguration") if loaded else None) or {},
        proxy_configuration=(loaded.by_kind.get("KubeProxyConfiguration") if loaded else None) or {},
    )
    _equip(context, options, document, "init")
    return context, options


def _equip(context: "Context", options: Any, document: dict[str, Any], command: str) -> None:
    """What init and join share: timeouts, patches, and where a dry run puts its files."""
    context.timeouts = timeouts.seconds(document.get("timeouts"))
    context.patches = patches.load(options.patches or (document.get("patches") or {}).get("directory") or "", say)
    context.dry_run = options.dry_run or bool(document.get("dryRun"))
    if context.dry_run:
        from kubette.kubeadm import dry_run

        context.dry_run_directory = dry_run.new_directory(command, say)


def join(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import join as phases
    from kubette.kubeadm.phases import workflow

    context, options = _join_context(flag_set, words)
    command_line.run(workflow.run(phases.PHASES, context, options.skip_phases))
    say("[join] Finished dry-running successfully!" if context.dry_run else phases.epilogue(context))
    return 0


def join_phase(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import join as phases
    from kubette.kubeadm.phases import workflow

    # The phase's own words stand before the endpoint and the flags.
    phase, rest = workflow.split(phases.PHASES, words)
    context, _ = _join_context(flag_set, rest)
    command_line.run(workflow.run_one(phases.PHASES, phase, context))
    return 0


def _join_context(flag_set: FlagSet, words: list[str]) -> "tuple[Context, Any]":
    _local_flags(flag_set)
    flag_set.bool("control-plane", False, "Create a new control plane instance on this node.")
    flag_set.string("token", "", "Use this token for both discovery-token and tls-bootstrap-token.")
    flag_set.string("discovery-token", "", "For token-based discovery, the token used to validate cluster information fetched from the API server.")
    flag_set.string("tls-bootstrap-token", "", "Specify the token used to temporarily authenticate with the Kubernetes Control Plane.")
    flag_set.string("discovery-file", "", "For file-based discovery, a file from which to load cluster information.")
    flag_set.strings("discovery-token-ca-cert-hash", (), "Validate that the root CA public key matches this hash.")
    flag_set.bool("discovery-token-unsafe-skip-ca-verification", False, "Allow joining without --discovery-token-ca-cert-hash pinning.")
    options = command_line.parse(flag_set, words, arguments=1)
    from kubette.kubeadm.phases import join as phases
    from kubette.kubeadm.phases.context import Context

    loaded = config_commands.load_beside(options, _BESIDE_CONFIG, "JoinConfiguration")
    document = loaded.by_kind["JoinConfiguration"] if loaded else _join_document(options)
    discovery, bootstrap_token = joining.discovery(document)
    control_plane = document.get("controlPlane")
    endpoint = (control_plane or {}).get("localAPIEndpoint") or {}
    address = options.apiserver_advertise_address or endpoint.get("advertiseAddress")
    if not address:
        address = command_line.run(phases.stable_address(discovery.endpoint)) if discovery.endpoint else local_address.default()
    options.skip_phases = [*getattr(options, "skip_phases", ()), *(document.get("skipPhases") or ())]
    context = Context(
        Cluster(kubernetes_version=version.git_version()),
        _local(options, document, endpoint, address),
        say,
        token=bootstrap_token,
        certificate_key=(control_plane or {}).get("certificateKey") or "",
        control_plane=control_plane is not None,
        discovery=discovery,
    )
    _equip(context, options, document, "join")
    return context, options


def _join_document(options: Any) -> dict[str, Any]:
    """The flags as the JoinConfiguration they stand for, so that both are judged alike."""
    if options.certificate_key and not options.control_plane:
        raise ConfigError("--certificate-key is only for --control-plane")
    found: dict[str, Any] = {"tlsBootstrapToken": options.tls_bootstrap_token or options.token}
    if options.discovery_file:
        found["file"] = {"kubeConfigPath": options.discovery_file}
    if options.args or options.discovery_token or (options.token and not options.discovery_file) or not options.discovery_file:
        found["bootstrapToken"] = {
            "apiServerEndpoint": options.args[0] if options.args else "",
            "token": options.discovery_token or options.token,
            "caCertHashes": options.discovery_token_ca_cert_hash,
            "unsafeSkipCAVerification": options.discovery_token_unsafe_skip_ca_verification,
        }
    document: dict[str, Any] = {"discovery": found}
    if options.control_plane:
        document["controlPlane"] = {"certificateKey": options.certificate_key}
    return document
