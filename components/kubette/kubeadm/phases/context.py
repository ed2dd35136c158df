"""What the phases of one run share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubette.kubeadm import config, kubelet_config, timeouts
from kubette.kubeadm.config import Cluster, Local
from kubette.kubeadm.joining import Discovery
from kubette.kubeadm.patches import Patches
from kubette.stdx import files


class PhaseError(Exception):
    """A phase failed. `phase` is its name, the text the reason; `findings` are those of preflight, which newer releases print before the error.

    `named`: whether the text says which phase it was; an upgrade before v1.32 had none.
    """

    def __init__(self, phase: str, reason: str, findings: str = "", named: bool = True) -> None:
        prefix = f"error execution phase {phase}: " if named else ""
        super().__init__(f"{prefix}{findings or reason}")
        self.phase, self.findings = phase, findings
        self.short = f"{prefix}{reason}"


@dataclass(slots=True)
class Context:
    """One run of kubeadm on this machine."""

    cluster: Cluster
    local: Local
    say: Callable[[str], None]
    token: str = ""
    token_ttl_s: float = config.DEFAULT_TOKEN_TTL_S
    upload_certs: bool = False
    certificate_key: str = ""
    skip_token_print: bool = False
    skip_certificate_key_print: bool = False
    control_plane: bool = True
    dry_run: bool = False  # show what would be written
    dry_run_directory: Path | None = None  # where a dry run of init or join puts its files
    timeouts: dict[str, float] = field(default_factory=timeouts.seconds)
    patches: Patches = field(default_factory=Patches)
    bootstrap_tokens: list[dict[str, Any]] = field(default_factory=list)  # of --config; the first is the one that init prints
    discovery: Discovery | None = None  # for a machine that joins
    # For a machine that joins: the cluster's own. For init: what --config wants to be different from the defaults.
    kubelet_configuration: dict[str, Any] = field(default_factory=dict)
    proxy_configuration: dict[str, Any] = field(default_factory=dict)
    # What discovery found: a kubeconfig with the rights of the bootstrap token (or of the discovery file).
    bootstrap: dict[str, Any] = field(default_factory=dict)

    def kubelet_document(self) -> dict[str, Any]:
        """The KubeletConfiguration of the cluster's machines."""
        return kubelet_config.merged(kubelet_config.kubelet_configuration(self.cluster), self.kubelet_configuration)

    def machines_kubelet_document(self) -> dict[str, Any]:
        """The same with the patches for this machine."""
        return self.patches.apply("kubeletconfiguration", self.kubelet_document(), self.say)

    @property
    def shown_certificate_key(self) -> str:
        return "<value withheld>" if self.skip_certificate_key_print else self.certificate_key

    @property
    def pki(self) -> Path:
        return self.dry_run_directory or Path(self.cluster.certificates_dir)

    @property
    def kubernetes_dir(self) -> Path:
        return self.dry_run_directory or Path(config.KUBERNETES_DIR)

    @property
    def manifests_dir(self) -> Path:
        return self.dry_run_directory or Path(config.MANIFESTS_DIR)

    @property
    def kubelet_dir(self) -> Path:
        return self.dry_run_directory or Path(config.KUBELET_DIR)

    @property
    def told(self) -> Callable[[str], None] | None:
        """Who is told of writes to the cluster instead of the cluster (see `cluster_api.connect`)."""
        return self.say if self.dry_run else None

    @property
    def admin_conf(self) -> Path:
        return self.kubernetes_dir / "admin.conf"

    @property
    def super_admin_conf(self) -> Path:
        return self.kubernetes_dir / "super-admin.conf"


def write_yaml(path: Path, document: dict[str, Any], mode: int = 0o600) -> None:
    """Write one YAML document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, yaml.safe_dump(document, sort_keys=False, default_flow_style=False, width=1000), mode=mode)
