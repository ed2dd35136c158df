"""Addresses of pods: upstream's host-local plugin, its files included.

`<directory>/<address>` holds the sandbox that owns the address and its interface; `last_reserved_ip.0` makes allocation go round robin, so that an address
is not handed to the next pod while others still remember the last. The files survive restarts and reboots; a reservation ends with its release.
"""

import ipaddress
import os
from pathlib import Path

from kubette.runtime.errors import CriError


class HostLocal:
    """Reservations in one subnet. The first address is the gateway's."""

    def __init__(self, directory: Path, subnet: str) -> None:
        self._directory = directory
        self.subnet = ipaddress.IPv4Network(subnet)
        self.gateway = str(self.subnet.network_address + 1)

    def reserve(self, owner: str) -> str:
        """An address for `owner`; the one it has already, if it has one. Raises CriError when none is free."""
        self._directory.mkdir(parents=True, exist_ok=True)
        held = self.held(owner)
        if held:
            return held
        first, last = int(self.subnet.network_address) + 2, int(self.subnet.broadcast_address) - 1
        start = self._last() + 1
        for offset in range(last - first + 1):
            number = first + (start - first + offset) % (last - first + 1)
            address = str(ipaddress.IPv4Address(number))
            try:
                # Exclusive creation is the reservation.
                fd = os.open(self._directory / address, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                continue
            with os.fdopen(fd, "w") as file:
                file.write(f"{owner}\neth0")
            (self._directory / "last_reserved_ip.0").write_text(address)
            return address
        raise CriError(
            "UNKNOWN", f"failed to allocate for range 0: no IP addresses available in range set: {self.gateway}-{ipaddress.IPv4Address(last)}"
        )

    def _last(self) -> int:
        try:
            address = ipaddress.IPv4Address((self._directory / "last_reserved_ip.0").read_text().strip())
        except (OSError, ValueError):
            return int(self.subnet.network_address) + 1
        return int(address) if address in self.subnet else int(self.subnet.network_address) + 1

    def held(self, owner: str) -> str:
        """The address that `owner` holds, or nothing."""
        return next((address for address, who in self._reservations() if who == owner), "")

    def release(self, owner: str) -> None:
        """Give back whatever `owner` holds."""
        for address, who in self._reservations():
            if who == owner:
                (self._directory / address).unlink(missing_ok=True)

    def owners(self) -> set[str]:
        return {who for _, who in self._reservations()}

    def _reservations(self) -> list[tuple[str, str]]:
        if not self._directory.is_dir():
            return []
        found = []
        for path in self._directory.iterdir():
            if path.name[:1].isdigit():
                try:
                    found.append((path.name, path.read_text().partition("\n")[0]))
                except OSError:
                    continue
        return found
