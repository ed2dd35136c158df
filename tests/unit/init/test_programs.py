"""Which programs start warm."""

import os
from pathlib import Path

from kubette.init import programs


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
