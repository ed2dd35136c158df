"""The iptables back-end: writes rules with `iptables-restore`, keeps the jumps into them, forgets UDP flows whose endpoint is gone."""

import asyncio
import os
import shutil
from collections.abc import Sequence

from kubette.component_base import logs
from kubette.component_base.metrics import Registry
from kubette.component_base.run import StartupError
from kubette.kube_proxy import rules
from kubette.kube_proxy.change_tracker import ServicePort

log = logs.logger(__name__)

_TIMEOUT_S = 30.0
_LOCK_WAIT = ("-w", "5")  # another process may hold the xtables lock


def available() -> bool:
    return all(shutil.which(program) for program in ("iptables", "iptables-restore", "iptables-save"))


async def _run(*command: str, text: str = "") -> tuple[int, str, str]:
    """(exit code, output, errors). The input is a file in memory: a program that ends without reading it breaks no pipe."""
    pipe, fd = asyncio.subprocess.PIPE, os.memfd_create("rules", os.MFD_CLOEXEC)
    try:
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        process = await asyncio.create_subprocess_exec(*command, stdin=fd, stdout=pipe, stderr=pipe)
    finally:
        os.close(fd)
    async with asyncio.timeout(_TIMEOUT_S):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


class Iptables:
    """Rules as last written, so that an unchanged world costs nothing."""

    def __init__(self, cluster_cidr: str, masquerade_all: bool, registry: Registry) -> None:
        self._cluster_cidr, self._masquerade_all = cluster_cidr, masquerade_all
        self._written = ""
        self._udp: dict[tuple[str, int], frozenset[tuple[str, int]]] = {}
        self._failures = registry.counter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Cumulative proxy iptables restore failures")

    async def prepare(self) -> None:
        """Make the chains and the jumps into them; existing rules of an earlier run keep working meanwhile."""
        for table, chain, parent, comment, match in rules.JUMPS:
            await _run("iptables", *_LOCK_WAIT, "-t", table, "-N", chain)
            jump = (parent, *match, "-m", "comment", "--comment", comment, "-j", chain)
            code, _, _ = await _run("iptables", *_LOCK_WAIT, "-t", table, "-C", *jump)
            if code:
                code, _, err = await _run("iptables", *_LOCK_WAIT, "-t", table, "-I", *jump)
                if code:
                    raise StartupError(f"failed to ensure that {table} chain {parent} jumps to {chain}: {err.strip()}")

    async def apply(self, ports: Sequence[ServicePort]) -> None:
        """Raises RuntimeError with the program's words; the caller tries again."""
        text = rules.render(ports, self._cluster_cidr, masquerade_all=self._masquerade_all)
        if text == self._written:
            return
        stale = await self._our_chains()
        text_now = rules.render(ports, self._cluster_cidr, stale, masquerade_all=self._masquerade_all)
        code, _, err = await _run("iptables-restore", *_LOCK_WAIT, "--noflush", text=text_now)
        if code:
            self._failures.inc()
            raise RuntimeError(f"failed to execute iptables-restore: exit status {code}: {err.strip()}")
        self._written = text
        await asyncio.to_thread(self._forget_udp_flows, ports)

    async def _our_chains(self) -> list[str]:
        _, saved, _ = await _run("iptables-save", "-t", "nat")
        names = (line[1:].split()[0] for line in saved.splitlines() if line.startswith(":KUBE-"))
        return [name for name in names if name.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-SEP-"))]

    def _forget_udp_flows(self, ports: Sequence[ServicePort]) -> None:
        """A UDP flow has no end: conntrack would send it to a dead endpoint as long as its client keeps asking."""
        now = {(p.cluster_ip, p.port): frozenset((e.address, e.port) for e in p.endpoints) for p in ports if p.protocol == "udp"}
        changed = [key for key, endpoints in self._udp.items() if endpoints - now.get(key, frozenset())]
        # A client that asked before there was any endpoint has a flow to the bare service address.
        changed += [key for key, endpoints in now.items() if endpoints and not self._udp.get(key)]
        self._udp = now
        if not changed:
            return
        try:
            from pyroute2 import NFCTSocket
            from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

            with NFCTSocket() as conntrack:
                for address, port in changed:
                    for entry in conntrack.dump(tuple_orig=NFCTAttrTuple(proto=17, daddr=address, dport=port)):
                        conntrack.entry("del", tuple_orig=NFCTAttrTuple.from_netlink(entry.get_attr("CTA_TUPLE_ORIG")))
        except Exception as error:
            log.warning("Failed to delete stale conntrack entries", err=error)

    async def cleanup(self) -> None:
        """`kube-proxy --cleanup`: take every rule and chain of ours away."""
        for table, chain, parent, comment, match in rules.JUMPS:
            await _run("iptables", *_LOCK_WAIT, "-t", table, "-D", parent, *match, "-m", "comment", "--comment", comment, "-j", chain)
        for table in ("filter", "nat"):
            _, saved, _ = await _run("iptables-save", "-t", table)
            chains = [line[1:].split()[0] for line in saved.splitlines() if line.startswith(":KUBE-")]
            text = "\n".join([f"*{table}", *(f":{c} - [0:0]" for c in chains), *(f"-X {c}" for c in chains), "COMMIT", ""])
            await _run("iptables-restore", *_LOCK_WAIT, "--noflush", text=text)
