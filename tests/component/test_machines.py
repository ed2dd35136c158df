"""Machines as the kernel makes them: a real supervisor, real namespaces, a switch, and the door. PID 1 is a placeholder (init has tests of its own)."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubette.cli import down
from kubette.machines import cgroups, client, layout, namespaces, processes, spec

pytestmark = pytest.mark.slow

SERVER = "import socket; s = socket.create_server(('', 8080)); print('up', flush=True); c, _ = s.accept(); c.sendall(b'from node01'); c.close()"


def launched(place: layout.Layout) -> None:
    """Start the supervisor from a process of its own, as the command line does: forked from the tests it would inherit their gRPC threads' locks."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from kubette.machines import launch, layout;"
        "place = layout.Layout(Path(sys.argv[1])); launch.start(place, place.load(), None, init='harness.placeholder_init:main')"
    )
    subprocess.run([sys.executable, "-c", program, str(place.root), str(Path(__file__).parents[1])], check=True, timeout=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[layout.Layout]:
    refusal = namespaces.probe()
    if refusal:
        pytest.fail(refusal) if os.environ.get("CI") else pytest.skip(refusal)
    # A long path on purpose: a socket's name has only 108 bytes.
    root = tmp_path_factory.mktemp("home") / ("long" * 25) / "test"
    root.mkdir(parents=True)
    place = layout.Layout(root)
    cluster = spec.plan("test", 1, 1, "v1.37.0")
    place.save(cluster)
    launched(place)
    with client.Control(place) as control:
        for machine in cluster.machines:
            control.call("StartMachine", name=machine.name)
    yield place
    down.stop(place, timeout_s=1.0)
    down.purge(place)
    assert not root.exists()


def pid_of(place: layout.Layout, machine: str) -> int:
    with client.Control(place) as control:
        pid: int = control.machine(machine)["pid"]
    return pid


def switch(place: layout.Layout, method: str, machine: str) -> dict[str, object]:
    with client.Control(place) as control:
        answer: dict[str, object] = control.call(method, name=machine)
    return answer


def enter(place: layout.Layout, machine: str, *command: str) -> subprocess.Popen[str]:
    program = "import sys; from kubette.machines import enter; sys.exit(enter.run(int(sys.argv[1]), sys.argv[2:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(pid_of(place, machine)), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ssh(place: layout.Layout, machine: str, *command: str) -> tuple[int, str]:
    process = enter(place, machine, *command)
    output, _ = process.communicate(timeout=30)
    return process.returncode, output.strip()


def test_a_machine_has_its_own_name_processes_files_and_network(place: layout.Layout) -> None:
    assert ssh(place, "node01", "hostname") == (0, "node01")
    code, processes_seen = ssh(place, "node01", "ps", "-eo", "pid=,args=")
    assert code == 0
    assert [line.split(None, 1)[1] for line in processes_seen.splitlines()] == ["/sbin/init", "ps -eo pid=,args="]
    assert "controlplane" in ssh(place, "node01", "cat", "/etc/hosts")[1]
    assert "192.168.56.12" in ssh(place, "node01", "cat", "/proc/net/fib_trie")[1]
    assert ssh(place, "node01", "echo $HOME $USER; touch /etc/mine /usr/not-mine 2>/dev/null; ls /etc/mine")[1] == "/root root\n/etc/mine"
    assert ssh(place, "controlplane", "test -e /etc/mine")[0] == 1


def test_nothing_of_the_user_is_seen_on_a_machine(place: layout.Layout) -> None:
    assert ssh(place, "node01", "cat /root/.ssh/* /root/.kube/* /etc/ssl/private/* 2>/dev/null | wc -c")[1] == "0"
    shadow = ssh(place, "node01", "cat", "/etc/shadow")[1]
    assert all(line.split(":")[1] == "*" for line in shadow.splitlines())


def test_our_programs_come_before_the_host_s(place: layout.Layout) -> None:
    for program in ("kubelet", "kubeadm", "systemctl", "service", "kubectl", "etcd"):
        code, path = ssh(place, "node01", f"readlink -f $(command -v {program})")
        assert code == 0
        assert Path(path).parent == Path(sys.executable).parent
    assert ssh(place, "node01", "command -v kubette")[0] != 0


def test_the_exit_status_of_a_command_is_passed_on(place: layout.Layout) -> None:
    assert ssh(place, "node01", "exit 42")[0] == 42
    assert ssh(place, "node01", "kill -TERM $$")[0] == 128 + 15
    assert ssh(place, "node01", "no-such-program", "at all") == (127, "no-such-program: command not found")


def test_machines_reach_each_other_by_name(place: layout.Layout) -> None:
    server = enter(place, "node01", "/usr/bin/env", "python3", "-c", SERVER)
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    answer = ssh(place, "controlplane", "python3", "-c", "import socket; print(socket.create_connection(('node01', 8080)).recv(99).decode())")
    server.communicate(timeout=30)
    assert answer == (0, "from node01")


def test_a_service_that_no_rules_know_is_refused_every_time(place: layout.Layout) -> None:
    """Silence would outlast the moment: a connection begun before kube-proxy's rules is never rewritten."""
    script = (
        "import socket\nfor _ in range(8):\n s = socket.socket(); s.settimeout(3)\n"
        " try: s.connect(('10.96.0.1', 443))\n except OSError as error: print(type(error).__name__)"
    )
    assert ssh(place, "node01", "python3", "-c", script) == (0, "\n".join(["ConnectionRefusedError"] * 8))


def test_a_killed_machine_is_off_with_all_in_it_and_its_files_survive(place: layout.Layout) -> None:
    ssh(place, "node01", "echo kept > /var/lib/kept; echo gone > /tmp/gone; (setsid sleep 1000 >/dev/null 2>&1 &)")
    inside = processes.of_machine(pid_of(place, "node01"))
    assert len(inside) == 2
    assert switch(place, "KillMachine", "node01")["reason"] == "killed"
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)
    with pytest.raises(client.ControlError, match='cannot stop machine "node01": it is off'):
        switch(place, "StopMachine", "node01")
    assert switch(place, "StartMachine", "node01")["state"] == "running"
    assert ssh(place, "node01", "cat /var/lib/kept; ls /tmp/gone 2>/dev/null || echo fresh") == (0, "kept\nfresh")


def test_a_machine_reboots_and_powers_off_from_inside(place: layout.Layout) -> None:
    before = pid_of(place, "node01")
    assert switch(place, "RebootMachine", "node01")["pid"] != before
    pidfd = os.pidfd_open(pid_of(place, "node01"))
    ssh(place, "node01", "kill -TERM 1")
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)
    with client.Control(place) as control:
        assert control.machine("node01")["reason"] == "powered off"
    switch(place, "StartMachine", "node01")


def test_a_paused_machine_stands_still_and_goes_on(place: layout.Layout) -> None:
    ticker = enter(place, "node01", "while :; do echo tick; sleep 0.01; done")
    assert ticker.stdout is not None
    assert ticker.stdout.readline() == "tick\n"
    switch(place, "PauseMachine", "node01")
    os.set_blocking(ticker.stdout.fileno(), False)
    while select.select([ticker.stdout], [], [], 0.3)[0] and os.read(ticker.stdout.fileno(), 1 << 16):
        pass  # what was said before the pause; then nothing for thirty ticks
    switch(place, "ResumeMachine", "node01")
    assert select.select([ticker.stdout], [], [], 10)[0]
    ticker.terminate()
    ticker.communicate(timeout=30)


def test_a_killed_supervisor_takes_its_machines_along_and_down_cleans_up(tmp_path: Path) -> None:
    if refusal := namespaces.probe():
        pytest.skip(refusal)
    place = layout.Layout(tmp_path / "lost")
    place.root.mkdir()
    cluster = spec.plan("lost", 1, 0, "v1.37.0")
    place.save(cluster)
    launched(place)
    switch(place, "StartMachine", "controlplane")
    with client.Control(place) as control:
        status = control.status()
    fds = [os.pidfd_open(pid) for pid in (status["pid"], status["machines"][0]["pid"], status["gateway"]["pid"])]
    os.kill(status["pid"], 9)
    for fd in fds:
        assert select.select([fd], [], [], 10)[0]
        os.close(fd)
    assert not place.is_running()
    assert down.stop(place) is False
    assert not place.control_socket.exists()
    base = cgroups.hierarchy()
    assert base is None or not list(base.glob(f"**/kubette-lost-{status['pid']}"))
    down.purge(place)
