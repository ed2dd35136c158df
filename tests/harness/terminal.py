"""A program on a terminal of its own, typed at as a user would: keys in, the screen's text out."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

WAIT_S = 60.0
ROWS, COLUMNS = 50, 200
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78cM])")


class Terminal:
    """A context manager: the program and all it started are gone when it is left."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], cwd: Path) -> None:
        self._fd, slave = pty.openpty()
        termios.tcsetwinsize(self._fd, (ROWS, COLUMNS))
        # A session whose terminal this is: shells control jobs.
        command = ["setsid", "--ctty", *command]
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=dict(variables), cwd=cwd)
        os.close(slave)
        self._raw = ""
        self._seen = 0  # what was waited for already

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._fd)

    @property
    def screen(self) -> str:
        """All that was ever written, without colours and cursor movements."""
        return _ESCAPES.sub("", self._raw)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_for(self, text: str) -> None:
        """Until the text is written, after what was waited for before."""
        end = time.monotonic() + WAIT_S
        while (at := self.screen.find(text, self._seen)) < 0:
            readable, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"no {text!r} in:\n{self.screen}"
            try:
                self._raw += os.read(self._fd, 65536).decode("utf-8", "replace")
            except OSError:  # nobody has it open any more
                raise AssertionError(f"ended without {text!r}:\n{self.screen}") from None
        self._seen = at + len(text)


def on_terminal(command: Sequence[str], environment: Mapping[str, str], typed: str, timeout_s: float = WAIT_S) -> tuple[int, str]:
    """A program with all keys typed at once, to its end: the exit code and all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], list(command), dict(environment))
    shown, deadline = b"", time.monotonic() + timeout_s
    try:
        os.write(terminal, typed.encode())
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            shown += data
        else:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"still running after {timeout_s:.0f} s; shown: {shown!r}")
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")
