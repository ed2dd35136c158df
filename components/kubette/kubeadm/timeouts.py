"""Pure: how long kubeadm waits for what (upstream: the Timeouts of kubeadm.k8s.io/v1beta4)."""

from collections.abc import Mapping
from typing import Any

from kubette.component_base import flags
from kubette.kubeadm.config import ConfigError

DEFAULTS = {
    "controlPlaneComponentHealthCheck": "4m0s",
    "discovery": "5m0s",
    "etcdAPICall": "2m0s",
    "kubeletHealthCheck": "4m0s",
    "kubernetesAPICall": "1m0s",
    "tlsBootstrap": "5m0s",
    "upgradeManifests": "5m0s",
}


def seconds(wanted: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Every timeout, those of a configuration's `timeouts` before the defaults. Raises ConfigError."""
    found = {}
    for name, default in DEFAULTS.items():
        text = (wanted or {}).get(name) or default
        try:
            found[name] = flags.parse_duration(text)
        except ValueError:
            found[name] = -1.0
        if found[name] < 0:
            raise ConfigError(f'timeouts.{name}: Invalid value: "{text}": the value must be a positive duration')
    return found


def text(wait_s: float) -> str:
    """As Go writes it: `4m0s`, `15s`."""
    minutes, rest = divmod(int(wait_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
