"""`kubeadm certs generate-csr`: keys, and a request for each certificate, for an authority whose key is elsewhere (upstream: cmd/certs.go, phases/certs)."""

import base64
from pathlib import Path
from typing import Any

from kubette.kubeadm import kubeconfigs, pki
from kubette.kubeadm.phases import kubeconfig
from kubette.kubeadm.phases.context import Context, write_yaml
from kubette.stdx import files


def generate(context: Context, kubeconfig_dir: Path) -> None:
    """`<stem>.key` and `<stem>.csr` below the certificates directory; each kubeconfig file with its key and beside it `<file>.csr`. Raises ConfigError."""
    leaves = pki.leaves(context.cluster, context.local)
    names = list(kubeconfig.PHASES.values())
    keys = iter(pki.new_keys(len(leaves) + len(names)))
    for leaf in leaves:
        key = next(keys)
        path = context.pki / leaf.stem
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path.with_name(f"{path.name}.key"), pki.key_pem(key), mode=0o600)
        files.write_atomic(path.with_name(f"{path.name}.csr"), pki.request(leaf, key), mode=0o600)
    for name in names:
        leaf, key = kubeconfig.leaf(name, context.local.node_name), next(keys)
        ca = context.pki / "ca.crt"
        credentials: dict[str, Any] = {"client-key-data": base64.b64encode(pki.key_pem(key)).decode()}
        document = kubeconfigs.document(
            kubeconfig.server_of(context, name),
            context.cluster.cluster_name,
            leaf.common_name,
            ca.read_bytes() if ca.exists() else b"",
            credentials,
        )
        write_yaml(kubeconfig_dir / name, document)
        files.write_atomic(kubeconfig_dir / f"{name}.csr", pki.request(leaf, key), mode=0o600)
