"""Pure: the iptables rules for a set of service ports (upstream: pkg/proxy/iptables/proxier.go).

The text is for `iptables-restore --noflush`: chains that are declared are replaced whole and atomically, others stay.
"""

import base64
import hashlib
from collections.abc import Sequence

from kubette.kube_proxy.change_tracker import Endpoint, ServicePort

MASQUERADE_MARK = "0x4000"
# Jumps into our chains: (table, our chain, built-in chain, comment, extra match).
JUMPS = (
    ("filter", "KUBE-EXTERNAL-SERVICES", "INPUT", "kubernetes externally-visible service portals", ("-m", "conntrack", "--ctstate", "NEW")),
    ("filter", "KUBE-EXTERNAL-SERVICES", "FORWARD", "kubernetes externally-visible service portals", ("-m", "conntrack", "--ctstate", "NEW")),
    ("filter", "KUBE-SERVICES", "FORWARD", "kubernetes service portals", ("-m", "conntrack", "--ctstate", "NEW")),
    ("filter", "KUBE-SERVICES", "OUTPUT", "kubernetes service portals", ("-m", "conntrack", "--ctstate", "NEW")),
    ("filter", "KUBE-FORWARD", "FORWARD", "kubernetes forwarding rules", ()),
    ("nat", "KUBE-SERVICES", "OUTPUT", "kubernetes service portals", ()),
    ("nat", "KUBE-SERVICES", "PREROUTING", "kubernetes service portals", ()),
    ("nat", "KUBE-POSTROUTING", "POSTROUTING", "kubernetes postrouting rules", ()),
)


def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:16]


def service_chain(port: ServicePort) -> str:
    return "KUBE-SVC-" + _hash(port.full_name + port.protocol)


def local_chain(port: ServicePort) -> str:
    return "KUBE-SVL-" + _hash(port.full_name + port.protocol)


def external_chain(port: ServicePort) -> str:
    return "KUBE-EXT-" + _hash(port.full_name + port.protocol)


def endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    return "KUBE-SEP-" + _hash(f"{port.full_name}{port.protocol}{endpoint.address}:{endpoint.port}")


class _Tables:
    """The two tables being written."""

    def __init__(self) -> None:
        self.filter: list[str] = []
        self.nat: list[str] = []
        self.chains: dict[str, None] = {}

    def chain(self, name: str) -> None:
        self.chains[name] = None


def render(ports: Sequence[ServicePort], cluster_cidr: str, stale_chains: Sequence[str] = (), *, masquerade_all: bool = False) -> str:
    """The input of `iptables-restore`. `stale_chains` are nat chains of an earlier run that must go."""
    tables = _Tables()
    _fixed(tables)
    for port in ports:
        if not port.endpoints:
            _no_endpoints(tables, port)
        _service(tables, port, cluster_cidr, masquerade_all)
        if port.node_port or port.external_ips or port.load_balancer_ips:
            _external(tables, port, cluster_cidr)
    # Last in KUBE-SERVICES: whatever is addressed to this machine itself may be a node port.
    last = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
    tables.nat.append(f'-A KUBE-SERVICES -m comment --comment "{last}" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS')
    gone = [c for c in stale_chains if c not in tables.chains]
    filter_chains = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS")
    nat_chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", *tables.chains, *gone]
    lines = ["*filter", *(f":{c} - [0:0]" for c in filter_chains), *tables.filter, "COMMIT"]
    lines += ["*nat", *(f":{c} - [0:0]" for c in nat_chains), *tables.nat, *(f"-X {c}" for c in gone), "COMMIT", ""]
    return "\n".join(lines)


def _fixed(tables: _Tables) -> None:
    mark = f"{MASQUERADE_MARK}/{MASQUERADE_MARK}"
    tables.filter += [
        f'-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark {mark} -j ACCEPT',
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ]
    tables.nat += [
        f"-A KUBE-POSTROUTING -m mark ! --mark {mark} -j RETURN",
        f"-A KUBE-POSTROUTING -j MARK --xor-mark {MASQUERADE_MARK}",
        '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        f"-A KUBE-MARK-MASQ -j MARK --or-mark {MASQUERADE_MARK}",
    ]


def _to(port: ServicePort, address: str, number: int) -> str:
    return f"-m {port.protocol} -p {port.protocol} -d {address} --dport {number}"


def _no_endpoints(tables: _Tables, port: ServicePort) -> None:
    """Refuse at once instead of letting clients wait."""
    comment = f'-m comment --comment "{port.full_name} has no endpoints"'
    tables.filter.append(f"-A KUBE-SERVICES {comment} {_to(port, port.cluster_ip, port.port)} -j REJECT")
    for address in (*port.external_ips, *port.load_balancer_ips):
        tables.filter.append(f"-A KUBE-EXTERNAL-SERVICES {comment} {_to(port, address, port.port)} -j REJECT")
    if port.node_port:
        local = f"-m addrtype --dst-type LOCAL -m {port.protocol} -p {port.protocol} --dport {port.node_port}"
        tables.filter.append(f"-A KUBE-EXTERNAL-SERVICES {comment} {local} -j REJECT")


def _service(tables: _Tables, port: ServicePort, cluster_cidr: str, masquerade_all: bool) -> None:
    """The chain of the cluster address: `KUBE-SVC`, or `KUBE-SVL` for a local-only policy."""
    if not port.endpoints:
        return
    chain = local_chain(port) if port.internal_local else service_chain(port)
    to = _to(port, port.cluster_ip, port.port)
    tables.nat.append(f'-A KUBE-SERVICES -m comment --comment "{port.full_name} cluster IP" {to} -j {chain}')
    comment = f'-m comment --comment "{port.full_name} cluster IP"'
    masquerade = ""
    if masquerade_all:
        masquerade = f"-A {chain} {comment} {to} -j KUBE-MARK-MASQ"
    elif cluster_cidr:
        # What does not come from a pod must come back through this machine.
        masquerade = f"-A {chain} {comment} {to} ! -s {cluster_cidr} -j KUBE-MARK-MASQ"
    _balance(tables, port, chain, port.endpoints, masquerade)


def _external(tables: _Tables, port: ServicePort, cluster_cidr: str) -> None:
    chain = external_chain(port)
    if port.external_endpoints or (port.external_local and port.cluster_endpoints):
        tables.chain(chain)
        comment = f'-m comment --comment "masquerade traffic for {port.full_name} external destinations"'
        if port.external_local:
            if cluster_cidr:
                pods = f'-m comment --comment "pod traffic for {port.full_name} external destinations"'
                tables.nat.append(f"-A {chain} {pods} -s {cluster_cidr} -j {_cluster_chain(tables, port)}")
            tables.nat.append(f"-A {chain} {comment} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ")
            tables.nat.append(f"-A {chain} -m addrtype --src-type LOCAL -j {_cluster_chain(tables, port)}")
            if port.external_endpoints:
                if not port.internal_local:
                    _balance(tables, port, local_chain(port), port.external_endpoints, "")
                tables.nat.append(f"-A {chain} -j {local_chain(port)}")
        else:
            tables.nat.append(f"-A {chain} {comment} -j KUBE-MARK-MASQ")
            tables.nat.append(f"-A {chain} -j {_cluster_chain(tables, port)}")
        for address in port.external_ips:
            tables.nat.append(f'-A KUBE-SERVICES -m comment --comment "{port.full_name} external IP" {_to(port, address, port.port)} -j {chain}')
        for address in port.load_balancer_ips:
            tables.nat.append(f'-A KUBE-SERVICES -m comment --comment "{port.full_name} loadbalancer IP" {_to(port, address, port.port)} -j {chain}')
        if port.node_port:
            protocol = port.protocol
            tables.nat.append(
                f'-A KUBE-NODEPORTS -m comment --comment "{port.full_name}" -m {protocol} -p {protocol} --dport {port.node_port} -j {chain}'
            )


def _cluster_chain(tables: _Tables, port: ServicePort) -> str:
    """The chain over all endpoints; made here when the cluster address itself is local-only."""
    chain = service_chain(port)
    if chain not in tables.chains:
        _balance(tables, port, chain, port.cluster_endpoints, "")
    return chain


def _balance(tables: _Tables, port: ServicePort, chain: str, endpoints: Sequence[Endpoint], first: str) -> None:
    """Spread evenly: the n-th of N rules matches with probability 1/(N-n)."""
    tables.chain(chain)
    if first:
        tables.nat.append(first)
    for endpoint in endpoints:
        if port.affinity_s:
            own = endpoint_chain(port, endpoint)
            comment = f'-m comment --comment "{port.full_name} -> {endpoint.address}:{endpoint.port}"'
            tables.nat.append(f"-A {chain} {comment} -m recent --name {own} --rcheck --seconds {port.affinity_s} --reap -j {own}")
    count = len(endpoints)
    for index, endpoint in enumerate(endpoints):
        own = endpoint_chain(port, endpoint)
        comment = f'-m comment --comment "{port.full_name} -> {endpoint.address}:{endpoint.port}"'
        chance = f" -m statistic --mode random --probability {1 / (count - index):0.10f}" if index < count - 1 else ""
        tables.nat.append(f"-A {chain} {comment}{chance} -j {own}")
    for endpoint in endpoints:
        own = endpoint_chain(port, endpoint)
        if own in tables.chains:
            continue
        tables.chain(own)
        comment = f'-m comment --comment "{port.full_name}"'
        # A pod that reaches itself through its Service must not see its own address as the source.
        tables.nat.append(f"-A {own} {comment} -s {endpoint.address} -j KUBE-MARK-MASQ")
        recent = f" -m recent --name {own} --set" if port.affinity_s else ""
        protocol = port.protocol
        tables.nat.append(f"-A {own} {comment}{recent} -m {protocol} -p {protocol} -j DNAT --to-destination {endpoint.address}:{endpoint.port}")
