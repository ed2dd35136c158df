"""Pure: how a JoinConfiguration says the cluster is to be found (upstream: apis/kubeadm/validation)."""

import re
from dataclasses import dataclass
from typing import Any

from kubette.kubeadm import config
from kubette.kubeadm.config import ConfigError


@dataclass(frozen=True, slots=True)
class Discovery:
    """By `host:port`, token and pins, or by a kubeconfig file."""

    endpoint: str = ""
    token: str = ""
    pins: tuple[str, ...] = ()
    file: str = ""


def discovery(document: dict[str, Any]) -> tuple[Discovery, str]:
    """(the way to the cluster, the token for the TLS bootstrap). Raises ConfigError in upstream's words."""
    found = document.get("discovery") or {}
    by_token, by_file = found.get("bootstrapToken"), found.get("file")
    bootstrap_token = found.get("tlsBootstrapToken") or ""
    if by_token is not None and by_file is not None:
        raise ConfigError('discovery: Invalid value: "": bootstrapToken and file cannot both be set')
    if bootstrap_token:
        config.parse_token(bootstrap_token)
    if by_file is not None:
        if not by_file.get("kubeConfigPath"):
            raise ConfigError('discovery.file.kubeConfigPath: Invalid value: "": the path of the kubeconfig file must be given')
        return Discovery(file=by_file["kubeConfigPath"]), bootstrap_token
    by_token = by_token or {}
    endpoint, token, pins = by_token.get("apiServerEndpoint") or "", by_token.get("token") or "", tuple(by_token.get("caCertHashes") or ())
    if not endpoint:
        raise ConfigError("discovery.bootstrapToken.apiServerEndpoint: Required value: the API server endpoint must be given as an argument")
    if not token:
        raise ConfigError('discovery.bootstrapToken.token: Invalid value: "": the bootstrap token is invalid')
    config.parse_token(token)
    if not pins and not by_token.get("unsafeSkipCAVerification"):
        raise ConfigError(
            'discovery.bootstrapToken: Invalid value: "": using token-based discovery without caCertHashes can be unsafe. '
            "Set unsafeSkipCAVerification as true in your kubeadm config file or pass --discovery-token-unsafe-skip-ca-verification flag to continue"
        )
    config.check_ca_hashes(list(pins))
    if not re.fullmatch(r"\[?[\w.:-]+\]?:\d+", endpoint):
        raise ConfigError(f'discovery.bootstrapToken.apiServerEndpoint: Invalid value: "{endpoint}": address {endpoint}: missing port in address')
    return Discovery(endpoint, token, pins), bootstrap_token or token
