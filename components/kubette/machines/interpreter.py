"""Which folders of the host a machine needs so that our programs run in it: Python, the virtual environment, our source.

Works for a Python of the system, of pyenv, of uv, or of conda, with the virtual environment anywhere, a home included: only these folders are shown, read-only, at
their own paths.
"""

import os
import sys
import sysconfig
from pathlib import Path

import kubette

SYSTEM_TREES = (Path("/usr"), Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib64"), Path("/nix"))


def hops(executable: Path) -> list[Path]:
    """The executable and every symbolic link on the way to the real file."""
    found = [executable]
    for _ in range(40):  # the kernel's own limit
        last = found[-1]
        if not last.is_symlink():
            break
        found.append(Path(os.path.normpath(last.parent / os.readlink(last))))
    return found


def python_hops() -> list[Path]:
    """The running interpreter, link by link."""
    return hops(Path(sys.executable))


def source_root() -> Path:
    """The checkout (or the site-packages folder) that holds the package."""
    package = Path(kubette.__file__).resolve().parent
    return package.parent.parent if package.parent.name == "components" else package.parent


def source_trees() -> list[Path]:
    """Our source: the package's folder, and the data folders beside it in a checkout."""
    root = source_root()
    trees = [Path(kubette.__file__).resolve().parent.parent, root / "manifests", root / "systemd"]
    return [tree for tree in trees if tree.is_dir()]


def covering(trees: list[Path]) -> list[Path]:
    """The trees without those that lie in another of them, or in a system directory; parents first."""
    chosen: list[Path] = []
    for tree in sorted({*trees}, key=lambda t: len(t.parts)):
        if not any(tree == other or other in tree.parents for other in (*SYSTEM_TREES, *chosen)):
            chosen.append(tree)
    return chosen


def trees() -> list[Path]:
    """Every folder to show on a machine."""
    prefixes = [Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)]
    prefixes += [hop.parent.parent for hop in python_hops()]
    prefixes += [prefix.resolve() for prefix in prefixes]
    found = [p for p in prefixes if p.is_dir() and p != Path("/") and p != Path.home()]
    return covering([*found, *source_trees()])


def scripts() -> Path:
    """Where the console scripts of this installation are."""
    return Path(sysconfig.get_path("scripts"))
