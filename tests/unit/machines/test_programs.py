"""The programs of a machine: apt's commands are laid over the host's, and sudo runs commands as the root that one is."""

import os
import subprocess
from pathlib import Path

import pytest

from kubette.machines import programs


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("layer")
    programs.write_layer(target)
    return target


def sudo(layer: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([layer / "usr/bin/sudo", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_layer_has_the_package_commands_and_they_answer(layer: Path) -> None:
    for name in ("apt", "apt-get", "apt-cache", "apt-mark"):
        assert os.access(layer / "usr/bin" / name, os.X_OK)
    done = subprocess.run([layer / "usr/bin/apt-mark", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: apt-mark [options] command [package ...]")


def test_the_package_commands_are_no_console_scripts() -> None:
    # An activated virtual environment would hide the host's own apt.
    assert not {*programs.PACKAGE_COMMANDS, "sudo"} & programs.console_scripts().keys()


@pytest.mark.parametrize(
    ("words", "code", "output", "error"),
    [
        (("echo", "-n", "a b"), 0, "a b", ""),
        (("-E", "FOO=1 2", "sh", "-c", 'echo "$FOO"'), 0, "1 2\n", ""),
        (("-s", "echo x; exit 3"), 3, "x\n", ""),
        (("-u", "root", "--", "printf", "%s", "-u"), 0, "-u", ""),
        (("-u", "no-such-user", "true"), 1, "", "sudo: unknown user no-such-user\n"),
        (("no-such-program",), 1, "", "sudo: no-such-program: command not found\n"),
    ],
)
def test_sudo_runs_the_command(layer: Path, words: tuple[str, ...], code: int, output: str, error: str) -> None:
    assert sudo(layer, *words) == (code, output, error)


def test_sudo_refuses_options_it_does_not_have(layer: Path) -> None:
    code, output, error = sudo(layer, "-Z", "true")
    assert (code, output) == (1, "")
    assert error.startswith("sudo: invalid option -- 'Z'\nusage: sudo")
