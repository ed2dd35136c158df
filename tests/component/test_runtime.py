"""The real runtime under the real init, in namespaces made for it: one machine, and one test for each scenario of `runtime_scenarios`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import component.runtime_scenarios as scenarios

UNIT = """[Unit]
Description=Scenarios of the runtime's test
[Service]
ExecStart=/bin/sh -c '{python} {script} {results}; kill -s RTMIN+4 1'
StandardOutput=file:{log}
KillMode=process
"""
# The machine's own /etc/systemd, /run and /var are fresh: everything the runtime writes is gone with the namespaces.
BOOT = """
set -e
mount --make-rprivate /
for directory in /run /var/lib/containerd /var/lib/cni /var/log /etc/cni /etc/systemd; do mkdir -p $directory; mount -t tmpfs none $directory; done
mkdir -p /etc/systemd/system/multi-user.target.wants
mount -t proc proc /proc
ip link set lo up
cp {unit} /etc/systemd/system/scenarios.service
ln -s ../scenarios.service /etc/systemd/system/multi-user.target.wants/
exec {init}
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What came of each scenario: nothing, or a traceback."""
    place = tmp_path_factory.mktemp("runtime")
    unit, results, log = place / "unit", place / "results", place / "log"
    unit.write_text(UNIT.format(python=sys.executable, script=scenarios.__file__, results=results, log=log))
    boot = BOOT.format(unit=unit, init=Path(sys.executable).with_name("kubette-init"))
    flags = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(["unshare", *flags, "sh", "-c", boot], capture_output=True, text=True, timeout=240, check=False)
    assert results.exists(), f"the machine ended early ({done.returncode}):\n{done.stdout}{done.stderr}"
    found: dict[str, str] = json.loads(results.read_text())
    assert "start" not in found, found["start"]
    return found


@pytest.mark.root  # it mounts over /run and /var/log in its own namespace
@pytest.mark.slow
@pytest.mark.needs("unshare", "ip", "curl")
@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_runtime(outcome: dict[str, str], name: str) -> None:
    assert outcome[name] == "", outcome[name]
