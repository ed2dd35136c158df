"""From a query's bytes to an answer's: the cluster's zone, reverse names, or forwarding with a cache. Wire format by dnslib."""

import asyncio
import ipaddress
import random
from collections import OrderedDict
from collections.abc import Sequence

import dnslib

from kubette.cluster_dns.zone import Answer, Record, Zone
from kubette.component_base import logs
from kubette.component_base.metrics import Registry
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

_UDP_MAX = 1232  # the size that passes everywhere (DNS flag day 2020)
_FORWARD_TIMEOUT_S = 2.0
_CACHE_MAX = 9984  # CoreDNS's default capacity
_FORWARDS_MAX = 1000
_DENIAL_TTL_S = 30


class Forwarder:
    """Asks the servers of resolv.conf, one after the other; answers are kept for at most `cache_s`."""

    def __init__(self, servers: Sequence[tuple[str, int]], cache_s: float, clock: Clock) -> None:
        self._servers, self._cache_s, self._clock = tuple(servers), cache_s, clock
        self._cache: OrderedDict[tuple[str, int], tuple[float, bytes]] = OrderedDict()
        self._slots = asyncio.Semaphore(_FORWARDS_MAX)

    async def ask(self, query: dnslib.DNSRecord, wire: bytes) -> bytes | None:
        """The answer's bytes with the query's id; None when no server answered."""
        key = (str(query.q.qname).lower(), query.q.qtype)
        found = self._cache.get(key)
        if found is not None and found[0] > self._clock.monotonic():
            return wire[:2] + found[1][2:]
        async with self._slots:
            for server in self._servers:
                try:
                    async with asyncio.timeout(_FORWARD_TIMEOUT_S):
                        answer = await _exchange(wire, server)
                except (OSError, TimeoutError):
                    continue
                self._cache[key] = (self._clock.monotonic() + self._cache_s, answer)
                if len(self._cache) > _CACHE_MAX:
                    self._cache.popitem(last=False)
                return answer
        return None


async def _exchange(wire: bytes, server: tuple[str, int]) -> bytes:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _: object) -> None:
            if data[:2] == wire[:2] and not answer.done():
                answer.set_result(data)

        def error_received(self, exc: Exception) -> None:
            if not answer.done():
                answer.set_exception(exc)

    transport, _ = await loop.create_datagram_endpoint(Protocol, remote_addr=server)
    try:
        transport.sendto(wire)
        return await answer
    finally:
        transport.close()


class Resolver:
    """Answers one query."""

    def __init__(self, zone: Zone, forwarder: Forwarder | None, ttl_s: int, registry: Registry, rng: random.Random) -> None:
        self._zone, self._forwarder, self._ttl_s, self._rng = zone, forwarder, ttl_s, rng
        # The plugin loop: a name nobody else asks for. Seen more than twice, our own forwards come back to us.
        self.loop_name = f"{rng.getrandbits(63)}.{rng.getrandbits(63)}"
        self.loop_seen = 0
        self._requests = registry.counter(
            "coredns_dns_requests_total", "Counter of DNS requests made per zone, protocol and family.", ("proto", "type")
        )
        self._responses = registry.counter("coredns_dns_responses_total", "Counter of response status codes.", ("rcode",))

    def loop_probe(self) -> bytes:
        """The query to send to ourselves once."""
        packed: bytes = dnslib.DNSRecord.question(self.loop_name, "HINFO").pack()
        return packed

    async def resolve(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """None for what is not a query: a server must not answer noise."""
        try:
            query = dnslib.DNSRecord.parse(wire)
        except (dnslib.DNSError, ValueError, IndexError):
            return None
        if query.header.qr or len(query.questions) != 1:
            return None
        kind = dnslib.QTYPE.get(query.q.qtype, str(query.q.qtype))
        self._requests.inc("tcp" if tcp else "udp", str(kind))
        name = str(query.q.qname).lower().rstrip(".")
        if name == self.loop_name:
            self.loop_seen += 1
        answer = self._own(name, str(kind))
        if answer is None:
            forwarded = await self._forwarder.ask(query, wire) if self._forwarder is not None else None
            if forwarded is not None:
                return forwarded
            if self._forwarder is not None:
                log.error("Failed to forward query", name=name, type=str(kind), err="no upstream server answered")
            reply = query.reply(ra=1, aa=0)
            reply.header.rcode = dnslib.RCODE.SERVFAIL
        else:
            reply = self._reply(query, answer)
        self._responses.inc(str(dnslib.RCODE.get(reply.header.rcode)))
        packed: bytes = reply.pack()
        if not tcp and len(packed) > _UDP_MAX:
            packed = reply.truncate().pack()
        return packed

    def _own(self, name: str, kind: str) -> Answer | None:
        """The zone's answer; None when the name is not ours."""
        if self._zone.covers(name):
            return self._zone.lookup(name, kind)
        if name.endswith(".in-addr.arpa"):
            try:
                address = str(ipaddress.ip_address(".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))))
            except ValueError:
                return None
            names = self._zone.reverse(address)
            # Not one of the cluster's: `fallthrough in-addr.arpa`.
            return Answer(True, [Record(name, "PTR", n) for n in names] if kind == "PTR" else []) if names else None
        return None

    def _reply(self, query: dnslib.DNSRecord, answer: Answer) -> dnslib.DNSRecord:
        reply = query.reply(ra=1, aa=1)
        records = list(answer.records)
        self._rng.shuffle(records)  # the plugin loadbalance
        for record in records:
            reply.add_answer(_resource_record(record, self._ttl_s))
            if record.type == "SRV" and isinstance(record.data, tuple):
                for extra in self._zone.lookup(record.data[3], "A").records:
                    reply.add_ar(_resource_record(extra, self._ttl_s))
        if not answer.exists:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        if not records:
            domain = self._zone.domain
            times = (1, 7200, 1800, 86400, _DENIAL_TTL_S)
            soa = dnslib.SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", times)
            reply.add_auth(dnslib.RR(domain, dnslib.QTYPE.SOA, ttl=_DENIAL_TTL_S, rdata=soa))
        return reply


def _resource_record(record: Record, ttl_s: int) -> dnslib.RR:
    match record.type:
        case "A":
            data = dnslib.A(record.data)
        case "AAAA":
            data = dnslib.AAAA(record.data)
        case "CNAME":
            data = dnslib.CNAME(record.data)
        case "PTR":
            data = dnslib.PTR(record.data)
        case "TXT":
            data = dnslib.TXT(record.data)
        case _:
            assert isinstance(record.data, tuple), record
            priority, weight, port, target = record.data
            data = dnslib.SRV(priority, weight, port, target)
    return dnslib.RR(record.name, getattr(dnslib.QTYPE, record.type), ttl=ttl_s, rdata=data)
