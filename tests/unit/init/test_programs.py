"""Which programs start warm."""

import os
import tomllib
from pathlib import Path

import pytest

from kubette.init import programs


def test_the_installed_programs_are_those_of_pyproject() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    installed = programs.entry_points()
    missing = set(project["scripts"].items()) - set(installed.items())
    if missing:
        pytest.skip(f"the installation is older than pyproject.toml: {sorted(missing)}")
    assert installed == project["scripts"]


def test_only_the_script_that_calls_the_entry_point_is_ours(tmp_path: Path) -> None:
    known = {"etcd": "kubette.etcd.__main__:main"}
    ours, real = tmp_path / "a" / "etcd", tmp_path / "b" / "etcd"
    for path, content in ((ours, "#!/venv/bin/python\nimport sys\nfrom kubette.etcd.__main__ import main\n"), (real, "\x7fELF")):
        path.parent.mkdir()
        path.write_text(content)
    assert programs.entry_point_of(str(ours), known) == "kubette.etcd.__main__:main"
    assert programs.entry_point_of(str(real), known) == ""
    assert programs.entry_point_of(os.fspath(tmp_path / "etcd"), known) == ""
    assert programs.entry_point_of(str(ours), {}) == ""
