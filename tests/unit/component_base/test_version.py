"""Which release a program runs as: the image's tag, else the machine's package, else what the machine was made with."""

from pathlib import Path

import pytest

from kubette.api import releases
from kubette.component_base import version


def test_a_program_is_of_its_package_and_stays_so(tmp_path: Path) -> None:
    (tmp_path / "default").write_text("v1.30.0\n")
    (tmp_path / "kubelet").write_text("v1.31.0\n")
    assert version.installed("kubelet", str(tmp_path)) == "v1.31.0"
    assert version.installed("kube-scheduler", str(tmp_path)) == "v1.30.0"
    (tmp_path / "kubelet").write_text("v1.32.0\n")
    assert version.installed("kubelet", str(tmp_path)) == "v1.31.0"  # what runs is not replaced by an installation


def test_the_image_tag_decides_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(version.VARIABLE, "v1.33.1")
    assert version.git_version() == "v1.33.1"


def test_without_either_it_is_the_newest_release(tmp_path: Path) -> None:
    assert version.installed("kubelet", str(tmp_path / "nothing")) == version.DEFAULT_VERSION == str(releases.latest())
