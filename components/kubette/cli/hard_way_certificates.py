"""Certificates of a cluster set up "the hard way": which there are, and their making.

Subjects and uses are those of "Kubernetes The Hard Way": one certificate for all API servers, which is also what they show to kubelets (as the
user `kubernetes`), one for all kube-proxies, one for each kubelet. Unlike there etcd has an authority of its own: with the cluster's, every kubelet's
certificate would open etcd.
"""

import datetime

from kubette.kubeadm import pki
from kubette.machines import spec

# Not "Kubernetes": names are compared without case, and a leaf `kubernetes` under it would look self-signed.
AUTHORITIES = {"ca": "kubernetes-ca", "etcd-ca": "etcd-ca"}
_EVERYWHERE = ("localhost", "127.0.0.1")
SERVICE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster",
    "kubernetes.default.svc.cluster.local",
)


def leaves(cluster: spec.Cluster) -> list[pki.Leaf]:
    """All of them; the stem of a machine's own ends with its name."""
    api_names = [*SERVICE_NAMES, spec.SERVICE_ADDRESS, *_EVERYWHERE, spec.LOAD_BALANCER_ADDRESS]
    for machine in cluster.control_planes:
        api_names += [machine.name, machine.address]
    found = [
        pki.Leaf("kube-api-server", "ca", "kubernetes", client=True, server=True, sans=tuple(api_names)),
        pki.Leaf("etcd-client", "etcd-ca", "kube-api-server", client=True),
        pki.Leaf("service-accounts", "ca", "service-accounts", client=True),
        pki.Leaf("admin", "ca", "admin", ("system:masters",), client=True),
        pki.Leaf("kube-controller-manager", "ca", "system:kube-controller-manager", ("system:kube-controller-manager",), client=True),
        pki.Leaf("kube-scheduler", "ca", "system:kube-scheduler", ("system:kube-scheduler",), client=True),
        pki.Leaf("kube-proxy", "ca", "system:kube-proxy", ("system:node-proxier",), client=True),
    ]
    for machine in cluster.control_planes:
        sans = (machine.name, machine.address, *_EVERYWHERE)
        found.append(pki.Leaf(f"etcd-server/{machine.name}", "etcd-ca", machine.name, client=True, server=True, sans=sans))
    for machine in cluster.machines:
        sans = (machine.name, machine.address, *_EVERYWHERE)
        user = f"system:node:{machine.name}"
        found.append(pki.Leaf(f"kubelet/{machine.name}", "ca", user, ("system:nodes",), client=True, server=True, sans=sans))
    return found


def issue(cluster: spec.Cluster, now: datetime.datetime) -> dict[str, tuple[bytes, bytes]]:
    """Stem (of an authority or a leaf) to certificate and key, PEM."""
    wanted = leaves(cluster)
    keys = pki.new_keys(len(AUTHORITIES) + len(wanted))
    authorities = {stem: pki.new_authority(name, keys.pop(), now) for stem, name in AUTHORITIES.items()}
    pairs = {stem: (pki.pem(authority.certificate), pki.key_pem(authority.key)) for stem, authority in authorities.items()}
    for leaf, key in zip(wanted, keys, strict=True):
        pairs[leaf.stem] = (pki.pem(pki.sign(leaf, key, authorities[leaf.authority], now)), pki.key_pem(key))
    return pairs
