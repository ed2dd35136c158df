"""Pure: all versions of all packages that a machine knows of: what its lists offer, and what is installed (apt's package cache)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubette.machines.packages import debian_version, dpkg_status
from kubette.machines.packages.control_file import Stanza
from kubette.machines.packages.sources import Source

STATUS_FILE = "/var/lib/dpkg/status"


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of a package, and the sources that have it (none when it is only installed)."""

    stanza: Stanza
    sources: tuple[Source, ...]

    @property
    def version(self) -> str:
        return self.stanza["Version"]


class Catalog:
    """What apt-cache knows."""

    def __init__(self, indexes: Iterable[tuple[Source, list[Stanza]]], status: Mapping[str, Stanza]) -> None:
        self.indexes = list(indexes)
        self.installed = {name: stanza for name, stanza in status.items() if dpkg_status.is_installed(stanza)}
        found: dict[str, dict[str, Offer]] = {}
        for source, stanzas in self.indexes:
            for stanza in stanzas:
                versions = found.setdefault(stanza["Package"], {})
                before = versions.get(stanza["Version"])
                versions[stanza["Version"]] = Offer(stanza, (*(before.sources if before else ()), source))
        for name, stanza in self.installed.items():
            found.setdefault(name, {}).setdefault(stanza["Version"], Offer(stanza, ()))
        self._offers = {
            name: sorted(versions.values(), key=lambda offer: debian_version.key(offer.version), reverse=True) for name, versions in found.items()
        }

    @property
    def names(self) -> list[str]:
        return sorted(self._offers)

    def offers(self, name: str) -> list[Offer]:
        """Every version, the newest first."""
        return self._offers.get(name, [])

    def candidate(self, name: str) -> Offer:
        """What `install` without a version takes: the newest, the installed one included."""
        return self._offers[name][0]

    def installed_version(self, name: str) -> str:
        """Empty when it is not installed."""
        return self.installed[name]["Version"] if name in self.installed else ""

    def is_held(self, name: str) -> bool:
        return name in self.installed and dpkg_status.is_held(self.installed[name])

    def upgradable(self) -> list[str]:
        return [name for name in sorted(self.installed) if self.candidate(name).version != self.installed_version(name)]
