"""A machine's packages: the stories of testdata/*.story are sessions at its shell, output included (the texts were compared with apt 2.6 and a repository)."""

import contextlib
import io
import itertools
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kubette.component_base import version
from kubette.machines.packages import apt, debian_version, fetch, new_machine, repository
from kubette.machines.packages.database import Database

HOLD_LOCK = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
STORIES = sorted((Path(__file__).parent / "testdata").glob("*.story"))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A new machine of v1.30.0."""
    for path, (text, _) in new_machine.files("v1.30.0", "amd64").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def run(machine: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints (both streams), and its exit status when it is not 0. `cat`, `rm` and `echo > FILE` act on the machine's files; `<<< TEXT` is typed."""
    command, _, answer = line.partition(" <<< ")
    words = shlex.split(command)
    if words[0] == "cat":
        return "".join((machine / path.lstrip("/")).read_text() for path in words[1:])
    if words[0] == "rm":
        (machine / words[1].lstrip("/")).unlink()
        return ""
    if words[0] == "echo":  # echo TEXT > FILE
        (machine / words[3].lstrip("/")).write_text(words[1] + "\n")
        return ""
    output = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(answer + "\n" if answer else ""))
    monkeypatch.setattr("kubette.machines.packages.apt.shutil.which", lambda name: f"/usr/bin/{name}" if name == "curl" else None)  # the host's
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = apt.main(words[0], words[1:], machine)
    return output.getvalue() + (f"[exit status {code}]\n" if code else "")


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubette.machines.packages.apt.os.uname", lambda: type("uname", (), {"machine": "x86_64"}))  # the story's list is of amd64
    monkeypatch.setattr(fetch, "SYSTEM_CLOCK", type("clock", (), {"monotonic": staticmethod(lambda: 0.0)}))
    told = [line for line in story.read_text().splitlines() if line.startswith("$ ")]
    heading = story.read_text().partition("$ ")[0]
    happened = heading + "".join(f"{line}\n{run(machine, line[2:], monkeypatch)}" for line in told)
    assert happened == story.read_text()


def test_installed_packages_decide_which_release_a_program_runs_as(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(machine / version.RELEASES_DIRECTORY.lstrip("/"))
    run(machine, "echo 'deb [trusted=yes] https://pkgs.k8s.io/core:/prerelease:/v1.31/deb/ /' > /etc/apt/sources.list.d/kubernetes.list", monkeypatch)
    run(machine, "apt-get update", monkeypatch)
    assert run(machine, "apt-get install -qq kubelet=1.31.0~beta.0-1.1", monkeypatch).endswith("Setting up kubelet (1.31.0~beta.0-1.1) ...\n")
    installed = {name: version.installed(name, folder) for name in ("kubelet", "kubeadm", "kube-proxy")}
    assert installed == {"kubelet": "v1.31.0-beta.0", "kubeadm": "v1.30.0", "kube-proxy": "v1.30.0"}
    assert repository.RELEASES_DIRECTORY == version.RELEASES_DIRECTORY


def test_one_process_at_a_time_changes_packages(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A POSIX lock is a process's own: the other one has to be another process.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, machine / "var/lib/dpkg/lock-frontend"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        said = run(machine, "apt-get install -y kubeadm=1.30.6-1.1", monkeypatch)
        holder.communicate(b"\n")
    assert f"E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process {holder.pid}\n" in said
    assert run(machine, "apt-get install -y kubeadm=1.30.6-1.1", monkeypatch).endswith("Setting up kubeadm (1.30.6-1.1) ...\n")


def test_an_installation_that_was_interrupted_is_mended_by_the_next(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Database, "_write_status", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(machine, "apt-get install -y kubeadm=1.30.6-1.1", monkeypatch).endswith("[exit status 130]\n")
    assert "kubeadm/unknown,now 1.30.0-1.1 amd64" in run(machine, "apt list -a kubeadm", monkeypatch)
    assert "Setting up kubeadm (1.30.6-1.1)" in run(machine, "apt-get install -y kubeadm=1.30.6-1.1", monkeypatch)


def test_versions_are_in_debians_order() -> None:
    ascending = ["1.30.14-1.1", "1.31.0~alpha.1-1.1", "1.31.0~rc.1-1.1", "1.31.0-1.1", "1.31.0-2.1", "1.31.2-1.1", "1.31.10-1.1", "1:0.1"]
    assert sorted({*ascending}, key=debian_version.key) == ascending
    if shutil.which("dpkg"):
        for older, newer in itertools.pairwise(ascending):
            assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer]).returncode == 0


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (9999, "9999 B"), (17000, "17.0 kB"), (99_950, "100.0 kB"), (123_456, "123 kB"), (12_345_678, "12.3 MB")]
)
def test_sizes_are_written_as_apt_writes_them(number: int, text: str) -> None:
    assert fetch.size(number) == text
