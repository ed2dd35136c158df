"""Row R05: a kubelet may be three lines older than its control plane, never newer; kubeadm says so before it does anything."""

import pytest

from kubette.component_base import version
from kubette.kubeadm.config import Cluster, Local
from kubette.kubeadm.phases import preflight
from kubette.kubeadm.phases.context import Context, PhaseError


def joining(kubelet: str, cluster: str, monkeypatch: pytest.MonkeyPatch, *ignored: str) -> list[str]:
    """What preflight says on a machine whose package kubelet is of a release."""
    monkeypatch.setattr(version, "installed", lambda program: {"kubelet": kubelet}[program])
    said: list[str] = []
    local = Local("node01", "192.168.56.12", ignore_preflight_errors=frozenset(ignored))
    preflight.run_with_cluster(Context(Cluster(cluster), local, said.append, control_plane=False))
    return said


@pytest.mark.parametrize("kubelet", ["v1.34.0", "v1.34.9", "v1.36.1", "v1.37.0", "v1.37.5"])
def test_kubelets_of_the_four_newest_lines_may_join(kubelet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert joining(kubelet, "v1.37.0", monkeypatch) == []


def test_a_newer_kubelet_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PhaseError) as refused:
        joining("v1.32.0", "v1.31.9", monkeypatch)
    assert str(refused.value) == (
        "error execution phase preflight: [preflight] Some fatal errors occurred:\n"
        "\t[ERROR KubeletVersion]: the kubelet version is higher than the control plane version. This is not a supported version skew and may lead to "
        'a malfunctional cluster. Kubelet version: "1.32.0" Control plane version: "1.31.9"\n'
        "[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`"
    )


def test_a_kubelet_four_lines_older_may_not_unless_the_check_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PhaseError, match='Kubelet version "1.33.7" is lower than kubeadm can support. Please upgrade kubelet'):
        joining("v1.33.7", "v1.37.0", monkeypatch)
    said = joining("v1.33.7", "v1.37.0", monkeypatch, "kubeletversion")
    assert said == ['\t[WARNING KubeletVersion]: Kubelet version "1.33.7" is lower than kubeadm can support. Please upgrade kubelet']
