"""Which address of this machine the API server advertises when nobody says one."""

import socket

from kubette.kubeadm.config import ConfigError


def default() -> str:
    """The address of the interface with the default route; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            raise ConfigError(f"unable to select an IP from default routes: {error.strerror}") from error
        return str(probe.getsockname()[0])
