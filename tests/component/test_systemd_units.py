"""The real systemd's opinion of the unit files in `systemd/`, by `systemd-analyze verify`, in a root directory where the programs they start exist."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import judges

UNITS = Path(__file__).parents[2] / "systemd"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "containerd")
VENDOR = Path("/usr/lib/systemd/system")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """systemd's own units, and a program for each name."""
    shutil.copytree(VENDOR, tmp_path / VENDOR.relative_to("/"), symlinks=True)
    for folder in ("usr/bin", "usr/local/bin"):
        (tmp_path / folder).mkdir(parents=True)
        for program in PROGRAMS:
            (tmp_path / folder / program).write_text("#!/bin/sh\n")
            (tmp_path / folder / program).chmod(0o755)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    return tmp_path


def verify(root: Path, units: list[Path]) -> str:
    """What systemd-analyze has to say; nothing when all is well."""
    installed = root / "etc/systemd/system"
    for unit in units:
        shutil.copy(unit, installed)
        if unit.with_name(f"{unit.name}.d").is_dir():
            shutil.copytree(unit.with_name(f"{unit.name}.d"), installed / f"{unit.name}.d")
    command = [judges.find("systemd-analyze") or "systemd-analyze", "verify", "--man=no", f"--root={root}"]
    done = subprocess.run([*command, *(str(installed / unit.name) for unit in units)], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit code {done.returncode}")


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(("folder", "count"), [("", 2), ("hard-way", 7), ("external-etcd", 1)])
def test_systemd_accepts_every_unit(root: Path, folder: str, count: int) -> None:
    units = [*(UNITS / folder).glob("*.service"), *([UNITS / "containerd.service"] if folder == "hard-way" else [])]
    assert len(units) == count
    assert verify(root, sorted(units)) == ""


@pytest.mark.needs("systemd-analyze")
def test_the_judge_would_object(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.service").write_text("[Service]\nExecStart=/usr/bin/nothing-of-the-kind\nRestratSec=5\n")
    said = verify(root, [tmp_path / "bad.service"])
    assert "nothing-of-the-kind is not executable" in said
    assert "Unknown key 'RestratSec'" in said
