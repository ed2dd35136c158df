"""`systemctl enable`, `disable`, `mask`, `unmask`: the symbolic links in /etc/systemd/system that [Install] asks for."""

import os
from collections.abc import Sequence
from pathlib import Path

from kubette.init import unit_file
from kubette.init.loader import CONFIG_DIRECTORY, Loader
from kubette.init.service_spec import UnitSpec

Change = tuple[str, str, str]  # ("symlink", link, target) or ("unlink", link, "")


class InstallError(Exception):
    """Refused: D-Bus error name and systemctl's text."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name, self.message = name, message


def wanted_links(name: str, unit: UnitSpec, fragment: str, directory: str = CONFIG_DIRECTORY) -> list[tuple[str, str]]:
    """(link, target) for every WantedBy, RequiredBy and Alias of a unit."""
    links: list[tuple[str, str]] = []
    for suffix, targets in (("wants", unit.wanted_by), ("requires", unit.required_by)):
        links.extend((f"{directory}/{target}.{suffix}/{name}", fragment) for target in targets)
    links.extend((f"{directory}/{alias}", fragment) for alias in unit.aliases if alias != name)
    return links


def enable(loader: Loader, names: Sequence[str], directory: str = CONFIG_DIRECTORY) -> tuple[bool, list[Change]]:
    """Make the links; answers whether the units have an [Install] section, and what changed. Raises InstallError."""
    changes: list[Change] = []
    carries = False
    pending, seen = list(names), set[str]()
    while pending:
        name = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        loaded = loader.load(name)
        if loaded.load_state == "not-found" and loader.find_fragment(name) is None:
            raise InstallError("org.freedesktop.systemd1.NoSuchUnit", f"Failed to enable unit: Unit file {name} does not exist.")
        if loaded.load_state == "masked":
            raise InstallError("org.freedesktop.systemd1.UnitMasked", f"Failed to enable unit: Unit file {loaded.fragment_path} is masked.")
        target_name = name
        if "@." in name:
            if not loaded.unit.default_instance:
                raise InstallError("org.freedesktop.DBus.Error.InvalidArgs", f"Failed to enable unit: Unit name {name} is missing the instance name.")
            target_name = name.replace("@.", f"@{loaded.unit.default_instance}.")
        links = wanted_links(target_name, loaded.unit, loaded.fragment_path, directory)
        carries = carries or bool(links) or bool(loaded.unit.also)
        changes.extend(change for link, target in links if (change := _symlink(Path(link), target)))
        pending.extend(loaded.unit.also)
    return carries, changes


def _symlink(link: Path, target: str) -> Change | None:
    if link.is_symlink() and os.readlink(link) == target:
        return None
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise InstallError("org.freedesktop.DBus.Error.FileExists", f"Failed to enable unit: File {link} already exists.")
    link.symlink_to(target)
    return ("symlink", str(link), target)


def disable(loader: Loader, names: Sequence[str], directory: str = CONFIG_DIRECTORY) -> list[Change]:
    """Remove every link to the units in `.wants`, `.requires` and as aliases. Raises InstallError."""
    changes: list[Change] = []
    for name in names:
        fragment = loader.find_fragment(name)
        if fragment is None:
            raise InstallError("org.freedesktop.systemd1.NoSuchUnit", f"Failed to disable unit: Unit file {name} does not exist.")
        base = Path(directory)
        candidates = [*base.glob(f"*.wants/{name}"), *base.glob(f"*.requires/{name}")]
        candidates += [path for path in base.glob("*") if path.is_symlink() and path.name != name and os.path.basename(os.readlink(path)) == name]
        for path in sorted(candidates):
            if path.is_symlink():
                path.unlink()
                changes.append(("unlink", str(path), ""))
        own = base / name
        if own.is_symlink() and os.readlink(own) != "/dev/null":
            own.unlink()  # a linked unit file
            changes.append(("unlink", str(own), ""))
    return changes


def mask(names: Sequence[str], directory: str = CONFIG_DIRECTORY) -> list[Change]:
    """Link the units to /dev/null. Raises InstallError when a real file is in the way."""
    changes: list[Change] = []
    for name in names:
        path = Path(directory, name)
        if path.is_symlink() and os.readlink(path) == "/dev/null":
            continue
        if path.exists() and not path.is_symlink():
            raise InstallError("org.freedesktop.DBus.Error.FileExists", f"Failed to mask unit: File {path} already exists.")
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("/dev/null")
        changes.append(("symlink", str(path), "/dev/null"))
    return changes


def unmask(names: Sequence[str], directory: str = CONFIG_DIRECTORY) -> list[Change]:
    """Remove links to /dev/null."""
    changes: list[Change] = []
    for name in names:
        path = Path(directory, name)
        if path.is_symlink() and os.readlink(path) == "/dev/null":
            path.unlink()
            changes.append(("unlink", str(path), ""))
    return changes


def state(loader: Loader, name: str, directory: str = CONFIG_DIRECTORY) -> str:
    """UnitFileState: enabled, disabled, static, masked, alias, indirect, generated or empty when there is no file."""
    fragment = loader.find_fragment(name)
    if fragment is None:
        return ""
    if os.path.realpath(fragment) == "/dev/null":
        return "masked" if str(fragment).startswith(directory) else "masked-runtime"
    if fragment.is_symlink() and os.path.basename(os.readlink(fragment)) not in (name, unit_file.template_of(name)):
        return "alias"
    loaded = loader.load(name)
    links = wanted_links(name, loaded.unit, loaded.fragment_path, directory)
    if any(os.path.islink(link) for link, _ in links) or list(Path(directory).glob(f"*.wants/{name}")):
        return "enabled"
    if "@." in name and (loaded.unit.wanted_by or loaded.unit.required_by):
        stem, _, suffix = name.partition("@.")
        return "enabled" if list(Path(directory).glob(f"*.wants/{stem}@*.{suffix}")) else "disabled"
    if links:
        return "disabled"
    return "indirect" if loaded.unit.also else "static"
