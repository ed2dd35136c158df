"""Where the API server is and who we are: kubeconfig files and the in-cluster configuration (client-go's clientcmd and rest.Config).

Relative paths inside a file are relative to the file. What we cannot honour (exec plugins, auth providers, proxies) is refused, not ignored.
"""

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubeconfigError(Exception):
    """The configuration cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """All that a connection needs. `*_data` fields are PEM text and win over the files, as in clientcmd."""

    server: str
    ca_file: str = ""
    ca_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    cert_file: str = ""
    key_file: str = ""
    cert_data: str = ""
    key_data: str = ""
    token: str = ""
    token_file: str = ""
    namespace: str = "default"
    impersonate: str = ""
    impersonate_groups: tuple[str, ...] = ()


def load(path: str = "", context: str = "", master: str = "") -> ClientConfig:
    """What a component's `--kubeconfig` and `--master` mean: the file if one is named, else the pod's service account. Raises KubeconfigError."""
    if path:
        return from_file(path, context, master)
    if master:
        return ClientConfig(server=_with_scheme(master))
    return in_cluster()


def from_file(path: str, context: str = "", master: str = "") -> ClientConfig:
    """The file's current (or named) context. Raises KubeconfigError."""
    return from_document(read_document(path), context, master, base=Path(path).absolute().parent)


def read_document(path: str) -> dict[str, Any]:
    """The parsed file. Raises KubeconfigError."""
    import yaml

    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        raise KubeconfigError(f"stat {path}: no such file or directory") from None
    except OSError as error:
        raise KubeconfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise KubeconfigError(f'error loading config file "{path}": {" ".join(str(error).split())}') from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise KubeconfigError(f'error loading config file "{path}": the document is not a mapping')
    return document


def from_document(document: dict[str, Any], context: str = "", master: str = "", base: Path | None = None) -> ClientConfig:
    """One context of a parsed kubeconfig."""
    name = context or document.get("current-context") or ""
    entry = _named(document, "contexts", "context", name)
    if entry is None:
        if name:
            raise KubeconfigError(f'context "{name}" does not exist')
        entry = {}
    cluster = _entry(document, "clusters", "cluster", entry.get("cluster") or "")
    user = _entry(document, "users", "user", entry.get("user") or "")
    server = master or cluster.get("server") or ""
    if not server:
        raise KubeconfigError("invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable")
    for refused in ("exec", "auth-provider", "username"):
        if user.get(refused):
            raise KubeconfigError(f'invalid configuration: user "{entry.get("user")}": {refused} is not supported')
    if cluster.get("proxy-url"):
        raise KubeconfigError(f'invalid configuration: cluster "{entry.get("cluster")}": proxy-url is not supported')

    def resolve(value: str | None) -> str:
        return str(base / value) if value and base is not None else value or ""

    return ClientConfig(
        server=_with_scheme(server),
        ca_file=resolve(cluster.get("certificate-authority")),
        ca_data=_decode(cluster, "certificate-authority-data"),
        insecure_skip_tls_verify=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name") or "",
        cert_file=resolve(user.get("client-certificate")),
        key_file=resolve(user.get("client-key")),
        cert_data=_decode(user, "client-certificate-data"),
        key_data=_decode(user, "client-key-data"),
        token=user.get("token") or "",
        token_file=resolve(user.get("tokenFile")),
        namespace=entry.get("namespace") or "default",
        impersonate=user.get("as") or "",
        impersonate_groups=tuple(user.get("as-groups") or ()),
    )


def in_cluster(directory: str = SERVICE_ACCOUNT_DIRECTORY, environ: dict[str, str] | None = None) -> ClientConfig:
    """The configuration of a pod, from its service account's files and the service's environment (rest.InClusterConfig)."""
    variables = os.environ if environ is None else environ
    host, port = variables.get("KUBERNETES_SERVICE_HOST"), variables.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise KubeconfigError("unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined")
    folder = Path(directory)
    token_file, namespace_file = folder / "token", folder / "namespace"
    if not token_file.exists():
        raise KubeconfigError(f"open {token_file}: no such file or directory")
    return ClientConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca_file=str(folder / "ca.crt"),
        token_file=str(token_file),
        namespace=namespace_file.read_text().strip() if namespace_file.exists() else "default",
    )


def _named(document: dict[str, Any], section: str, field: str, name: str) -> dict[str, Any] | None:
    for item in document.get(section) or []:
        if item.get("name") == name:
            return dict(item.get(field) or {})
    return None


def _entry(document: dict[str, Any], section: str, field: str, name: str) -> dict[str, Any]:
    if not name:
        return {}
    entry = _named(document, section, field, name)
    if entry is None:
        raise KubeconfigError(f'invalid configuration: {field} "{name}" does not exist')
    return entry


def _decode(entry: dict[str, Any], field: str) -> str:
    value = entry.get(field)
    if not value:
        return ""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise KubeconfigError(f"invalid configuration: {field}: {error}") from error


def _with_scheme(server: str) -> str:
    return server.rstrip("/") if "://" in server else f"http://{server}".rstrip("/")
