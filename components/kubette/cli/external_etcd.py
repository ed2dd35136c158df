"""`kubette up --etcd external`: etcd on a machine of its own, as a unit of the user `etcd`, and what kubeadm has to know of it.

The certificates are where upstream's guide to an external etcd puts them: on the machine of etcd below /etc/kubernetes/pki/etcd, on control planes its authority and
the API server's certificate for it. The authority's key stays with etcd.
"""

import datetime
import os
from pathlib import Path
from typing import Any

from kubette.cli import hard_way_files
from kubette.kubeadm import pki
from kubette.machines import etc_files, interpreter, spec

PKI = "etc/kubernetes/pki"
DATA_DIR = "var/lib/etcd-data"
UNIT = "etcd.service"


def leaves(machine: spec.Machine) -> list[pki.Leaf]:
    """What is signed by etcd's authority, by the stem below PKI."""
    sans = (machine.name, "localhost", machine.address, "127.0.0.1", "::1")
    return [
        pki.Leaf("etcd/server", "etcd/ca", machine.name, client=True, server=True, sans=sans),
        pki.Leaf("etcd/peer", "etcd/ca", machine.name, client=True, server=True, sans=sans),
        pki.Leaf("etcd/healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client", client=True),
        pki.Leaf("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client", client=True),
    ]


def issue(machine: spec.Machine, now: datetime.datetime) -> hard_way_files.Pairs:
    """Stem to certificate and key, PEM."""
    wanted = leaves(machine)
    keys = pki.new_keys(len(wanted) + 1)
    authority = pki.new_authority("etcd-ca", keys.pop(), now)
    signed = {leaf.stem: (pki.pem(pki.sign(leaf, key, authority, now)), pki.key_pem(key)) for leaf, key in zip(wanted, keys, strict=True)}
    return {"etcd/ca": (pki.pem(authority.certificate), pki.key_pem(authority.key)), **signed}


def etcd_tree(machine: spec.Machine, pairs: hard_way_files.Pairs, unit: str) -> hard_way_files.Tree:
    """The machine of etcd."""
    made = hard_way_files.Tree()
    for stem, pair in pairs.items():
        made.add_pair(f"{PKI}/{stem}", pair)
    made.add(f"{hard_way_files.UNITS_DIRECTORY}/{UNIT}", unit)
    made.links[f"{hard_way_files.UNITS_DIRECTORY}/multi-user.target.wants/{UNIT}"] = f"/{hard_way_files.UNITS_DIRECTORY}/{UNIT}"
    values = f"Environment=NODE_NAME={machine.name}\nEnvironment=INTERNAL_IP={machine.address}\n"
    made.add(f"{hard_way_files.UNITS_DIRECTORY}/{UNIT}.d/10-machine.conf", f"# What differs from machine to machine.\n[Service]\n{values}")
    return made


def control_plane_tree(pairs: hard_way_files.Pairs) -> hard_way_files.Tree:
    """A control plane: etcd's authority without its key, the API server's certificate."""
    made = hard_way_files.Tree()
    made.add(f"{PKI}/etcd/ca.crt", pairs["etcd/ca"][0])
    made.add_pair(f"{PKI}/apiserver-etcd-client", pairs["apiserver-etcd-client"])
    return made


def as_seen_by_kubeadm(cluster: spec.Cluster) -> dict[str, Any]:
    """`etcd.external` of ClusterConfiguration."""
    return {
        "endpoints": [f"https://{machine.address}:2379" for machine in cluster.etcd_members],
        "caFile": f"/{PKI}/etcd/ca.crt",
        "certFile": f"/{PKI}/apiserver-etcd-client.crt",
        "keyFile": f"/{PKI}/apiserver-etcd-client.key",
    }


def unit_text() -> str:
    return (interpreter.source_root() / "systemd" / "external-etcd" / UNIT).read_text()


def give_to_etcd(root: Path) -> None:
    """The data and the keys belong to etcd's user, where there are other users than ours."""
    data = root / DATA_DIR
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() == 0:
        for path in (data, *(root / PKI / "etcd").glob("*")):
            os.chown(path, etc_files.ETCD_ID, etc_files.ETCD_ID)
