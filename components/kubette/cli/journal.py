"""A machine's journal, read from the host: it is the machine's own files that `journalctl -D` shows, whether the machine has power or not."""

import subprocess
from pathlib import Path

from kubette.machines import interpreter

READ_TIMEOUT_S = 30.0


def command(root: Path, unit: str = "", lines: int = 0, follow: bool = False) -> list[str]:
    """The command line for the machine whose root is `root`; `lines` 0 means all."""
    words = [str(interpreter.scripts() / "journalctl"), "--no-pager", "-D", str(root / "var/log/journal")]
    words += ["-u", unit] if unit else []
    words += ["-f"] if follow else []
    words += ["-n", str(lines)] if lines > 0 else []
    return words


def tail(root: Path, unit: str, lines: int = 20) -> list[str]:
    """The last lines of a unit, as far as they can be read."""
    try:
        done = subprocess.run(command(root, unit, lines), capture_output=True, text=True, timeout=READ_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()[-lines:]
