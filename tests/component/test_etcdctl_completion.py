"""`completion SHELL`: the scripts at work, in the shells themselves, on a terminal; and the answers that they live on, beside the real etcdctl's.

The scripts are our own, not the text of cobra's: what is compared is what they do. PowerShell is in no Debian release, so that of its script only
the calls are looked at.
"""

import os
import sys
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness import judges
from harness.etcd_processes import OURS, REAL
from harness.terminal import Terminal

pytestmark = pytest.mark.slow

PROMPT = "READY> "
# How a shell is started without anybody's settings, and how the help of the command says that its completion is loaded.
SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], ["source <(PROGRAM completion bash)"]),
    "zsh": (["-f", "-i"], ["autoload -U compinit; compinit -u -D", "source <(PROGRAM completion zsh); compdef _PROGRAM PROGRAM"]),
    "fish": (["--no-config", "-i", "-C", f"function fish_prompt; echo -n '{PROMPT}'; end"], ["PROGRAM completion fish | source"]),
}


@pytest.mark.parametrize("shell", [pytest.param(name, marks=pytest.mark.needs(name)) for name in SHELLS])
@pytest.mark.parametrize("program", ["etcdctl", "etcdutl"])
def test_a_shell_completes_commands_flags_and_files(program: str, shell: str, tmp_path: Path) -> None:
    (tmp_path / "some-folder").mkdir()
    arguments, loading = SHELLS[shell]
    found = judges.find(shell)
    assert found is not None
    variables = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path), "PS1": PROMPT, "TERM": "xterm"}
    with Terminal([found, *arguments], variables, tmp_path) as terminal:
        terminal.wait_for(PROMPT)
        for line in loading:
            terminal.type(line.replace("PROGRAM", program) + "\n")
            terminal.wait_for(PROMPT)
        # One candidate is put in: what runs is the whole word.
        terminal.type(f"{program} versi\t\n")
        terminal.wait_for("API version: ")
        terminal.wait_for(PROMPT)
        # A subcommand, then a flag of it.
        terminal.type(f"{program} snapshot rest\t --skip-\t --hel\t\n")
        terminal.wait_for("Restores an etcd member snapshot to an etcd directory")
        terminal.wait_for(PROMPT)
        # Several are listed with what they are for.
        terminal.type(f"{program} snapshot \t\t")
        terminal.wait_for("Gets backend snapshot status of a given file")
        terminal.type("\x15")  # the line away
        # Where no word is expected, files are.
        terminal.type(f"{program} snapshot status some-fo\t\n")
        terminal.wait_for("open some-folder")


def _ask(kind: str, *words: str) -> tuple[int, list[str], str]:
    done = etcd.run(kind, list(words))
    return done.code, done.stdout.splitlines(), done.stderr


# Words typed; a bar between them, one at the end for a word that is not begun yet.
QUESTIONS = (
    *("|", "e", "end", "h", "nonsense|", "endpoint|", "en|", "endpoint|x|", "endpoint|hea|--", "snapshot|res", "snapshot|restore|"),
    *("get|--p", "put|--", "get|-", "get|x|-", "--", "--w", "-w", "-w|", "get|-w|j", "get|-wj", "get|-w=", "get|--prefix|--", "get|foo|"),
    *("endpoint|hashkv|--", "user|add|--", "elect|-", "--endpoints|", "get|--endpoints=", "--endpoints|x|--endp", "--endpoints|a|e"),
    *("--endpoints|a|nonsense|", "--debug|", "--debug=t", "get|--nonsense|", "get|--nonsense=", "get|--prefix=x|", "get|-h|", "--help|"),
    *("get|a|--|--", "--|get|", "watch|--|a|--", "completion|", "completion|b", "completion|bash|", "completion|bash|--"),
    *("help|", "help|comp", "help|completion|", "help|nonsense|"),
)


@pytest.mark.needs("etcdctl")
@pytest.mark.parametrize("typed", QUESTIONS)
def test_the_answers_to_the_scripts_are_the_real_ones(typed: str) -> None:
    words = typed.split("|") if typed != "|" else [""]
    assert _ask(OURS, "__complete", *words) == _ask(REAL, "__complete", *words)
    assert _ask(OURS, "__completeNoDesc", *words) == _ask(REAL, "__completeNoDesc", *words)


@pytest.mark.parametrize("shell", ["bash", "fish", "powershell", "zsh"])
def test_every_script_asks_the_program_with_or_without_descriptions(shell: str) -> None:
    for flag, question in (([], "__complete"), (["--no-descriptions"], "__completeNoDesc")):
        for name in ("etcdctl", "etcdutl"):
            script = etcd.run(OURS, ["completion", shell, *flag], name=name).stdout
            assert f" {question} " in script
            assert name in script
            assert "@NAME@" not in script
