"""The Kubernetes DNS specification, name by name, through real DNS messages."""

import random
from typing import Any

import dnslib
import pytest

from kubette.cluster_dns.corefile import CorefileError, parse
from kubette.cluster_dns.resolver import Resolver
from kubette.cluster_dns.zone import Zone
from kubette.component_base.metrics import Registry


def zone() -> Zone:
    made = Zone("cluster.local")
    made.namespaces.add("default")

    def service(name: str, **spec: Any) -> None:
        made.set_service({"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    service("web", clusterIP="10.96.0.5", clusterIPs=["10.96.0.5"], ports=ports)
    service("db", clusterIP="None", clusterIPs=["None"], ports=ports)
    service("out", type="ExternalName", externalName="example.com")
    labels = {"kubernetes.io/service-name": "db"}
    endpoints = [
        {"addresses": ["10.244.1.2"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.1.3"], "conditions": {"ready": True}},
        {"addresses": ["10.244.1.4"], "hostname": "db-2", "conditions": {"ready": False}},
    ]
    made.set_slice(
        {"metadata": {"name": "db-x", "namespace": "default", "labels": labels}, "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}
    )
    return made


async def ask(name: str, kind: str = "A") -> tuple[str, list[str]]:
    resolver = Resolver(zone(), None, 30, Registry(), random.Random(1))
    wire = await resolver.resolve(dnslib.DNSRecord.question(name, kind).pack(), tcp=False)
    assert wire is not None
    reply = dnslib.DNSRecord.parse(wire)
    return dnslib.RCODE.get(reply.header.rcode), sorted(str(r.rdata) for r in reply.rr)


@pytest.mark.parametrize(
    ("name", "kind", "code", "answers"),
    [
        ("web.default.svc.cluster.local", "A", "NOERROR", ["10.96.0.5"]),
        ("WEB.Default.svc.cluster.local", "A", "NOERROR", ["10.96.0.5"]),
        ("web.default.svc.cluster.local", "AAAA", "NOERROR", []),
        ("_http._tcp.web.default.svc.cluster.local", "SRV", "NOERROR", ["0 100 80 web.default.svc.cluster.local."]),
        ("db.default.svc.cluster.local", "A", "NOERROR", ["10.244.1.2", "10.244.1.3"]),
        ("db-0.db.default.svc.cluster.local", "A", "NOERROR", ["10.244.1.2"]),
        ("db-2.db.default.svc.cluster.local", "A", "NXDOMAIN", []),
        ("10-244-1-3.db.default.svc.cluster.local", "A", "NOERROR", ["10.244.1.3"]),
        ("out.default.svc.cluster.local", "A", "NOERROR", ["example.com."]),
        ("ghost.default.svc.cluster.local", "A", "NXDOMAIN", []),
        ("default.svc.cluster.local", "A", "NOERROR", []),
        ("10-244-1-2.default.pod.cluster.local", "A", "NOERROR", ["10.244.1.2"]),
        ("5.0.96.10.in-addr.arpa", "PTR", "NOERROR", ["web.default.svc.cluster.local."]),
        ("2.1.244.10.in-addr.arpa", "PTR", "NOERROR", ["db-0.db.default.svc.cluster.local."]),
        ("dns-version.cluster.local", "TXT", "NOERROR", ['"1.1.0"']),
        ("example.org", "A", "SERVFAIL", []),
    ],
)
async def test_names_of_the_specification(name: str, kind: str, code: str, answers: list[str]) -> None:
    assert await ask(name, kind) == (code, answers)


@pytest.mark.parametrize("noise", [b"", b"x", b"\x00" * 12, b"\xff" * 40])
async def test_noise_is_not_answered(noise: bytes) -> None:
    assert await Resolver(zone(), None, 30, Registry(), random.Random(1)).resolve(noise, tcp=False) is None


def test_corefile_of_kubeadm_is_read_and_an_unknown_directive_is_refused() -> None:
    server = parse(".:53 {\n errors\n kubernetes cluster.local in-addr.arpa {\n  pods insecure\n  ttl 30\n }\n forward . /etc/resolv.conf\n}\n")
    assert (server.zone, server.port) == (".", 53)
    assert server.directives["kubernetes"].option("ttl") == ["30"]
    with pytest.raises(CorefileError, match="Unknown directive 'autopath'"):
        parse(".:53 {\n autopath @kubernetes\n}\n")
