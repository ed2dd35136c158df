"""The documents of the checkout as sessions: what a reader would type in each, and what the document says it prints.

Commands are the lines that begin with `$ ` in blocks marked `console` (`> ` continues one); what follows up to the next one is output. A number stands for any number, … for any text,
and every line that is shown must be printed, in this order; more may be.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "=== end of command"


@dataclass
class Step:
    command: str
    output: list[str] = field(default_factory=list)


def documents() -> list[str]:
    """Every document, by its path in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return sorted(listed.stdout.split())


def blocks(document: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block."""
    for found in _BLOCK.finditer((ROOT / document).read_text()):
        yield found[1], found[2]


def steps(document: str) -> list[Step]:
    found: list[Step] = []
    for language, text in blocks(document):
        if language != "console":
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            elif line.startswith("> "):
                found[-1].command += "\n" + line[2:]
            elif line.strip():
                found[-1].output.append(line)
    return found


def _pattern(line: str) -> re.Pattern[str]:
    parts = re.split(r"(\d+|\s+|…)", line.strip())
    stands_for = {"…": ".*"}
    return re.compile("".join(r"\d+" if part.isdigit() else r"\s+" if part.isspace() else stands_for.get(part, re.escape(part)) for part in parts))


def missing_line(step: Step, printed: str) -> str:
    """The first line the document shows and the command did not print; the empty string when there is none."""
    lines = iter(printed.splitlines())
    for expected in step.output:
        pattern = _pattern(expected)
        if not any(pattern.search(line) for line in lines):
            return expected
    return ""


class Session:
    """One bash at the top of the checkout, given one command after another."""

    def __init__(self, environment: Mapping[str, str], prefix: tuple[str, ...] = ()) -> None:
        self._bash = subprocess.Popen(
            [*prefix, "bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environment),
            cwd=ROOT,
        )

    def run(self, command: str) -> tuple[int, str]:
        """Its exit code and what it printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{\n{command}\n}} </dev/null 2>&1\ncode=$?; echo; echo '{END}' $code\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(END):
                return int(line.removeprefix(END)), "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell ended in: {command}\n{''.join(printed)}")

    def close(self) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.stdout.close()
        self._bash.kill()
        self._bash.wait()
