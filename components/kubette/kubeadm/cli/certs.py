"""`kubeadm certs …` and `kubeadm kubeconfig user`."""

import datetime
from pathlib import Path
from typing import Any

from kubette.component_base.flags import FlagError, FlagSet
from kubette.kubeadm import config, documents
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import Cluster, ConfigError

_RESTART = (
    "\nDone renewing certificates. You must restart the kube-apiserver, kube-controller-manager, kube-scheduler and etcd, "
    "so that they can use the new certificates."
)


def _flags(flag_set: FlagSet) -> None:
    command_line.admin_flags(flag_set)
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.string("cert-dir", config.PKI_DIR, "The path where to save the certificates.")


def _cluster(options: Any, prefix: str, quiet: bool = False) -> Cluster:
    if options.config:
        return documents.load(command_line.read_text(options.config)).cluster()
    from kubette.kubeadm import cluster_config

    return command_line.run(cluster_config.fetch_or_default(Path(options.kubeconfig), prefix, (lambda _: None) if quiet else say))


def _directory(options: Any, cluster: Cluster) -> Path:
    return Path(options.cert_dir if "cert-dir" in options.changed else cluster.certificates_dir)


def check_expiration(flag_set: FlagSet, words: list[str]) -> int:
    _flags(flag_set)
    command_line.output_flag(flag_set)
    options = command_line.parse(flag_set, words)
    if options.output not in command_line.FORMS:
        raise ConfigError(f"invalid output format: {options.output}")
    text = options.output == "text"
    cluster = _cluster(options, "check-expiration", quiet=not text)
    from kubette.kubeadm import expiration, renewal

    leaves, authorities = renewal.findings(renewal.Place(_directory(options, cluster), Path(config.KUBERNETES_DIR)), not cluster.etcd_external)
    if text:
        say("\n" + expiration.report(leaves, authorities, command_line.now()))
    else:
        command_line.show(expiration.document(leaves, authorities, command_line.now()), options.output)
    return 0


def renew(flag_set: FlagSet, words: list[str]) -> int:
    _flags(flag_set)
    options = command_line.parse(flag_set, words, arguments=1)
    from kubette.kubeadm import expiration, pki, renewal

    known = {managed.name: managed for managed in expiration.MANAGED}
    if not options.args:
        raise FlagError('missing subcommand; "kubeadm certs renew" is not meant to be run on its own')
    wanted = options.args[0]
    if wanted != "all" and wanted not in known:
        raise FlagError(f'unknown command "{wanted}" for "kubeadm certs renew"')
    cluster = _cluster(options, "renew")
    say("")
    chosen = expiration.managed(not cluster.etcd_external) if wanted == "all" else [known[wanted]]
    place = renewal.Place(_directory(options, cluster), Path(config.KUBERNETES_DIR))
    renewal.renew(place, chosen, command_line.now(), say, pki.validities(cluster)[1])
    if wanted == "all":
        say(_RESTART)
    return 0


def kubeconfig_user(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    flag_set.string("client-name", "", "The name of user. It will be used as the CN if client certificates are created.")
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.strings("org", (), "The organizations of the client certificate. It will be used as the O if client certificates are created.")
    flag_set.string("token", "", "The token that should be used as the authentication mechanism for this kubeconfig, instead of client certificates.")
    flag_set.duration("validity-period", 8760 * 3600.0, "The validity period of the client certificate.")
    options = command_line.parse(flag_set, words)
    command_line.required(options, "client-name")
    if options.validity_period <= 0:
        raise ConfigError(f"the validity period of a client certificate must be positive, not {options.validity_period:g}s")
    cluster = _cluster(options, "kubeconfig", quiet=True)
    import yaml

    from kubette.kubeadm import kubeconfigs, local_address, pki

    endpoint = config.Local("", "" if cluster.control_plane_endpoint else local_address.default()).endpoint(cluster)
    name, server = options.client_name, f"https://{endpoint}"
    directory = Path(cluster.certificates_dir)
    if options.token:
        ca = pki.pem(pki.load_certificate(directory / "ca.crt"))
        document = kubeconfigs.with_token(server, cluster.cluster_name, name, ca, options.token)
    else:
        authority, (key,) = pki.load_authority(directory, "ca"), pki.new_keys(1)
        leaf = pki.Leaf("", "ca", name, tuple(options.org), client=True)
        certificate = pki.sign(leaf, key, authority, command_line.now(), datetime.timedelta(seconds=options.validity_period))
        document = kubeconfigs.with_certificate(
            server, cluster.cluster_name, name, pki.pem(authority.certificate), pki.pem(certificate), pki.key_pem(key)
        )
    say(yaml.safe_dump(document, sort_keys=False, width=1000).rstrip())
    return 0


def generate_csr(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.string("cert-dir", config.PKI_DIR, "The path where to save the certificates.")
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.string("kubeconfig-dir", config.KUBERNETES_DIR, "The path where to save the kubeconfig file.")
    options = command_line.parse(flag_set, words)
    import dataclasses
    import platform

    from kubette.component_base import version
    from kubette.kubeadm import local_address, signing_requests
    from kubette.kubeadm.phases.context import Context

    loaded = documents.load(command_line.read_text(options.config)) if options.config else None
    cluster = loaded.cluster() if loaded else Cluster(version.git_version())
    if not loaded or "cert-dir" in options.changed:
        cluster = dataclasses.replace(cluster, certificates_dir=options.cert_dir)
    init = (loaded.by_kind.get("InitConfiguration") if loaded else None) or {}
    name = (init.get("nodeRegistration") or {}).get("name") or platform.node().lower()
    address = (init.get("localAPIEndpoint") or {}).get("advertiseAddress") or local_address.default()
    signing_requests.generate(Context(cluster, config.Local(name, address), say), Path(options.kubeconfig_dir))
    return 0


def certificate_key(flag_set: FlagSet, words: list[str]) -> int:
    command_line.parse(flag_set, words)
    from kubette.kubeadm import shared_certs

    say(shared_certs.new_key())
    return 0
