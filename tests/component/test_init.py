"""The real PID 1 in namespaces of its own, driven over its control socket and by the real commands."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubette.component_base import init_client
from kubette.init import bus

_SETUP = """
mount -t tmpfs tmpfs /run
mount --bind {root}/units /etc/systemd/system
mount --bind {root}/log /var/log
hostname testbox
exec {python} -m kubette.init
"""
_CAN_UNSHARE = (
    shutil.which("unshare") and subprocess.run(["unshare", "-r", "-m", "-p", "-f", "true"], check=False, capture_output=True).returncode == 0
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not _CAN_UNSHARE, reason="no user namespaces here")]

# Forks twice and is gone, as a container launcher does; its grandchild leads a session of its own and has lost its environment.
_LAUNCHER = r"""
import os, sys
pid_file, *command = sys.argv[1:]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvpe(command[0], command, {"PATH": os.environ["PATH"]})
    os._exit(0)
os.wait()
"""


def eventually(check: Callable[[], Any], within_s: float = 10.0) -> Any:
    deadline = time.monotonic() + within_s
    while True:
        value = check()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.02)


class Box:
    """A machine reduced to its PID 1."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "units/multi-user.target.wants").mkdir(parents=True)
        (root / "log").mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def unit(self, name: str, text: str, wanted: bool = False) -> None:
        path = self.root / "units" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        if wanted:
            (self.root / "units/multi-user.target.wants" / name).symlink_to(f"/etc/systemd/system/{name}")

    def boot(self) -> None:
        script = _SETUP.format(root=self.root, python=sys.executable)
        environment = {**os.environ, "PYTHONPATH": str(Path(init_client.__file__).parents[2])}
        console = (self.root / "console").open("ab")
        unshare = ["unshare", "-r", "-m", "-p", "-u", "-f", "--mount-proc", "--kill-child", "sh", "-ec", script]
        self.process = subprocess.Popen(unshare, stdout=console, stderr=console, env=environment)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.pid = int(eventually(lambda: children.read_text().split() or None)[0])
        # `running` only once default.target is reached: the socket is there before.
        assert eventually(lambda: self.state() in ("running", "degraded")), (self.root / "console").read_text()

    def state(self) -> str:
        try:
            return str(self.call("GetSystemState")["SystemState"])
        except bus.NotBooted:
            return ""

    @property
    def socket(self) -> str:
        return f"/proc/{self.pid}/root{init_client.SOCKET_PATH}"

    def call(self, method: str, **params: Any) -> Any:
        return bus.Bus(self.socket).call(method, **params)

    def get(self, name: str) -> dict[str, Any]:
        unit: dict[str, Any] = self.call("GetUnit", name=name)
        return unit

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on the machine: `systemctl`, `journalctl`, `service` are ours, the rest is the host's."""
        ours = {"systemctl", "journalctl", "service"}
        command = [sys.executable, "-m", f"kubette.init.{words[0]}", *words[1:]] if words[0] in ours else list(words)
        environment = {**os.environ, "PYTHONPATH": str(Path(init_client.__file__).parents[2]), "TZ": "UTC"}
        inside = ["nsenter", "-t", str(self.pid), "-U", "-m", "-p", "-u", "--preserve-credentials"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, env=environment, check=False)

    def signal(self, number: int) -> int:
        """Signal PID 1 and wait for its end; answers its exit status."""
        assert self.process is not None
        os.kill(self.pid, number)
        return self.process.wait(timeout=10)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    machine = Box(tmp_path)
    yield machine
    machine.close()


def test_boot_starts_what_multi_user_wants_and_status_shows_it(box: Box) -> None:
    box.unit(
        "web.service",
        "[Unit]\nDescription=A web server\n[Service]\nExecStart=/bin/sh -c 'echo serving; exec sleep 100'\n[Install]\nWantedBy=multi-user.target\n",
        True,
    )
    box.unit("web.service.d/10-more.conf", "[Service]\nEnvironment=COLOUR=red\n")
    box.boot()
    assert eventually(lambda: "serving" in box.run("systemctl", "status", "web").stdout)
    text = box.run("systemctl", "status", "web").stdout
    assert "● web.service - A web server" in text
    assert "Loaded: loaded (/etc/systemd/system/web.service; enabled; preset: enabled)" in text
    assert "/etc/systemd/system/web.service.d\n             └─10-more.conf" in text
    assert "Active: active (running) since" in text
    assert "sleep 100" in text
    missing = box.run("systemctl", "start", "nope")
    assert (missing.returncode, missing.stderr) == (5, "Failed to start nope.service: Unit nope.service not found.\n")
    assert box.run("systemctl", "is-active", "web").stdout == "active\n"
    (box.root / "units/web.service").write_text("[Service]\nExecStart=/bin/sleep 200\n")
    assert "changed on disk. Run 'systemctl daemon-reload'" in box.run("systemctl", "status", "web").stderr
    box.run("systemctl", "daemon-reload")
    assert box.run("systemctl", "restart", "web").returncode == 0
    assert [entry["command"] for entry in box.get("web.service")["Processes"]] == ["/bin/sleep 200"]


def test_stop_kills_all_of_a_unit_even_what_forked_twice(box: Box) -> None:
    daemonize = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(1000)"
    script = f"{sys.executable} -c '{daemonize}'; sleep 1001 & exec sleep 1002".replace("\n", "\\n")
    box.unit("messy.service", f'[Service]\nExecStart=/bin/sh -c "{script}"\n')
    box.boot()
    box.call("StartUnit", name="messy.service")
    pids = eventually(lambda: (found := box.get("messy.service")["Processes"]) and len(found) == 3 and found)
    assert pids, box.get("messy.service")
    box.call("StopUnit", name="messy.service")
    left = box.run("ps", "-eo", "args").stdout
    assert "sleep" not in left
    unit = box.get("messy.service")
    assert (unit["ActiveState"], unit["Result"]) == ("inactive", "success")


def test_a_crash_is_restarted_until_the_start_limit(box: Box) -> None:
    box.unit("flaky.service", "[Unit]\nStartLimitBurst=3\n[Service]\nExecStart=/bin/false\nRestart=on-failure\nRestartSec=10ms\n")
    box.boot()
    box.call("StartUnit", name="flaky.service")
    assert eventually(lambda: box.get("flaky.service")["ActiveState"] == "failed")
    assert box.get("flaky.service")["Result"] == "start-limit-hit"
    log = box.run("journalctl", "-u", "flaky", "-o", "cat").stdout
    assert "flaky.service: Scheduled restart job, restart counter is at 2." in log
    assert "flaky.service: Start request repeated too quickly." in log
    again = box.run("systemctl", "start", "flaky")
    assert again.returncode == 1
    assert "start of the service was attempted too often" in again.stderr
    box.run("systemctl", "reset-failed", "flaky")
    assert box.run("systemctl", "start", "flaky").returncode == 0


def test_a_program_of_ours_is_forked_not_executed_and_looks_executed(box: Box) -> None:
    systemctl = Path(sys.executable).with_name("systemctl")
    # A program of ours that stays: the journal, followed.
    program = systemctl.with_name("journalctl")
    if not program.exists():
        pytest.skip("the package is not installed")
    box.unit("follow.service", f"[Service]\nExecStart={program} -f -n 0 -u other --no-pager\nEnvironment=COLOUR=red\n")
    box.boot()
    box.call("StartUnit", name="follow.service")
    pid = box.get("follow.service")["MainPID"]
    command = eventually(lambda: (text := box.run("cat", f"/proc/{pid}/cmdline").stdout) and "follow" not in text and "-f" in text and text)
    assert command.rstrip("\0").split("\0") == [str(program), "-f", "-n", "0", "-u", "other", "--no-pager"]
    assert "COLOUR=red" in box.run("cat", f"/proc/{pid}/environ").stdout.split("\0")
    assert box.run("cat", f"/proc/{pid}/comm").stdout == "journalctl\n"
    # A fork has its parent's memory layout (field 26, where the code begins); an executed interpreter has one of its own.
    assert box.run("cat", "/proc/1/stat").stdout.split()[25] == box.run("cat", f"/proc/{pid}/stat").stdout.split()[25]
    box.call("StopUnit", name="follow.service")
    assert box.get("follow.service")["ExecMainStatus"] in (0, 15)


async def test_a_container_unit_lives_without_its_launcher(box: Box, tmp_path: Path) -> None:
    """The runtime's whole use of init: transient, forking, CRI log, input, attach, exit status, reset."""
    launcher = tmp_path / "launcher.py"
    launcher.write_text(_LAUNCHER.replace("os.execvpe", 'open(pid_file, "w").write(str(os.getpid())); os.execvpe'))
    box.boot()
    name, log = "cri-" + "0" * 64 + ".scope", tmp_path / "log" / "0.log"
    properties = {
        "Description": "container web",
        "Type": "forking",
        "ExecStart": [sys.executable, str(launcher), str(tmp_path / "pid"), "sh", "-c", "echo ready $$; cat; echo oops >&2; exit 7"],
        "PIDFile": str(tmp_path / "pid"),
        "StandardInput": "pipe",
        "StandardOutput": f"cri:/var/log/{log.name}",
        "Slice": "kubepods.slice",
    }
    async with init_client.connect(box.socket) as init:
        unit = await init.call("StartTransientUnit", name=name, properties=properties)
        assert (unit["ActiveState"], unit["SubState"]) == ("active", "running")
        assert unit["MainPID"] == int((tmp_path / "pid").read_text())
        with pytest.raises(init_client.InitError, match="already loaded"):
            await init.call("StartTransientUnit", name=name, properties=properties)
        await init.call("Subscribe")
        log.rename(tmp_path / "log" / "0.log.old")
        await init.call("ReopenLog", name=name)
        async with init_client.attach(name, box.socket) as attachment:
            await attachment.write(b"through the pipe\n")
            await attachment.close_input()
            output = [chunk async for chunk in attachment.output()]
        assert b"".join(data for stream, data in output if stream == "stdout") == b"through the pipe\n"
        assert b"".join(data for stream, data in output if stream == "stderr") == b"oops\n"
        async for event, params in init.events():
            if event == "UnitChanged" and params["Id"] == name and params["ActiveState"] == "failed":
                break
        assert (params["ExecMainCode"], params["ExecMainStatus"], params["Result"]) == ("exited", 7, "exit-code")
        lines = [line.split(" ", 3)[1:] for line in log.read_text().splitlines()]
        assert lines == [["stdout", "F", "through the pipe"], ["stderr", "F", "oops"]]
        assert [unit["Id"] for unit in await init.call("ListUnits", patterns=["cri-*"])] == [name]
        await init.call("ResetFailedUnit", name=name)
        assert await init.call("ListUnits", patterns=["cri-*"]) == []


async def test_a_terminal_of_a_unit_is_held_by_init(box: Box) -> None:
    box.boot()
    properties = {"Type": "exec", "ExecStart": ["/bin/sh", "-c", "read line; stty size; tty -s && echo terminal $line"], "StandardInput": "pty"}
    async with init_client.connect(box.socket) as init:
        await init.call("StartTransientUnit", name="cri-tty.scope", properties=properties)
        async with init_client.attach("cri-tty.scope", box.socket) as attachment:
            await attachment.resize(100, 40)
            await attachment.write(b"here\n")
            seen = b"".join([data async for _, data in attachment.output()])
    assert b"40 100" in seen
    assert b"terminal here" in seen


def test_a_failed_launcher_fails_the_start_with_a_reason(box: Box) -> None:
    box.boot()
    properties = {"Type": "forking", "ExecStart": ["/bin/false"], "PIDFile": "/run/none.pid", "StandardOutput": "journal"}
    with pytest.raises(bus.BusError) as refused:
        box.call("StartTransientUnit", name="cri-1.scope", properties=properties)
    assert refused.value.name == "JobFailed"
    assert "control process exited with error code" in refused.value.message
    assert box.get("cri-1.scope")["ActiveState"] == "failed"


def test_notify_conditions_and_dependencies(box: Box) -> None:
    say = "import os,socket,sys,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b'READY=1\\\\nSTATUS=all is well', os.environ['NOTIFY_SOCKET']); time.sleep(100)"
    box.unit("said.service", f'[Service]\nType=notify\nExecStart={sys.executable} -c "{say}"\nExecStop=/bin/echo goodbye $MAINPID\n')
    box.unit("needs.service", "[Unit]\nRequires=broken.service\nAfter=broken.service\n[Service]\nExecStart=/bin/sleep 100\n")
    box.unit("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    box.unit("absent.service", "[Unit]\nConditionPathExists=/nowhere\n[Service]\nExecStart=/bin/sleep 100\n")
    box.boot()
    assert box.run("systemctl", "start", "said").returncode == 0
    unit = box.get("said.service")
    assert (unit["SubState"], unit["StatusText"]) == ("running", "all is well")
    box.run("systemctl", "stop", "said")
    assert f"goodbye {unit['MainPID']}" in box.run("journalctl", "-u", "said", "-o", "cat").stdout
    refused = box.run("systemctl", "start", "needs")
    assert (refused.returncode, refused.stderr) == (1, "A dependency job for needs.service failed. See 'journalctl -xe' for details.\n")
    assert box.run("systemctl", "start", "absent").returncode == 0
    assert box.get("absent.service")["ActiveState"] == "inactive"
    assert "unmet condition check (ConditionPathExists=/nowhere)" in box.run("journalctl", "-u", "absent", "-o", "cat").stdout


def test_enable_disable_and_mask(box: Box) -> None:
    box.unit("web.service", "[Service]\nExecStart=/bin/sleep 100\n[Install]\nWantedBy=multi-user.target\nAlias=www.service\n")
    box.boot()
    enabled = box.run("systemctl", "enable", "--now", "web")
    link = "/etc/systemd/system/multi-user.target.wants/web.service → /etc/systemd/system/web.service."
    assert f"Created symlink {link}" in enabled.stderr
    assert box.run("systemctl", "is-enabled", "web").stdout == "enabled\n"
    assert box.run("systemctl", "is-active", "www").stdout == "active\n"
    assert "Removed /etc/systemd/system/multi-user.target.wants/web.service." in box.run("systemctl", "disable", "--now", "web").stderr
    assert box.run("systemctl", "is-enabled", "web").returncode == 1
    assert box.run("service", "web", "status").returncode == 3
    assert box.run("systemctl", "mask", "other").returncode == 0
    assert "Unit other.service is masked." in box.run("systemctl", "start", "other").stderr


def test_the_journal_survives_a_reboot_and_shutdown_is_bounded(box: Box) -> None:
    box.unit("stubborn.service", "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; echo first life; while :; do sleep 1; done'\n", True)
    box.boot()
    assert eventually(lambda: "first life" in box.run("journalctl", "-u", "stubborn", "-o", "cat").stdout)
    assert box.signal(signal.SIGRTMIN + 5) == 133, "a reboot is asked for by the exit status"
    box.boot()
    assert len(box.run("journalctl", "--list-boots").stdout.splitlines()) == 3
    assert "first life" in box.run("journalctl", "-b", "-1", "-u", "stubborn", "-o", "cat").stdout
    record = json.loads(box.run("journalctl", "-n", "1", "-o", "json", "_TRANSPORT=stdout").stdout)
    assert record["_SYSTEMD_UNIT"] == "stubborn.service"
    assert box.run("systemctl", "poweroff").returncode == 0
    assert box.process is not None
    assert box.process.wait(timeout=10) == 0


def test_journalctl_follows_without_missing_a_line(box: Box) -> None:
    box.unit("ticker.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'for n in 1 2 3; do echo tick $n; done'\n")
    box.boot()
    environment = {**os.environ, "PYTHONPATH": str(Path(init_client.__file__).parents[2])}
    inside = ["nsenter", "-t", str(box.pid), "-U", "-m", "-p", "-u", "--preserve-credentials"]
    follow = [sys.executable, "-m", "kubette.init.journalctl", "-f", "-u", "ticker", "-o", "cat"]
    with subprocess.Popen([*inside, *follow], stdout=subprocess.PIPE, text=True, env=environment) as follower:
        assert follower.stdout is not None
        box.call("StartUnit", name="ticker.service")
        wanted = {"tick 1\n", "tick 2\n", "tick 3\n", "Finished ticker.service.\n"}
        while wanted:
            wanted.discard(follower.stdout.readline())
        box.close()  # the follower goes with its machine


@pytest.mark.needs("systemd-analyze")
def test_systemd_itself_accepts_our_unit_files() -> None:
    units = sorted((Path(init_client.__file__).parents[3] / "systemd").glob("*.service"))
    assert units
    result = subprocess.run(["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, check=False)
    # The programs are on machines only; every other complaint about our files counts.
    ours = [line for line in result.stderr.splitlines() if any(unit.name in line for unit in units)]
    assert [line for line in ours if "is not executable" not in line] == []


async def test_pid_1_survives_malformed_requests(box: Box) -> None:
    box.boot()
    reader, writer = await asyncio.open_unix_connection(box.socket)
    for line in (
        b"{",
        b"[]",
        b'{"id": 1}',
        b'{"id": 2, "method": "StartUnit", "params": {"name": "../../etc/passwd"}}',
        b'{"id": 3, "method": "Nonsense"}',
    ):
        writer.write(line + b"\n")
    names = [json.loads(await reader.readline())["error"]["name"] for _ in range(5)]
    assert sorted(set(names)) == ["org.freedesktop.DBus.Error.InvalidArgs", "org.freedesktop.DBus.Error.UnknownMethod"]
    writer.close()
    assert box.state() == "running"
