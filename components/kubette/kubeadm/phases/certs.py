"""Phase certs: the CAs, the leaf certificates and the service-account key pair. What is there already is used."""

import datetime

from kubette.kubeadm import pki
from kubette.kubeadm.phases.context import Context
from kubette.stdx import files

# A parent directory's name and the noun upstream prints with it.
_ORDER = (
    ("ca", ("apiserver", "apiserver-kubelet-client")),
    ("front-proxy-ca", ("front-proxy-client",)),
    ("etcd/ca", ("etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client")),
)


def run(context: Context, now: datetime.datetime) -> None:
    """Make every missing certificate and key below the certificates directory."""
    directory, say = context.pki, context.say
    say(f'[certs] Using certificateDir folder "{directory}"')
    leaves = {leaf.stem: leaf for leaf in pki.leaves(context.cluster, context.local)}
    missing = [stem for stem in (*pki.AUTHORITIES, *leaves) if not (directory / f"{stem}.crt").exists()]
    service_account_key = directory / "sa.key"
    keys = iter(pki.new_keys(len(missing) + (not service_account_key.exists())))
    for authority_stem, leaf_stems in _ORDER:
        if authority_stem in missing:
            say(f'[certs] Generating "{authority_stem}" certificate and key')
            authority = pki.new_authority(pki.AUTHORITIES[authority_stem], next(keys), now)
            pki.write_pair(directory, authority_stem, authority.certificate, authority.key)
        else:
            say(f"[certs] Using existing {authority_stem} certificate authority")
            authority = pki.load_authority(directory, authority_stem)
        for stem in leaf_stems:
            if stem not in missing:
                say(f"[certs] Using existing {stem} certificate and key on disk")
                continue
            leaf, key = leaves[stem], next(keys)
            say(f'[certs] Generating "{stem}" certificate and key')
            pki.write_pair(directory, stem, pki.sign(leaf, key, authority, now), key)
            if leaf.sans:
                names = [s for s in leaf.sans if not _is_address(s)]
                addresses = [s for s in leaf.sans if _is_address(s)]
                say(f"[certs] {stem} serving cert is signed for DNS names [{' '.join(names)}] and IPs [{' '.join(addresses)}]")
    if service_account_key.exists():
        say('[certs] Using the existing "sa" key')
    else:
        say('[certs] Generating "sa" key and public key')
        key = next(keys)
        files.write_atomic(service_account_key, pki.key_pem(key), mode=0o600)
        files.write_atomic(directory / "sa.pub", pki.public_key_pem(key), mode=0o600)


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()
