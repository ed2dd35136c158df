"""Endpoints from DNS: the SRV records `_etcd-client-ssl._tcp` and `_etcd-client._tcp` of a domain."""

import socket
from pathlib import Path

from kubette.etcdctl.errors import CommandError

TIMEOUT_S = 2.0
_RESOLV_CONF = Path("/etc/resolv.conf")


def endpoints(domain: str, service_name: str, insecure: bool) -> tuple[str, ...]:
    """The https endpoints, then, if `insecure`, the http ones. Raises CommandError when there is none."""
    found = []
    for scheme, service in (("https", "etcd-client-ssl"), ("http", "etcd-client")):
        name = f"_{service}{f'-{service_name}' if service_name else ''}._tcp.{domain}"
        found += [f"{scheme}://{host}:{port}" for host, port in _lookup(name) if scheme == "https" or insecure]
    if not found:
        raise CommandError(f"error querying DNS SRV records for {domain}: no such host")
    return tuple(found)


def _lookup(name: str) -> list[tuple[str, int]]:
    import dnslib

    question = dnslib.DNSRecord.question(name, "SRV")
    for server in _servers():
        with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(TIMEOUT_S)
            try:
                udp.sendto(question.pack(), (server, 53))
                answer = dnslib.DNSRecord.parse(udp.recv(65535))
            except (OSError, dnslib.DNSError):
                continue
        records = sorted((each.rdata for each in answer.rr if each.rtype == dnslib.QTYPE.SRV), key=lambda each: (each.priority, -each.weight))
        return [(str(each.target).rstrip("."), each.port) for each in records]
    return []


def _servers() -> list[str]:
    try:
        lines = _RESOLV_CONF.read_text().splitlines()
    except OSError:
        return []
    return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
