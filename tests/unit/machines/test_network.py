"""The cable between a machine and the switch, with a kernel that is still taking the last one away."""

import errno
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from kubette.machines import network, spec

MACHINE = spec.Machine("node01", "worker", 1)


class Switch:
    """A netlink socket; deleting a port ends as `code` says."""

    def __init__(self, code: int) -> None:
        self._code = code
        self.ports = [7]
        self.asked: list[str] = []

    def link_lookup(self, ifname: str) -> list[int]:
        return list(self.ports) if ifname == "port1" else [1]

    def link(self, what: str, **_: Any) -> None:
        self.asked.append(what)
        if what == "del":
            self.ports = []
            if self._code:
                raise NetlinkError(self._code)
        elif what == "add":
            self.ports = [8]


@pytest.mark.parametrize("code", [0, errno.ENODEV])
def test_a_port_that_the_kernel_has_just_removed_is_not_in_the_way(code: int) -> None:
    switch = Switch(code)
    network.connect(switch, MACHINE, 1)
    assert switch.asked == ["del", "add", "set"]


def test_a_port_that_cannot_be_removed_is_told() -> None:
    with pytest.raises(NetlinkError):
        network.connect(Switch(errno.EPERM), MACHINE, 1)
