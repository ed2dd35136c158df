"""A small rtnetlink client: bridges, veth pairs, addresses, routes. Enough for a pod's network, and nothing more.

Counterpart of vishvananda/netlink in upstream's CNI plugins. pyroute2 does all of this and more, for 15 MB resident in a process that lives as
long as its machine; these are five messages. A `Netlink` speaks to the network namespace it was opened in, wherever the thread goes after.
"""

import errno
import os
import socket
import struct
from types import TracebackType

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_DELROUTE = 16, 17, 18, 20, 24, 25
_RTM_SETLINK = 19
_REQUEST, _ACK, _CREATE, _EXCL, _REPLACE = 1, 4, 0x400, 0x200, 0x100
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_STATS64, _IFLA_PROTINFO, _IFLA_BRPORT_MODE, _NLA_NESTED = 23, 12, 4, 0x8000
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_NLMSG_ERROR = 2
_AF_BRIDGE = 7
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST, _SCOPE_UNIVERSE, _SCOPE_LINK = 254, 4, 1, 0, 253
_TIMEOUT_S = 5.0


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _link(index: int = 0, flags: int = 0, change: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    return struct.pack("=BxHiII", family, 0, index, flags, change)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message's tail, by kind."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x7FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


class Netlink:
    """A socket of the current network namespace; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._sequence = 0

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def _call(self, kind: int, flags: int, body: bytes, what: str) -> bytes:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, self._sequence, 0)
        self._socket.send(header + body)
        answer = b""
        while True:
            data = self._socket.recv(1 << 16)
            while len(data) >= 16:
                length, message, _, sequence, _ = struct.unpack_from("=IHHII", data)
                if sequence == self._sequence:
                    if message == _NLMSG_ERROR:
                        code = -struct.unpack_from("=i", data, 16)[0]
                        if code:
                            raise OSError(code, f"cannot {what}: {os.strerror(code).lower()}")
                        return answer
                    answer = data[16:length]
                data = data[(length + 3) & ~3 :]

    def index(self, name: str) -> int | None:
        """The index of a link, None when there is none."""
        try:
            answer = self._call(_RTM_GETLINK, 0, _link() + _name(name), f"find link {name}")
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return int(struct.unpack_from("=BxHi", answer)[2])

    def statistics(self, name: str) -> dict[str, int]:
        """rtnl_link_stats64's first eight counters of a link."""
        answer = self._call(_RTM_GETLINK, 0, _link() + _name(name), f"find link {name}")
        stats = attributes(answer[16:]).get(_IFLA_STATS64, b"\0" * 64)
        names = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
        return dict(zip(names, struct.unpack_from("=8Q", stats), strict=True))

    def add_bridge(self, name: str) -> None:
        info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"bridge"))
        self._call(_RTM_NEWLINK, _CREATE | _EXCL, _link() + _name(name) + info, f"add bridge {name}")

    def add_veth(self, name: str, peer: str, peer_namespace: str) -> None:
        """A pair: `name` here, `peer` inside the namespace at that path."""
        with open(peer_namespace, "rb") as namespace:
            other = _link() + _name(peer) + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace.fileno()))
            data = _attribute(_INFO_DATA, _attribute(_VETH_INFO_PEER, other))
            info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"veth") + data)
            self._call(_RTM_NEWLINK, _CREATE | _EXCL, _link() + _name(name) + info, f"add veth {name}")

    def set_up(self, index: int, master: int | None = None) -> None:
        """Bring a link up, enslaved to a bridge when one is given."""
        body = _attribute(_IFLA_MASTER, struct.pack("=I", master)) if master else b""
        self._call(_RTM_NEWLINK, 0, _link(index, _IFF_UP, _IFF_UP) + body, "set link up")

    def set_hairpin(self, index: int) -> None:
        """Let a port of a bridge get back what it sent."""
        mode = _attribute(_IFLA_PROTINFO | _NLA_NESTED, _attribute(_IFLA_BRPORT_MODE, b"\1"))
        self._call(_RTM_SETLINK, 0, _link(index, family=_AF_BRIDGE) + mode, "set hairpin mode")

    def set_hardware_address(self, index: int, address: bytes) -> None:
        self._call(_RTM_NEWLINK, 0, _link(index) + _attribute(_IFLA_ADDRESS, address), "set hardware address")

    def delete(self, name: str) -> None:
        """Delete a link; no link is no error."""
        index = self.index(name)
        if index is not None:
            self._call(_RTM_DELLINK, 0, _link(index), f"delete link {name}")

    def add_address(self, index: int, address: str, prefix_length: int) -> None:
        """Give a link an IPv4 address; having it already is no error."""
        packed = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, prefix_length, 0, 0, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        try:
            self._call(_RTM_NEWADDR, _CREATE | _EXCL, body, f"add address {address}")
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise

    def add_route(self, destination: str, prefix_length: int, index: int, gateway: str = "") -> None:
        """An IPv4 route, on the link itself or by a gateway; `0.0.0.0`/0 is the default route."""
        scope = _SCOPE_UNIVERSE if gateway else _SCOPE_LINK
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, prefix_length, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _UNICAST, 0)
        if prefix_length:
            body += _attribute(_RTA_DST, socket.inet_aton(destination))
        if gateway:
            body += _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        body += _attribute(_RTA_OIF, struct.pack("=I", index))
        self._call(_RTM_NEWROUTE, _CREATE | _REPLACE, body, f"add route {destination}/{prefix_length}")
