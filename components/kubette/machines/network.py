"""The cluster's switch and each machine's place on it, by netlink (no `ip` program).

The switch is a network namespace of its own with the bridge `switch0`; a machine's `eth0` is one end of a veth pair, the other end is a port of that
bridge. The functions act on the network namespace of the calling thread, or on the one whose socket they are given.
"""

import contextlib
import errno
from pathlib import Path
from typing import Any

from kubette.machines import spec

BRIDGE = "switch0"
TABLE_LOCAL = 255  # RT_TABLE_LOCAL: what the kernel takes for its own

# A router between pod networks that never tells machines of shortcuts; a reply may come back another way (rp_filter loose).
SWITCH_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/all/rp_filter": "2",
    "ipv4/conf/default/rp_filter": "2",
}
# What kubeadm's preflight asks of a machine, and the same rules for redirects.
MACHINE_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/default/accept_redirects": "0",
    "ipv4/conf/all/rp_filter": "2",
    "ipv4/conf/default/rp_filter": "2",
    "ipv4/ping_group_range": "0 0",
}


def open_netlink() -> Any:
    """A netlink socket of the current network namespace; it stays there when the thread moves on."""
    from pyroute2 import IPRoute

    return IPRoute()


def write_sysctls(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        with contextlib.suppress(OSError):  # a kernel without an option has nothing to set
            Path("/proc/sys/net", name).write_text(value)


def build_switch() -> None:
    """Make the bridge with the cluster's two addresses, in the current network namespace."""
    write_sysctls(SWITCH_SYSCTLS)
    with open_netlink() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname="lo")[0], state="up")
        netlink.link("add", ifname=BRIDGE, kind="bridge")
        bridge = netlink.link_lookup(ifname=BRIDGE)[0]
        for address, length in ((spec.SWITCH_ADDRESS, spec.PREFIX_LENGTH), (spec.LOAD_BALANCER_ADDRESS, 32)):
            netlink.addr("add", index=bridge, address=address, prefixlen=length)
        netlink.link("set", index=bridge, state="up")
        # A service's address comes out of a machine only while nobody there has rules for it yet (kube-proxy is starting). The connection is refused
        # here, by a reset: one that waited in silence would stay unanswered also after the rules are made, until its own timeout.
        netlink.route("add", dst=spec.SERVICE_NETWORK, oif=netlink.link_lookup(ifname="lo")[0], type="local", table=TABLE_LOCAL, scope="host")


def port_name(machine: spec.Machine) -> str:
    """The bridge's port of a machine (15 characters at most)."""
    return f"port{machine.index}"


def connect(switch: Any, machine: spec.Machine, pid: int) -> None:
    """Plug a cable between the switch (a netlink socket there) and the network namespace of process `pid`, as its eth0."""
    from pyroute2.netlink.exceptions import NetlinkError

    port = port_name(machine)
    for leftover in switch.link_lookup(ifname=port):
        # The kernel takes a dead machine's network down in its own time; its port must not be in the way. It may be done just now.
        try:
            switch.link("del", index=leftover)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
    switch.link("add", ifname=port, kind="veth", peer={"ifname": "eth0", "address": machine.mac_address, "net_ns_pid": pid})
    index = switch.link_lookup(ifname=port)[0]
    switch.link("set", index=index, master=switch.link_lookup(ifname=BRIDGE)[0], state="up")


def configure(machine: spec.Machine) -> None:
    """Give the machine its address and default route, in its own network namespace."""
    write_sysctls(MACHINE_SYSCTLS)
    with open_netlink() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname="lo")[0], state="up")
        eth0 = netlink.link_lookup(ifname="eth0")[0]
        netlink.addr("add", index=eth0, address=machine.address, prefixlen=spec.PREFIX_LENGTH, broadcast="192.168.56.255")
        netlink.link("set", index=eth0, state="up")
        # A machine needs a default route: the kernel routes before it rewrites a service address.
        netlink.route("add", dst="default", gateway=spec.SWITCH_ADDRESS)


def replace_route(netlink: Any, destination: str, gateway: str) -> None:
    netlink.route("replace", dst=destination, gateway=gateway)


def delete_route(netlink: Any, destination: str) -> None:
    """Remove a route; one that is gone already is fine."""
    from pyroute2.netlink.exceptions import NetlinkError

    with contextlib.suppress(NetlinkError):
        netlink.route("del", dst=destination)
