"""The network of pods on this machine: what upstream does by CNI with the plugins bridge, host-local and portmap.

The configuration is a real conflist, `/etc/cni/net.d/10-kubette.conflist`, written when the kubelet tells the pod CIDR (as containerd does with
`conf_template`); without one the network is not ready, in containerd's words. Each pod has a veth to the bridge `cni0`, whose address is the first of
the CIDR. A pod reaches everything, its neighbours on the same machine too, through that address (the routes of the ptp plugin): so every packet to a
service and every answer passes the machine's own routing, where kube-proxy's rules see both, without the br_netfilter module.
"""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from kubette.component_base import logs
from kubette.runtime import ipam, netlink, syscalls
from kubette.runtime.errors import CriError
from kubette.stdx import files

log = logs.logger(__name__)

BRIDGE = "cni0"
INTERFACE = "eth0"
NAME = "kubette"
NOT_READY = "Network plugin returns error: cni plugin not initialized"
COMMAND_TIMEOUT_S = 10.0


def conflist(pod_cidr: str) -> dict[str, Any]:
    """The CNI configuration list of a pod CIDR."""
    return {
        "cniVersion": "1.0.0",
        "name": NAME,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


class PodNetwork:
    """Attaches sandboxes' namespaces. Directories are parameters so that tests have their own."""

    def __init__(
        self, configuration: Path = Path("/etc/cni/net.d"), state: Path = Path("/var/lib/cni/networks"), namespaces: Path = Path("/run/netns")
    ) -> None:
        self._configuration = configuration / "10-kubette.conflist"
        self._state = state
        self._namespaces = namespaces

    # -- configuration

    def set_pod_cidr(self, pod_cidr: str) -> None:
        """Write the configuration for a CIDR (the first of a dual-stack pair: pods are IPv4 here)."""
        first = pod_cidr.split(",")[0].strip()
        if not first or first == self.pod_cidr():
            return
        self._configuration.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(self._configuration, json.dumps(conflist(first), indent=2) + "\n")
        log.info("Wrote CNI configuration", path=str(self._configuration), podCIDR=first)

    def pod_cidr(self) -> str:
        """The CIDR of the configuration, nothing while there is none or it cannot be read."""
        try:
            plugins = json.loads(self._configuration.read_text())["plugins"]
            return str(plugins[0]["ipam"]["ranges"][0][0]["subnet"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""

    def _addresses(self) -> ipam.HostLocal:
        cidr = self.pod_cidr()
        if not cidr:
            raise CriError("UNKNOWN", "cni plugin not initialized")
        return ipam.HostLocal(self._state / NAME, cidr)

    # -- namespaces

    def namespace_path(self, sandbox_id: str) -> str:
        return str(self._namespaces / f"cni-{sandbox_id[:32]}")

    def make_namespace(self, sandbox_id: str) -> str:
        """A new network namespace, pinned to a path by a bind mount; its loopback is up."""
        path = self.namespace_path(sandbox_id)
        self._namespaces.mkdir(parents=True, exist_ok=True)
        Path(path).touch(mode=0o444)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # This thread leaves its namespace for two system calls; no await lies between.
            syscalls.unshare(syscalls.CLONE_NEWNET)
            try:
                syscalls.mount("/proc/thread-self/ns/net", path, "", syscalls.MS_BIND)
                with netlink.Netlink() as link:
                    index = link.index("lo")
                    assert index is not None, "every network namespace has a loopback"
                    link.set_up(index)
            finally:
                syscalls.setns(home, syscalls.CLONE_NEWNET)
        finally:
            os.close(home)
        return path

    def remove_namespace(self, path: str) -> None:
        """Let a namespace go; gone already is no error."""
        try:
            syscalls.umount(path)
        except OSError:
            pass
        Path(path).unlink(missing_ok=True)

    # -- attachment

    def attach(self, sandbox_id: str, namespace: str, ports: list[dict[str, Any]]) -> str:
        """Give a namespace its interface and address; answers the address. Undone on failure."""
        addresses = self._addresses()
        address = addresses.reserve(sandbox_id)
        try:
            self._connect(sandbox_id, namespace, address, addresses)
            self._map_ports(sandbox_id, address, ports)
        except (OSError, CriError):
            self.detach(sandbox_id, ports, address)
            raise
        return address

    def _connect(self, sandbox_id: str, namespace: str, address: str, addresses: ipam.HostLocal) -> None:
        host_end = self._host_end(sandbox_id)
        with netlink.Netlink() as link:
            bridge = self._bridge(link, addresses)
            link.delete(host_end)  # left over from an attempt that was cut short
            link.add_veth(host_end, INTERFACE, namespace)
            index = link.index(host_end)
            assert index is not None, "the veth was just made"
            link.set_up(index, master=bridge)
            # Where br_netfilter is at work, the bridge itself forwards what kube-proxy sends to another pod: also a pod's request to its own service.
            link.set_hairpin(index)
        with syscalls.in_network_namespace(namespace), netlink.Netlink() as link:
            index = link.index(INTERFACE)
            assert index is not None, "the veth's other end is in the pod"
            # The hardware address follows from the address (upstream's GenerateHardwareAddr4): a neighbour's ARP entry stays right after reuse.
            link.set_hardware_address(index, b"\x0a\x58" + socket.inet_aton(address))
            link.set_up(index)
            link.add_address(index, address, 32)
            link.add_route(addresses.gateway, 32, index)
            link.add_route("0.0.0.0", 0, index, addresses.gateway)

    def _bridge(self, link: netlink.Netlink, addresses: ipam.HostLocal) -> int:
        index = link.index(BRIDGE)
        if index is None:
            link.add_bridge(BRIDGE)
            index = link.index(BRIDGE)
            assert index is not None, "the bridge was just made"
            # A fixed address: a bridge would take that of its lowest port and change it with every pod.
            link.set_hardware_address(index, b"\x0a\x58" + socket.inet_aton(addresses.gateway))
        link.add_address(index, addresses.gateway, addresses.subnet.prefixlen)
        link.set_up(index)
        for name, value in (("ip_forward", "1"), (f"conf/{BRIDGE}/send_redirects", "0"), ("conf/all/send_redirects", "0")):
            try:
                Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
            except OSError as error:
                log.warning("Could not set sysctl", name=name, err=error)
        return index

    def _host_end(self, sandbox_id: str) -> str:
        return f"veth{sandbox_id[:8]}"

    def detach(self, sandbox_id: str, ports: list[dict[str, Any]], address: str) -> None:
        """Take interface, ports and address back; each may be gone already."""
        self._unmap_ports(sandbox_id, address, ports)
        with netlink.Netlink() as link:
            link.delete(self._host_end(sandbox_id))
        if self.pod_cidr():
            self._addresses().release(sandbox_id)

    def release_leftovers(self, alive: set[str]) -> None:
        """After a reboot: addresses whose sandbox is no longer known are free."""
        if self.pod_cidr():
            addresses = self._addresses()
            for owner in addresses.owners() - alive:
                addresses.release(owner)

    # -- host ports (portmap)

    def _map_ports(self, sandbox_id: str, address: str, ports: list[dict[str, Any]]) -> None:
        for rule in port_rules(sandbox_id, address, ports):
            _iptables("-A", rule)

    def _unmap_ports(self, sandbox_id: str, address: str, ports: list[dict[str, Any]]) -> None:
        for rule in port_rules(sandbox_id, address, ports):
            try:
                _iptables("-D", rule)
            except CriError:
                pass  # never made, or a reboot took it


def port_rules(sandbox_id: str, address: str, ports: list[dict[str, Any]]) -> list[list[str]]:
    """The nat rules of a sandbox's host ports: `[chain, arguments…]`; from outside, from the machine itself, and the way back for 127.0.0.1."""
    rules = []
    for port in ports:
        protocol = port["protocol"].lower()
        match = ["-p", protocol, "--dport", str(port["host_port"])]
        if port.get("host_ip") and port["host_ip"] != "0.0.0.0":
            match += ["-d", port["host_ip"]]
        comment = ["-m", "comment", "--comment", f"portmap {sandbox_id[:12]}"]
        target = ["-j", "DNAT", "--to-destination", f"{address}:{port['container_port']}"]
        rules += [[chain, "-m", "addrtype", "--dst-type", "LOCAL", *match, *comment, *target] for chain in ("PREROUTING", "OUTPUT")]
        rules.append(
            ["POSTROUTING", "-s", "127.0.0.0/8", "-d", address, "-p", protocol, "--dport", str(port["container_port"]), *comment, "-j", "MASQUERADE"]
        )
    return rules


def _iptables(action: str, rule: list[str]) -> None:
    try:
        done = subprocess.run(
            ["iptables", "-w", "5", "-t", "nat", action, *rule], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise CriError("UNKNOWN", 'plugin type="portmap" failed (add): this machine has no iptables, which hostPort needs') from error
    except subprocess.TimeoutExpired as error:
        raise CriError("UNKNOWN", 'plugin type="portmap" failed (add): iptables did not answer') from error
    if done.returncode:
        raise CriError("UNKNOWN", f'plugin type="portmap" failed (add): {done.stderr.strip()}')
