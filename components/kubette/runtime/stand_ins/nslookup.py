"""nslookup, where the machine has none: the non-interactive one of BIND, in its words. Pods see it too, since they see the machine's tools.

nslookup [-type=A|AAAA|PTR|SRV|CNAME|MX|NS|TXT|SOA|ANY] [-timeout=S] [-retry=N] [-port=P] NAME|ADDRESS [SERVER]
"""

import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dnslib

USAGE = "Usage: nslookup [-type=TYPE] [-timeout=SECONDS] [-retry=N] [-port=PORT] name [server]"
TYPES = ("A", "AAAA", "PTR", "SRV", "CNAME", "MX", "NS", "TXT", "SOA", "ANY")
SAYS = {"CNAME": "canonical name", "PTR": "name", "SRV": "service", "MX": "mail exchanger", "NS": "nameserver", "TXT": "text"}


@dataclass
class Resolver:
    """What /etc/resolv.conf says, less what the command line says."""

    servers: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    ndots: int = 1
    timeout_s: float = 5.0
    tries: int = 3
    port: int = 53


def parse_resolv_conf(text: str) -> Resolver:
    found = Resolver()
    for words in (line.split() for line in text.splitlines()):
        match words:
            case ["nameserver", address, *_]:
                found.servers.append(address)
            case ["search" | "domain", *domains]:
                found.search = domains
            case ["options", *options]:
                for name, _, value in (option.partition(":") for option in options):
                    if name == "ndots":
                        found.ndots = int(value)
                    elif name == "timeout":
                        found.timeout_s = float(value)
                    elif name == "attempts":
                        found.tries = int(value)
    return found


def candidates(name: str, resolver: Resolver) -> Iterator[str]:
    """The names to ask for, in their order: a dot at the end is the whole name, few dots go through the search list first."""
    if name.endswith("."):
        yield name.rstrip(".")
        return
    searched = [f"{name}.{domain.rstrip('.')}" for domain in resolver.search]
    yield from [name, *searched] if name.count(".") >= resolver.ndots else [*searched, name]


def exchange(query: dnslib.DNSRecord, server: str, resolver: Resolver) -> dnslib.DNSRecord | None:
    """The server's answer; None when there is none within all tries. One that did not fit is asked for again by TCP."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    for _ in range(resolver.tries):
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(resolver.timeout_s)
            try:
                asking.connect((server, resolver.port))
                asking.send(query.pack())
                answer = dnslib.DNSRecord.parse(asking.recv(65535))
            except OSError as error:
                reason = "timed out" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
                print(f";; communications error to {server}#{resolver.port}: {reason}")
                continue
        if answer.header.id != query.header.id:
            continue
        return dnslib.DNSRecord.parse(query.send(server, resolver.port, tcp=True, timeout=resolver.timeout_s)) if answer.header.tc else answer
    return None


def shown(record: dnslib.RR) -> str:
    """One record as nslookup prints it."""
    name, kind = str(record.rname).rstrip("."), dnslib.QTYPE[record.rtype]
    if kind in ("A", "AAAA"):
        return f"Name:\t{name}\nAddress: {record.rdata}"
    if kind == "SOA":
        soa = record.rdata
        counts = zip(("serial", "refresh", "retry", "expire", "minimum"), soa.times, strict=True)
        return "\n".join([name, f"\torigin = {soa.mname}", f"\tmail addr = {soa.rname}", *(f"\t{word} = {count}" for word, count in counts)])
    return f"{name}\t{SAYS.get(kind, kind)} = {record.rdata}"


def look_up(name: str, types: Sequence[str], server: str, resolver: Resolver) -> int:
    """Ask and print; the exit code."""
    failure, last = "NXDOMAIN", name
    for last in candidates(name, resolver):
        found = []
        authoritative = True
        for kind in types:
            answer = exchange(dnslib.DNSRecord.question(last, kind), server, resolver)
            if answer is None:
                print(";; no servers could be reached\n")
                return 1
            failure = dnslib.RCODE[answer.header.rcode]
            if failure != "NOERROR":
                break
            authoritative &= bool(answer.header.aa)
            # Asked for both kinds of address, a name behind an alias is said twice.
            found += [text for text in map(shown, answer.rr) if text not in found]
        if found:
            print("" if authoritative else "Non-authoritative answer:\n", end="")
            print("\n".join(found) + "\n")
            return 0
        if failure == "SERVFAIL":
            break
    print(f"*** Can't find {last}: No answer\n" if failure == "NOERROR" else f"** server can't find {last}: {failure}\n")
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """The program nslookup."""
    resolver = parse_resolv_conf(Path("/etc/resolv.conf").read_text())
    types, names = ["A", "AAAA"], list[str]()
    for word in sys.argv[1:] if argv is None else argv:
        flag, _, value = word[1:].partition("=")
        try:
            if not word.startswith("-"):
                names.append(word)
            elif flag in ("type", "query", "querytype", "q", "ty") and value.upper() in TYPES:
                types = [value.upper()]
            elif flag == "timeout":
                resolver.timeout_s = float(value)
            elif flag == "retry":
                resolver.tries = 1 + int(value)
            elif flag == "port":
                resolver.port = int(value)
            else:
                print(f"*** Invalid option: {word[1:]}\n{USAGE}", file=sys.stderr)
                return 1
        except ValueError:
            print(f"*** Invalid option: {word[1:]}\n{USAGE}", file=sys.stderr)
            return 1
    if not names or len(names) > 2:
        print(USAGE, file=sys.stderr)
        return 1
    try:
        server = socket.getaddrinfo(names[1], None)[0][4][0] if len(names) == 2 else (resolver.servers or ["127.0.0.1"])[0]
    except OSError:
        print(f"nslookup: couldn't get address for '{names[1]}': not found", file=sys.stderr)
        return 1
    print(f"Server:\t\t{names[1] if len(names) == 2 else server}\nAddress:\t{server}#{resolver.port}\n")
    name = names[0]
    try:
        name = ipaddress.ip_address(name).reverse_pointer + "."
        types = ["PTR"]
    except ValueError:
        pass
    return look_up(name, types, str(server), resolver)


if __name__ == "__main__":
    sys.exit(main())
