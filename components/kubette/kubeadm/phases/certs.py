"""Phase certs: the CAs, the leaf certificates and the service-account key pair. What is there already is used."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

from kubette.kubeadm import pki
from kubette.kubeadm.phases.context import Context
from kubette.stdx import files

# phase name -> file stem, in the order of making: an authority before what it signs.
STEMS = {
    "ca": "ca",
    "apiserver": "apiserver",
    "apiserver-kubelet-client": "apiserver-kubelet-client",
    "front-proxy-ca": "front-proxy-ca",
    "front-proxy-client": "front-proxy-client",
    "etcd-ca": "etcd/ca",
    "etcd-server": "etcd/server",
    "etcd-peer": "etcd/peer",
    "etcd-healthcheck-client": "etcd/healthcheck-client",
    "apiserver-etcd-client": "apiserver-etcd-client",
    "sa": "sa",
}


def run(context: Context, now: datetime.datetime, chosen: Sequence[str] = tuple(STEMS)) -> None:
    """Make what is missing of the chosen certificates and keys below the certificates directory."""
    directory, say = context.pki, context.say
    say(f'[certs] Using certificateDir folder "{directory}"')
    leaves = {leaf.stem: leaf for leaf in pki.leaves(context.cluster, context.local)}
    skipped = {stem for stem in STEMS.values() if stem not in ("sa", *pki.AUTHORITIES, *leaves)}
    if context.cluster.etcd_external:
        skipped.add("etcd/ca")
    stems = [stem for name, stem in STEMS.items() if name in chosen and stem not in skipped]
    missing = [stem for stem in stems if not (directory / (f"{stem}.key" if stem == "sa" else f"{stem}.crt")).exists()]
    keys = iter(pki.new_keys(len(missing)))
    ca_validity, leaf_validity = pki.validities(context.cluster)
    for name in (name for name in STEMS if name in chosen):
        stem = STEMS[name]
        if stem in skipped:
            say(f"[certs] External etcd mode: Skipping {stem} certificate {'authority ' if stem in pki.AUTHORITIES else ''}generation")
        elif stem == "sa":
            _service_account(directory, next(keys) if stem in missing else None, say)
        elif stem in pki.AUTHORITIES:
            if stem not in missing:
                keyless = " keyless" if not (directory / f"{stem}.key").exists() else ""
                say(f"[certs] Using existing {stem}{keyless} certificate authority")
                continue
            say(f'[certs] Generating "{stem}" certificate and key')
            made = pki.new_authority(pki.AUTHORITIES[stem], next(keys), now, ca_validity)
            pki.write_pair(directory, stem, made.certificate, made.key)
        elif stem not in missing:
            say(f"[certs] Using existing {stem} certificate and key on disk")
        else:
            leaf, key = leaves[stem], next(keys)
            authority = pki.load_authority(directory, leaf.authority)
            say(f'[certs] Generating "{stem}" certificate and key')
            pki.write_pair(directory, stem, pki.sign(leaf, key, authority, now, leaf_validity), key)
            if leaf.sans:
                names = [s for s in leaf.sans if not _is_address(s)]
                addresses = [s for s in leaf.sans if _is_address(s)]
                say(f"[certs] {stem} serving cert is signed for DNS names [{' '.join(names)}] and IPs [{' '.join(addresses)}]")


def _service_account(directory: Path, key: pki.Key | None, say: Callable[[str], None]) -> None:
    if key is None:
        say('[certs] Using the existing "sa" key')
        return
    say('[certs] Generating "sa" key and public key')
    directory.mkdir(parents=True, exist_ok=True)
    files.write_atomic(directory / "sa.key", pki.key_pem(key), mode=0o600)
    files.write_atomic(directory / "sa.pub", pki.public_key_pem(key), mode=0o600)


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()
