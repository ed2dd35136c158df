"""kubeadm's commands and flags."""

import asyncio
import datetime
import platform
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from kubette.component_base import flags, version
from kubette.component_base.flags import FlagError, FlagSet, HelpRequested
from kubette.kubeadm import config
from kubette.kubeadm.config import Cluster, ConfigError, Local

_COMMANDS = {
    "init": "Run this command in order to set up the Kubernetes control plane",
    "join": "Run this on any machine you wish to join an existing cluster",
    "reset": "Performs a best effort revert of changes made to this host by 'kubeadm init' or 'kubeadm join'",
    "token": "Manage bootstrap tokens",
    "certs": "Commands related to handling Kubernetes certificates",
    "config": "Manage configuration for a kubeadm cluster persisted in a ConfigMap in the cluster",
    "version": "Print the version of kubeadm",
}


def main(argv: Sequence[str] | None = None) -> int:
    """kubeadm. Exit codes: 0, 1 for a failure, 2 for failed preflight checks, 3 for a bad argument (upstream's)."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    handler = _HANDLERS.get(_command_of(words))
    if handler is None:
        print(f'unknown command "{" ".join(words[:2] if words[0] in _GROUPS else words[:1])}" for "kubeadm"', file=sys.stderr)
        print("To see the stack trace of this error execute with --v=5 or higher", file=sys.stderr)
        return 1
    command = _command_of(words)
    try:
        return _run(handler, command, words[len(command.split()) :])
    except (FlagError, ConfigError) as error:
        print(f"error: {error}" if isinstance(error, FlagError) else error, file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from kubette.kubeadm.phases.context import PhaseError

        failure = _innermost(error)
        print(failure if isinstance(failure, PhaseError) else f"error: {failure}", file=sys.stderr)
        if isinstance(failure, PhaseError) and failure.phase == "preflight":
            print("To see the stack trace of this error execute with --v=5 or higher", file=sys.stderr)
            return 2
    print("To see the stack trace of this error execute with --v=5 or higher", file=sys.stderr)
    return 1


_GROUPS = ("token", "certs", "config")


def _command_of(words: list[str]) -> str:
    """`token create`, `config images list`, `init`."""
    if words[0] == "config":
        return " ".join(words[:3])
    return " ".join(words[:2]) if words[0] in _GROUPS else words[0]


def _run(handler: Callable[[FlagSet, list[str]], int], command: str, words: list[str]) -> int:
    flag_set = FlagSet(f"kubeadm {command}", _COMMANDS[command.split()[0]], positional=True)
    try:
        return handler(flag_set, words)
    except HelpRequested:
        print(flag_set.usage())
        return 0


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _help() -> str:
    lines = ["kubeadm: easily bootstrap a secure Kubernetes cluster", "", "Usage:", "  kubeadm [command]", "", "Available Commands:"]
    return "\n".join([*lines, *(f"  {name:<11} {text}" for name, text in sorted(_COMMANDS.items()))])


def _say(line: str) -> None:
    print(line, flush=True)


def _asyncio_run(work: Awaitable[None]) -> None:
    async def run() -> None:
        await work

    asyncio.run(run())


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


def _default_address() -> str:
    """The address of the interface with the default route; nothing is sent."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            raise ConfigError(f"unable to select an IP from default routes: {error.strerror}") from error
        return str(probe.getsockname()[0])


def _init(flag_set: FlagSet, words: list[str]) -> int:
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
    options = _parse(flag_set, words)
    from kubette.kubeadm.phases import init
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
        _local(options, options.apiserver_advertise_address or _default_address()),
        _say,
        token=options.token,
        token_ttl_s=options.token_ttl,
        upload_certs=options.upload_certs,
        certificate_key=options.certificate_key,
        skip_token_print=options.skip_token_print,
    )
    _asyncio_run(init.run(context))
    _say(init.epilogue(context))
    return 0


def _join(flag_set: FlagSet, words: list[str]) -> int:
    _local_flags(flag_set)
    flag_set.bool("control-plane", False, "Create a new control plane instance on this node.")
    flag_set.string("token", "", "Use this token for both discovery-token and tls-bootstrap-token.")
    flag_set.strings("discovery-token-ca-cert-hash", (), "Validate that the root CA public key matches this hash.")
    flag_set.bool("discovery-token-unsafe-skip-ca-verification", False, "Allow joining without --discovery-token-ca-cert-hash pinning.")
    options = _parse(flag_set, words, arguments=1)
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
    from kubette.kubeadm.phases import join
    from kubette.kubeadm.phases.context import Context

    async def run() -> None:
        address = options.apiserver_advertise_address or await join.stable_address(endpoint)
        context = Context(
            Cluster(kubernetes_version=version.git_version()),
            _local(options, address),
            _say,
            token=options.token,
            certificate_key=options.certificate_key,
            control_plane=options.control_plane,
        )
        await join.run(context, endpoint, pins)
        _say(join.epilogue(context))

    _asyncio_run(run())
    return 0


def _reset(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.bool("force", False, "Reset the node without prompting for confirmation.", shorthand="f")
    options = _parse(flag_set, words)
    from kubette.kubeadm.phases import reset

    if not options.force:
        _say("W [reset] WARNING: Changes made to this host by 'kubeadm init' or 'kubeadm join' will be reverted.")
        print("[reset] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ConfigError("error execution phase preflight: aborted reset operation")
    _asyncio_run(reset.run(_say))
    _say(reset.EPILOGUE)
    return 0


def _admin_flags(flag_set: FlagSet) -> None:
    flag_set.string("kubeconfig", f"{config.KUBERNETES_DIR}/admin.conf", "The kubeconfig file to use when talking to the cluster.")


def _token_create(flag_set: FlagSet, words: list[str]) -> int:
    _admin_flags(flag_set)
    flag_set.duration(
        "ttl", config.DEFAULT_TOKEN_TTL_S, "The duration before the token is automatically deleted. If set to '0', the token will never expire."
    )
    flag_set.string("description", "", "A human friendly description of how this token is used.")
    flag_set.bool("print-join-command", False, "Instead of printing only the token, print the full 'kubeadm join' flag needed to join the cluster.")
    flag_set.string(
        "certificate-key", "", "When used together with '--print-join-command', print the full 'kubeadm join' flag for a control-plane node."
    )
    options = _parse(flag_set, words, arguments=1)
    from kubette.kubeadm import cluster_api, join_command, tokens

    token = options.args[0] if options.args else tokens.new()
    config.parse_token(token)

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            await tokens.create(client, token, options.ttl, options.description)
            _say(await join_command.text(client, token, options.certificate_key) if options.print_join_command else token)

    _asyncio_run(run())
    return 0


def _token_list(flag_set: FlagSet, words: list[str]) -> int:
    _admin_flags(flag_set)
    options = _parse(flag_set, words)
    from kubette.kubeadm import cluster_api, tokens

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            found = await tokens.list_tokens(client)
        if not found:
            return
        now = datetime.datetime.now(datetime.UTC)
        rows = [("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")]
        for each in found:
            ttl = _short_duration((each.expires - now).total_seconds()) if each.expires else "<forever>"
            expires = each.expires.strftime("%Y-%m-%dT%H:%M:%SZ") if each.expires else "<never>"
            rows.append((each.token, ttl, expires, ",".join(each.usages), each.description or "<none>", ",".join(each.groups)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            _say("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    _asyncio_run(run())
    return 0


def _short_duration(seconds: float) -> str:
    if seconds <= 0:
        return "<invalid>"
    return f"{seconds / 3600:.0f}h" if seconds >= 7200 else f"{seconds / 60:.0f}m"


def _token_delete(flag_set: FlagSet, words: list[str]) -> int:
    _admin_flags(flag_set)
    options = _parse(flag_set, words, arguments=16)
    if not options.args:
        raise ConfigError('missing argument; \'token delete\' is missing token of form "[a-z0-9]{6}" or "[a-z0-9]{6}.[a-z0-9]{16}"')
    from kubette.kubeadm import cluster_api, tokens

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            for each in options.args:
                token_id = each.split(".")[0]
                await tokens.delete(client, token_id)
                _say(f'bootstrap token "{token_id}" deleted')

    _asyncio_run(run())
    return 0


def _token_generate(flag_set: FlagSet, words: list[str]) -> int:
    _parse(flag_set, words)
    from kubette.kubeadm import tokens

    _say(tokens.new())
    return 0


def _certificate_key(flag_set: FlagSet, words: list[str]) -> int:
    _parse(flag_set, words)
    from kubette.kubeadm import shared_certs

    _say(shared_certs.new_key())
    return 0


def _images_list(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.string("kubernetes-version", version.git_version(), "Choose a specific Kubernetes version for the control plane.")
    flag_set.string("image-repository", "registry.k8s.io", "Choose a container registry to pull control plane images from.")
    options = _parse(flag_set, words)
    from kubette.kubeadm import images

    wanted = options.kubernetes_version
    cluster = Cluster(wanted if wanted.startswith("v") else f"v{wanted}", image_repository=options.image_repository)
    cluster.validate()
    _say("\n".join(images.required(cluster.kubernetes_version, cluster.image_repository)))
    return 0


def _version(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.string("output", "", "Output format; available options are 'yaml', 'json' and 'short'.", shorthand="o")
    options = _parse(flag_set, words)
    info = version.version_info()
    match options.output:
        case "short":
            _say(info["gitVersion"])
        case "json":
            import json

            _say(json.dumps({"clientVersion": info}, indent=2))
        case "yaml":
            import yaml

            _say(yaml.safe_dump({"clientVersion": info}, sort_keys=False).rstrip())
        case "":
            fields = ", ".join(f'{key[0].upper()}{key[1:]}:"{value}"' for key, value in info.items())
            _say(f"kubeadm version: &version.Info{{{fields}}}")
        case other:
            raise ConfigError(f"invalid output format: {other}")
    return 0


def _parse(flag_set: FlagSet, words: list[str], arguments: int = 0) -> Any:
    flag_set.int("v", 0, "Number for the log level verbosity.", shorthand="v")
    options = flag_set.parse(words)
    if len(options.args) > arguments:
        raise flags.FlagError(f'unknown command "{options.args[arguments]}" for "{flag_set.program}"')
    return options


_HANDLERS: dict[str, Callable[[FlagSet, list[str]], int]] = {
    "init": _init,
    "join": _join,
    "reset": _reset,
    "token create": _token_create,
    "token list": _token_list,
    "token delete": _token_delete,
    "token generate": _token_generate,
    "certs certificate-key": _certificate_key,
    "config images list": _images_list,
    "version": _version,
}
