"""Pure: the stanzas of /var/lib/dpkg/status: what is installed, and what is held."""

from kubette.machines.packages.control_file import Stanza

_NOT_IN_STATUS = frozenset({"Filename", "Size", "SHA256"})


def installed(package: Stanza, hold: bool = False) -> Stanza:
    """The status of a package that has just been installed."""
    fields = [(field, value) for field, value in package.items() if field not in _NOT_IN_STATUS]
    status = f"{'hold' if hold else 'install'} ok installed"
    return dict([fields[0], ("Status", status), *[pair for pair in fields[1:] if pair[0] != "Status"]])


def is_installed(stanza: Stanza) -> bool:
    return stanza.get("Status", "").endswith(" ok installed")


def is_held(stanza: Stanza) -> bool:
    return stanza.get("Status", "").startswith("hold ")
