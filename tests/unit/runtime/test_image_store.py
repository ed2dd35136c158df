"""What the catalogue has can be pulled, listed and removed; what it does not have fails as upstream's pull does."""

from pathlib import Path

import pytest

from kubette.runtime import image_catalogue, images
from kubette.runtime.errors import CriError


def _store(path: Path, *programs: str) -> images.Images:
    return images.Images(path / "images.json", image_catalogue.entries(image_catalogue.Host(has=lambda name: name in programs)))


def test_an_image_is_here_after_its_pull_and_after_a_restart_and_gone_after_its_removal(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert store.find("nginx") is None
    pulled = store.pull("nginx")
    again = _store(tmp_path)
    for name in ("nginx", "docker.io/library/nginx:latest", pulled.id, pulled.id.removeprefix("sha256:")[:13], pulled.name_by_digest):
        assert again.find(name) == pulled
    again.remove(pulled.id)
    assert again.find("nginx") is None


def test_a_kubernetes_program_learns_its_release_from_the_tag(tmp_path: Path) -> None:
    pulled = _store(tmp_path).pull("registry.k8s.io/kube-apiserver:v1.31.2")
    assert pulled.entry.environment(pulled.tag)["KUBETTE_KUBERNETES_VERSION"] == "v1.31.2"
    assert pulled.digest != _store(tmp_path).pull("registry.k8s.io/kube-apiserver:v1.31.3").digest
    etcd = _store(tmp_path).pull("registry.k8s.io/etcd:3.5.15-0")
    assert etcd.entry.environment(etcd.tag)["KUBETTE_ETCD_VERSION"] == "3.5.15-0"


@pytest.mark.parametrize("name", ["nosuch", "registry.k8s.io/kube-apiserver:latest", "nginx@sha256:" + "0" * 64])
def test_an_unknown_image_fails_in_containerds_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(CriError, match=r'failed to pull and unpack image ".*": failed to resolve reference ".*": .*: not found') as raised:
        _store(tmp_path).pull(name)
    assert raised.value.code == "NOT_FOUND"


def test_a_stand_in_is_named_as_one_and_gives_way_to_the_real_program(tmp_path: Path) -> None:
    assert "stand-in" in _store(tmp_path).pull("nginx").message().spec.annotations[image_catalogue.ANNOTATION]
    real = _store(tmp_path, "nginx").pull("nginx")
    assert "the machine's nginx" in real.message().spec.annotations[image_catalogue.ANNOTATION]
    assert real.entry.programs == ()
