"""Pure: the answers of the zone `cluster.local` (the Kubernetes DNS specification 1.1.0).

Records are (owner name, type, ttl, data); data is an address, a name, or for SRV a tuple of priority, weight, port, target.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
SERVICE_NAME = "kubernetes.io/service-name"
SCHEMA_VERSION = "1.1.0"

Data = str | tuple[int, int, int, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record."""

    name: str
    type: str
    data: Data


@dataclass(slots=True)
class Answer:
    """What is known about a name: whether it exists, and its records of the type that was asked."""

    exists: bool
    records: list[Record] = field(default_factory=list)


MISSING = Answer(False)


@dataclass(slots=True)
class _Host:
    """One address of a headless Service."""

    name: str
    address: str
    ports: list[tuple[str, str, int]]


@dataclass(slots=True)
class Zone:
    """The Services and EndpointSlices of the cluster, looked up by name."""

    domain: str
    pods_insecure: bool = True
    _services: dict[tuple[str, str], Object] = field(default_factory=dict)
    _slices: dict[tuple[str, str], dict[str, Object]] = field(default_factory=dict)
    _by_address: dict[str, str] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)

    def set_service(self, service: Object) -> None:
        metadata = service["metadata"]
        self.remove_service(service)
        self._services[metadata["namespace"], metadata["name"]] = service
        for address in service["spec"].get("clusterIPs") or ():
            if address != "None":
                self._by_address[address] = f"{metadata['name']}.{metadata['namespace']}.svc.{self.domain}"

    def remove_service(self, service: Object) -> None:
        key = service["metadata"]["namespace"], service["metadata"]["name"]
        old = self._services.pop(key, None)
        for address in (old or {}).get("spec", {}).get("clusterIPs") or ():
            self._by_address.pop(address, None)

    def set_slice(self, each: Object) -> None:
        metadata = each["metadata"]
        name = (metadata.get("labels") or {}).get(SERVICE_NAME)
        if name:
            self._slices.setdefault((metadata["namespace"], name), {})[metadata["name"]] = each

    def remove_slice(self, each: Object) -> None:
        metadata = each["metadata"]
        name = (metadata.get("labels") or {}).get(SERVICE_NAME)
        if name:
            self._slices.get((metadata["namespace"], name), {}).pop(metadata["name"], None)

    def covers(self, name: str) -> bool:
        """Whether a (lower-case, dotless at the end) name is in this zone."""
        return name == self.domain or name.endswith("." + self.domain)

    def lookup(self, name: str, kind: str) -> Answer:
        """The records of a name in the zone."""
        labels = name.removesuffix(self.domain).rstrip(".").split(".") if name != self.domain else []
        if not labels:
            return Answer(True)
        if labels == ["dns-version"]:
            return Answer(True, [Record(name, "TXT", SCHEMA_VERSION)] if kind == "TXT" else [])
        if labels[-1] == "svc":
            return self._service(name, labels[:-1], kind)
        if labels[-1] == "pod" and self.pods_insecure:
            return self._pod(name, labels[:-1], kind)
        return MISSING

    def _service(self, name: str, labels: Sequence[str], kind: str) -> Answer:
        if len(labels) < 2:
            return Answer(not labels or labels[0] in self.namespaces)
        namespace, service_name, rest = labels[-1], labels[-2], labels[:-2]
        service = self._services.get((namespace, service_name))
        if service is None or len(rest) > 2:
            return MISSING
        if service["spec"].get("type") == "ExternalName":
            return Answer(True, [Record(name, "CNAME", service["spec"]["externalName"].rstrip("."))]) if not rest else MISSING
        headless = service["spec"].get("clusterIP") == "None"
        hosts = list(self._hosts(namespace, service_name)) if headless else []
        base = f"{service_name}.{namespace}.svc.{self.domain}"
        match rest:
            case []:
                if headless and not hosts:
                    return MISSING
                return Answer(True, _addresses(name, [h.address for h in hosts] if headless else service["spec"].get("clusterIPs") or [], kind))
            case [host] if headless and not host.startswith("_"):
                found = [h.address for h in hosts if h.name == host]
                return Answer(True, _addresses(name, found, kind)) if found else MISSING
            case [port, protocol] if port.startswith("_") and protocol.startswith("_"):
                wanted = (port[1:], protocol[1:])
                targets = self._targets(service, base, hosts, headless, wanted)
                if not targets:
                    return MISSING
                return Answer(True, [Record(name, "SRV", t) for t in targets] if kind == "SRV" else [])
        return MISSING

    def _targets(self, service: Object, base: str, hosts: list[_Host], headless: bool, wanted: tuple[str, str]) -> list[tuple[int, int, int, str]]:
        if headless:
            pairs = [(number, f"{h.name}.{base}") for h in hosts for name, protocol, number in h.ports if (name, protocol) == wanted]
        else:
            ports = service["spec"].get("ports") or ()
            pairs = [(p["port"], base) for p in ports if (p.get("name", ""), (p.get("protocol") or "TCP").lower()) == wanted]
        weight = 100 // len(pairs) if pairs else 0
        return [(0, weight, number, target) for number, target in pairs]

    def _hosts(self, namespace: str, name: str) -> Iterable[_Host]:
        service = self._services[namespace, name]
        early = bool(service["spec"].get("publishNotReadyAddresses"))
        for each in self._slices.get((namespace, name), {}).values():
            ports = [(p.get("name") or "", (p.get("protocol") or "TCP").lower(), p["port"]) for p in each.get("ports") or () if p.get("port")]
            for endpoint in each.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready", True) is False and not early:
                    continue
                for address in endpoint.get("addresses") or ():
                    yield _Host(endpoint.get("hostname") or address.replace(".", "-").replace(":", "-"), address, ports)

    def _pod(self, name: str, labels: Sequence[str], kind: str) -> Answer:
        """`10-244-1-2.default.pod`: the address is in the name (the mode `pods insecure`)."""
        if len(labels) != 2 or labels[1] not in self.namespaces:
            return Answer(len(labels) == 1 and labels[0] in self.namespaces)
        text = labels[0].replace("-", ".") if labels[0].count("-") == 3 else labels[0].replace("-", ":")
        try:
            address = str(ipaddress.ip_address(text))
        except ValueError:
            return MISSING
        return Answer(True, _addresses(name, [address], kind))

    def reverse(self, address: str) -> list[str]:
        """Names for a PTR query: a Service's, or a headless host's."""
        found = self._by_address.get(address)
        if found:
            return [found]
        names = []
        for namespace, name in self._slices:
            service = self._services.get((namespace, name))
            if service is not None and service["spec"].get("clusterIP") == "None":
                names += [f"{h.name}.{name}.{namespace}.svc.{self.domain}" for h in self._hosts(namespace, name) if h.address == address]
        return names


def _addresses(name: str, addresses: Iterable[str], kind: str) -> list[Record]:
    found = []
    for address in addresses:
        family = "A" if "." in address else "AAAA"
        if family == kind:
            found.append(Record(name, family, address))
    return found
