"""nslookup's stand-in: which names it asks for, and what it prints of the answers."""

import threading
from collections.abc import Iterator

import dnslib
import dnslib.server
import pytest

from kubette.runtime.stand_ins import nslookup

POD = "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\noptions ndots:5 timeout:2 attempts:2\n"
ZONE = """
web.ns.svc.cluster.local. 5 IN A 10.96.0.7
alias.cluster.local. 5 IN CNAME web.ns.svc.cluster.local.
_http._tcp.web.ns.svc.cluster.local. 5 IN SRV 0 100 80 web.ns.svc.cluster.local.
7.0.96.10.in-addr.arpa. 5 IN PTR web.ns.svc.cluster.local.
"""


def test_the_search_list_comes_first_for_names_of_few_dots() -> None:
    resolver = nslookup.parse_resolv_conf(POD)
    assert (resolver.servers, resolver.ndots, resolver.timeout_s, resolver.tries) == (["127.0.0.1"], 5, 2.0, 2)
    searched = ["web.ns.svc.cluster.local", "web.svc.cluster.local", "web.cluster.local"]
    assert list(nslookup.candidates("web", resolver)) == [*searched, "web"]
    assert list(nslookup.candidates("web.", resolver)) == ["web"]
    resolver.ndots = 0
    assert list(nslookup.candidates("web", resolver)) == ["web", *searched]


class _Zone(dnslib.server.BaseResolver):  # type: ignore[misc]
    def resolve(self, request: dnslib.DNSRecord, handler: object) -> dnslib.DNSRecord:
        reply = request.reply()
        records = dnslib.RR.fromZone(ZONE)
        of_the_name = [record for record in records if record.rname == request.q.qname]
        if not of_the_name:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        for record in of_the_name:
            if record.rtype in (request.q.qtype, dnslib.QTYPE.CNAME):
                reply.add_answer(record)
        return reply


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[nslookup.Resolver]:
    server = dnslib.server.DNSServer(_Zone(), address="127.0.0.1", port=0, logger=dnslib.server.DNSLogger("-request,-reply"))
    thread = threading.Thread(target=server.server.serve_forever, daemon=True)
    thread.start()
    made = nslookup.parse_resolv_conf(POD)
    made.port = server.server.server_address[1]
    yield made
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.parametrize(
    ("name", "types", "code", "shown"),
    [
        ("web", ["A", "AAAA"], 0, "Name:\tweb.ns.svc.cluster.local\nAddress: 10.96.0.7\n\n"),
        ("alias", ["A"], 0, "alias.cluster.local\tcanonical name = web.ns.svc.cluster.local.\n\n"),
        ("_http._tcp.web", ["SRV"], 0, "_http._tcp.web.ns.svc.cluster.local\tservice = 0 100 80 web.ns.svc.cluster.local.\n\n"),
        ("7.0.96.10.in-addr.arpa.", ["PTR"], 0, "7.0.96.10.in-addr.arpa\tname = web.ns.svc.cluster.local.\n\n"),
        ("nothing", ["A"], 1, "** server can't find nothing: NXDOMAIN\n\n"),
        ("web.ns.svc.cluster.local.", ["MX"], 1, "*** Can't find web.ns.svc.cluster.local: No answer\n\n"),
    ],
)
def test_answers_are_printed_as_bind_prints_them(
    name: str, types: list[str], code: int, shown: str, resolver: nslookup.Resolver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nslookup.look_up(name, types, "127.0.0.1", resolver) == code
    assert capsys.readouterr().out == shown


def test_a_server_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = nslookup.Resolver(port=9, tries=2, timeout_s=0.5)
    assert nslookup.look_up("web", ["A"], "127.0.0.1", nobody) == 1
    assert capsys.readouterr().out == ";; communications error to 127.0.0.1#9: connection refused\n" * 2 + ";; no servers could be reached\n\n"
