"""Pure: cutting the cluster's pod ranges into one subnet a node (cidrset, range_allocator)."""

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_MASK_SIZES = {4: 24, 6: 64}
MASK_DIFFERENCE_MAX = 16  # at most 65,536 subnets a range, as upstream


class CIDRError(ValueError):
    """The ranges cannot be used; the text is upstream's."""


class CIDRSet:
    """The subnets of one range: which are taken. Allocation goes round, so that a freed subnet is not reused at once."""

    def __init__(self, cluster: Network, mask_size: int) -> None:
        if mask_size < cluster.prefixlen:
            raise CIDRError("Network mask is greater than the node mask size")  # no subnet would fit
        if mask_size - cluster.prefixlen > MASK_DIFFERENCE_MAX:
            raise CIDRError("New CIDR set failed; the node CIDR size is too big")
        self.cluster, self.mask_size = cluster, mask_size
        self._count = 1 << (mask_size - cluster.prefixlen)
        self._used: set[int] = set()
        self._next = 0

    def _network(self, index: int) -> Network:
        base = int(self.cluster.network_address) + (index << (self.cluster.max_prefixlen - self.mask_size))
        kind = ipaddress.IPv4Network if self.cluster.version == 4 else ipaddress.IPv6Network
        return kind((base, self.mask_size))

    def allocate(self) -> Network | None:
        """The next free subnet; None when all are taken."""
        if len(self._used) >= self._count:
            return None
        index = self._next
        while index in self._used:
            index = (index + 1) % self._count
        self._used.add(index)
        self._next = (index + 1) % self._count
        return self._network(index)

    def _indexes(self, network: Network) -> range:
        """The subnets a network overlaps; it may be larger or smaller than one."""
        if network.version != self.cluster.version or not network.overlaps(self.cluster):
            return range(0)
        shift = self.cluster.max_prefixlen - self.mask_size
        base = int(self.cluster.network_address)
        first = max(0, (int(network.network_address) - base) >> shift)
        last = min(self._count - 1, (int(network.broadcast_address) - base) >> shift)
        return range(first, last + 1)

    def occupy(self, network: Network) -> None:
        """Mark as taken: a node has it, or services do."""
        self._used.update(self._indexes(network))

    def release(self, network: Network) -> None:
        self._used.difference_update(self._indexes(network))

    def statistics(self) -> dict[str, int]:
        return {"allocated": len(self._used), "size": self._count}


def parse_ranges(text: str) -> list[Network]:
    """One range, or one of each family: `10.244.0.0/16,fd00::/48`. Raises CIDRError."""
    networks: list[Network] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise CIDRError(f"invalid CIDR address: {part}") from None
    if len({n.version for n in networks}) != len(networks):
        raise CIDRError("len of clusters is:2 > more than max allowed of 1 per family" if len(networks) > 2 else "expected one CIDR of each family")
    return networks


def cidr_sets(cluster_cidr: str, service_ranges: str, mask_sizes: dict[int, int]) -> list[CIDRSet]:
    """One set per family, with the services' range kept free. Raises CIDRError."""
    sets = [CIDRSet(network, mask_sizes[network.version]) for network in parse_ranges(cluster_cidr)]
    if not sets:
        raise CIDRError("at least one of --cluster-cidr must be given with --allocate-node-cidrs")
    for service in parse_ranges(service_ranges):
        for one in sets:
            one.occupy(service)
    return sets


def pod_cidrs(node_spec: dict[str, object]) -> list[str]:
    """What a node has already."""
    several = node_spec.get("podCIDRs")
    if isinstance(several, list):
        return [str(c) for c in several]
    return [str(node_spec["podCIDR"])] if node_spec.get("podCIDR") else []


def occupy_all(sets: Sequence[CIDRSet], cidrs: Sequence[str]) -> None:
    for one, cidr in zip(sets, cidrs, strict=False):
        one.occupy(ipaddress.ip_network(cidr, strict=False))


def release_all(sets: Sequence[CIDRSet], cidrs: Sequence[str]) -> None:
    for one, cidr in zip(sets, cidrs, strict=False):
        one.release(ipaddress.ip_network(cidr, strict=False))


def allocate_all(sets: Sequence[CIDRSet]) -> list[str] | None:
    """One subnet of each family, or None (and nothing taken) when a family has none left."""
    taken: list[Network] = []
    for one in sets:
        network = one.allocate()
        if network is None:
            release_all(sets, [str(n) for n in taken])
            return None
        taken.append(network)
    return [str(n) for n in taken]
