"""Static Pods upgraded one by one: backups, the way back, going on after a kill; the kubelet is played by a fake that reads the manifests."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubette.apimachinery import status
from kubette.kubeadm import config, static_pods
from kubette.kubeadm.config import Cluster, Local
from kubette.kubeadm.phases import control_plane
from kubette.kubeadm.phases.context import Context, PhaseError

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
LOCAL = Local("cp", "192.168.56.11")


class Kubelet:
    """Answers for mirror Pods as they follow from the files; a component of `broken` never gets Ready in its new form."""

    def __init__(self, manifests: Path, broken: str = "") -> None:
        self.manifests, self.broken, self.first = manifests, broken, self._hashes(manifests)
        self.order: list[str] = []

    @staticmethod
    def _hashes(manifests: Path) -> dict[str, str]:
        return {path.stem: hashlib.md5(path.read_bytes()).hexdigest() for path in manifests.glob("*.yaml")}

    async def get(self, _resource: Any, _namespace: str, name: str) -> dict[str, Any]:
        component = name.removesuffix("-cp")
        now = self._hashes(self.manifests)[component]
        changed = now != self.first[component]
        if changed and component not in self.order:
            self.order.append(component)
            # The API server is away for a moment while it is replaced.
            raise status.ApiError(503, "ServiceUnavailable", "apiserver not ready")
        ready = not (changed and component == self.broken)
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        return {"metadata": {"annotations": {"kubernetes.io/config.hash": now}}, "status": {"conditions": [condition]}}

    async def list_all(self, _resource: Any, _namespace: str, **_: str) -> tuple[list[dict[str, Any]], str]:
        return [{}], ""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A control plane at v1.33.0; the release after it has another etcd."""
    monkeypatch.setattr(config, "KUBERNETES_DIR", str(tmp_path))
    monkeypatch.setattr(config, "MANIFESTS_DIR", str(tmp_path / "manifests"))
    monkeypatch.setattr(static_pods, "_PAUSE_S", 0.001)
    data = tmp_path / "etcd-data"
    data.mkdir()
    (data / "db").write_text("revision 7")
    cluster = Cluster("v1.33.0", components={"etcd": {"dataDir": str(data)}})
    context = Context(cluster, LOCAL, lambda _: None)
    control_plane.run_etcd(context, {"cp": "https://192.168.56.11:2380", "cp2": "https://192.168.56.12:2380"})
    control_plane.run(context)
    return context


def run_of(context: Context, kubelet: Kubelet, version: str = "v1.34.0", timeout_s: float = 5.0) -> static_pods.Run:
    context.cluster = replace(context.cluster, kubernetes_version=version)
    return static_pods.Run(context, kubelet, renew=False, timeout_s=timeout_s)  # type: ignore[arg-type]


def texts() -> dict[str, str]:
    return {name: static_pods.manifest_path(name).read_text() for name in COMPONENTS}


async def test_components_are_replaced_in_order_with_dated_backups(machine: Context) -> None:
    before, kubelet = texts(), Kubelet(Path(config.MANIFESTS_DIR))
    run = run_of(machine, kubelet)
    await static_pods.upgrade(run)
    assert kubelet.order == list(COMPONENTS)
    assert {name: (run.backup / f"{name}.yaml").read_text() for name in COMPONENTS} == before
    images = [yaml.safe_load(text)["spec"]["containers"][0]["image"].rpartition(":")[2] for text in texts().values()]
    assert images == ["3.6.4-0", "v1.34.0", "v1.34.0", "v1.34.0"]
    assert (run.etcd_backup / "etcd" / "db").read_text() == "revision 7"
    assert not run.fresh.exists()


async def test_etcd_keeps_the_members_it_was_started_with(machine: Context) -> None:
    await static_pods.upgrade(run_of(machine, Kubelet(Path(config.MANIFESTS_DIR))))
    flags = static_pods.flags_of("etcd")
    assert flags["initial-cluster"] == "cp=https://192.168.56.11:2380,cp2=https://192.168.56.12:2380"
    assert flags["initial-cluster-state"] == "existing"


async def test_a_component_that_does_not_get_healthy_takes_all_back_but_etcd(machine: Context) -> None:
    before = texts()
    kubelet = Kubelet(Path(config.MANIFESTS_DIR), broken="kube-controller-manager")
    with pytest.raises(
        PhaseError, match="kubeadm has tried to recover everything into the earlier state. .*kube-controller-manager did not become healthy"
    ):
        await static_pods.upgrade(run_of(machine, kubelet, timeout_s=0.05))
    after = texts()
    assert {name for name in COMPONENTS if after[name] != before[name]} == {"etcd"}


async def test_an_etcd_that_does_not_get_healthy_goes_back_and_its_data_stays(machine: Context) -> None:
    before = texts()
    with pytest.raises(PhaseError, match="etcd did not become healthy"):
        await static_pods.upgrade(run_of(machine, Kubelet(Path(config.MANIFESTS_DIR), broken="etcd"), timeout_s=0.05))
    assert texts() == before
    assert (Path(machine.cluster.etcd_data_dir) / "db").read_text() == "revision 7"


async def test_a_killed_upgrade_goes_on_with_what_is_left(machine: Context) -> None:
    first = Kubelet(Path(config.MANIFESTS_DIR))
    await static_pods.upgrade(run_of(machine, first))
    # As if the first run had been killed before the scheduler: that one is old again.
    machine.cluster = replace(machine.cluster, kubernetes_version="v1.33.0")
    control_plane.run(machine, ["scheduler"])
    leftover = Path(config.KUBERNETES_DIR) / "tmp" / "kubeadm-upgraded-manifests2026-01-01-00-00-00"
    leftover.mkdir(parents=True)
    second = Kubelet(Path(config.MANIFESTS_DIR))
    run = run_of(machine, second)
    run.stamp = "2026-01-02-00-00-00"
    await static_pods.upgrade(run)
    assert second.order == ["kube-scheduler"]
    assert [path.name for path in run.backup.iterdir()] == ["kube-scheduler.yaml"]
    assert not leftover.exists()


async def test_etcd_is_left_alone_when_asked(machine: Context) -> None:
    before = texts()["etcd"]
    run = run_of(machine, Kubelet(Path(config.MANIFESTS_DIR)))
    run.with_etcd = False
    await static_pods.upgrade(run)
    assert texts()["etcd"] == before


def edit_etcd(old: str, new: str) -> None:
    path = static_pods.manifest_path("etcd")
    path.write_text(path.read_text().replace(old, new))


async def test_a_restored_data_directory_is_kept(machine: Context) -> None:
    first = machine.cluster.etcd_data_dir
    restored = Path(first).with_name("etcd-from-backup")
    restored.mkdir()
    (restored / "db").write_text("revision 3")
    # As the guides say it: the hostPath of the volume is changed, the path inside stays.
    edit_etcd(f"path: {first}\n", f"path: {restored}\n")
    assert static_pods.etcd_data_path() == restored
    run = run_of(machine, Kubelet(Path(config.MANIFESTS_DIR)))
    await static_pods.upgrade(run)
    assert static_pods.etcd_data_path() == restored
    assert static_pods.flags_of("etcd")["data-dir"] == first
    assert (run.etcd_backup / "etcd" / "db").read_text() == "revision 3"


async def test_etcd_of_the_same_version_is_not_restarted_for_an_edit(machine: Context) -> None:
    edit_etcd("--snapshot-count=10000", "--snapshot-count=500")
    kubelet = Kubelet(Path(config.MANIFESTS_DIR))
    await static_pods.upgrade(run_of(machine, kubelet, "v1.33.1"))
    assert kubelet.order == ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]


def test_a_manifest_with_a_typo_is_named(machine: Context) -> None:
    edit_etcd("containers:", "container:")
    with pytest.raises(PhaseError, match="failed to read the static Pod manifest .*etcd.yaml"):
        static_pods.flags_of("etcd")


async def test_nothing_is_touched_when_another_etcd_member_is_away(machine: Context) -> None:
    async def away() -> None:
        raise TimeoutError("etcd cluster is not healthy: https://192.168.56.12:2379 (no answer)")

    before, kubelet = texts(), Kubelet(Path(config.MANIFESTS_DIR))
    run = run_of(machine, kubelet)
    run.check_etcd = away
    with pytest.raises(PhaseError, match="etcd cluster is not healthy"):
        await static_pods.upgrade(run)
    assert texts() == before
    assert not run.backup.exists()
