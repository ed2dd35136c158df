"""Puts a tree of files and links on a machine, as the host sees it."""

from pathlib import Path

from kubette.cli.hard_way_files import Tree
from kubette.stdx import files


def write(root: Path, tree: Tree) -> None:
    """Put `tree` on the machine whose root is `root`."""
    for name, (content, mode) in tree.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(root / name, content, mode)
    for name, target in tree.links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)
