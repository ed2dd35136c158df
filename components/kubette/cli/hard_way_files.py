"""Pure: what stands on the machines of a cluster set up "the hard way": units, certificates, kubeconfigs and configurations, by path.

The unit files (`systemd/hard-way/`) are the same on every machine. What differs stands beside each in a drop-in `10-machine.conf`, so that
`systemctl cat` shows both.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from kubette.kubeadm import kubeconfigs
from kubette.machines import spec

CONTROL_PLANE_UNITS = ("etcd.service", "kube-apiserver.service", "kube-controller-manager.service", "kube-scheduler.service")
NODE_UNITS = ("kubelet.service", "kube-proxy.service")
UNITS_DIRECTORY = "etc/systemd/system"
KUBERNETES = "var/lib/kubernetes"
TAINT = {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}
LOCAL_API = f"127.0.0.1:{spec.API_PORT}"

Pairs = dict[str, tuple[bytes, bytes]]


@dataclass(slots=True)
class Tree:
    """Files (path → content and mode) and links (path → target), relative to a machine's root."""

    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        self.files[path] = (content.encode() if isinstance(content, str) else content, mode)

    def add_yaml(self, path: str, document: dict[str, Any], mode: int = 0o644) -> None:
        self.add(path, yaml.safe_dump(document, sort_keys=False), mode)

    def add_pair(self, stem: str, pair: tuple[bytes, bytes]) -> None:
        self.add(f"{stem}.crt", pair[0])
        self.add(f"{stem}.key", pair[1], 0o600)


def units_of(machine: spec.Machine) -> tuple[str, ...]:
    """In the order in which they need each other."""
    return (*CONTROL_PLANE_UNITS, *NODE_UNITS) if machine.role == "control-plane" else NODE_UNITS


def programs_of(machine: spec.Machine) -> list[str]:
    return [unit.removesuffix(".service") for unit in units_of(machine)]


def tree(cluster: spec.Cluster, machine: spec.Machine, pairs: Pairs, units: dict[str, str], audit_policy: str) -> Tree:
    """All that `machine` needs. `units` is unit name → text, `pairs` what `hard_way_certificates.issue` made."""
    made = Tree()
    for unit in units_of(machine):
        made.add(f"{UNITS_DIRECTORY}/{unit}", units[unit])
        made.links[f"{UNITS_DIRECTORY}/multi-user.target.wants/{unit}"] = f"/{UNITS_DIRECTORY}/{unit}"
    # The kubeadm packages' drop-in would give this kubelet the flags of a kubeadm machine.
    made.links[f"{UNITS_DIRECTORY}/kubelet.service.d/10-kubeadm.conf"] = "/dev/null"
    if machine.role == "control-plane":
        _control_plane(made, cluster, machine, pairs)
        made.add("etc/kubernetes/audit-policy.yaml", audit_policy)
    _node(made, cluster, machine, pairs)
    return made


def _environment(made: Tree, unit: str, values: dict[str, str]) -> None:
    lines = "".join(f"Environment={name}={value}\n" for name, value in values.items())
    made.add(f"{UNITS_DIRECTORY}/{unit}.d/10-machine.conf", f"# What differs from machine to machine.\n[Service]\n{lines}")


def _kubeconfig(server: str, user: str, pairs: Pairs, stem: str) -> dict[str, Any]:
    return kubeconfigs.with_certificate(f"https://{server}", "kubernetes", user, pairs["ca"][0], *pairs[stem])


def _control_plane(made: Tree, cluster: spec.Cluster, machine: spec.Machine, pairs: Pairs) -> None:
    members = ",".join(f"{m.name}=https://{m.address}:2380" for m in cluster.control_planes)
    # Its own member first: the others are for when that one is down.
    others = [m.address for m in cluster.control_planes if m != machine]
    etcd_servers = ",".join(f"https://{address}:2379" for address in ("127.0.0.1", *others))
    # Not ETCD_…: those names are etcd's own flags.
    _environment(made, "etcd.service", {"NODE_NAME": machine.name, "INTERNAL_IP": machine.address, "INITIAL_CLUSTER": members})
    _environment(made, "kube-apiserver.service", {"INTERNAL_IP": machine.address, "ETCD_SERVERS": etcd_servers})
    made.add_pair("etc/etcd/ca", pairs["etcd-ca"])
    made.add_pair("etc/etcd/etcd-server", pairs[f"etcd-server/{machine.name}"])
    made.add(f"{KUBERNETES}/etcd-ca.crt", pairs["etcd-ca"][0])
    for stem in ("ca", "kube-api-server", "service-accounts", "etcd-client"):
        made.add_pair(f"{KUBERNETES}/{stem}", pairs[stem])
    for component in ("kube-controller-manager", "kube-scheduler"):
        made.add_yaml(f"{KUBERNETES}/{component}.kubeconfig", _kubeconfig(LOCAL_API, f"system:{component}", pairs, component), 0o600)
    made.add_yaml(cluster.admin_kubeconfig, _kubeconfig(cluster.endpoint, "admin", pairs, "admin"), 0o600)
    made.links["root/.kube/config"] = f"/{cluster.admin_kubeconfig}"
    made.add_yaml("etc/kubernetes/config/kube-scheduler.yaml", scheduler_configuration())


def _node(made: Tree, cluster: spec.Cluster, machine: spec.Machine, pairs: Pairs) -> None:
    made.add("var/lib/kubelet/ca.crt", pairs["ca"][0])
    own = f"kubelet/{machine.name}"
    made.add_pair("var/lib/kubelet/kubelet", pairs[own])
    made.add_yaml("var/lib/kubelet/kubeconfig", _kubeconfig(cluster.endpoint, f"system:node:{machine.name}", pairs, own), 0o600)
    made.add_yaml("var/lib/kubelet/kubelet-config.yaml", kubelet_configuration(machine))
    made.add_yaml("var/lib/kube-proxy/kubeconfig", _kubeconfig(cluster.endpoint, "system:kube-proxy", pairs, "kube-proxy"), 0o600)
    made.add_yaml("var/lib/kube-proxy/kube-proxy-config.yaml", proxy_configuration())


def scheduler_configuration() -> dict[str, Any]:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": f"/{KUBERNETES}/kube-scheduler.kubeconfig"},
        "leaderElection": {"leaderElect": True},
    }


def kubelet_configuration(machine: spec.Machine) -> dict[str, Any]:
    """Control planes take no pods but those that tolerate them, as on a kubeadm cluster."""
    taints = {"registerWithTaints": [TAINT]} if machine.role == "control-plane" else {}
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/var/lib/kubelet/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDomain": spec.DNS_DOMAIN,
        "clusterDNS": [spec.DNS_ADDRESS],
        "resolvConf": "/etc/resolv.conf",
        "runtimeRequestTimeout": "15m",
        "tlsCertFile": "/var/lib/kubelet/kubelet.crt",
        "tlsPrivateKeyFile": "/var/lib/kubelet/kubelet.key",
        **taints,
    }


def proxy_configuration() -> dict[str, Any]:
    """The mode is left to kube-proxy: iptables where the machine has that program."""
    return {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig"},
        "mode": "",
        "clusterCIDR": spec.POD_NETWORK,
    }
