"""Where units come from: fragments, drop-ins, aliases, masks, templates and `.wants` directories (systemd.unit(5), "Unit File Load Path").

Searched are /etc, /run and /usr/local/lib, in systemd's order of precedence. /usr is a view of the host's, and the host's services are its own
business; but on a machine our `systemd/` folder is bound over /usr/lib/systemd/system (machines/root_tree.py). So that directory counts exactly when it is
a mount of its own, which a host's never is.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kubette.init import builtin_units, service_spec, unit_file
from kubette.init.service_spec import ServiceSpec, UnitSpec

SEARCH_PATH = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")
VENDOR_DIRECTORY = "/usr/lib/systemd/system"
# Where `systemctl enable` links to, and transient units would be.
CONFIG_DIRECTORY = SEARCH_PATH[0]
UNIT_SUFFIXES = ("service", "target", "scope", "slice")
NAME_PATTERN = re.compile(r"[A-Za-z0-9:_.\\@-]{1,250}\.(service|target|scope|slice|socket|timer|mount|path|device|swap|automount)")
UNIT_FILE_BYTES_MAX = 1 << 20


def search_path() -> tuple[str, ...]:
    """The directories to read on this machine."""
    # Not os.path.ismount: a bind mount may be on the same device as its parent.
    with open("/proc/self/mountinfo") as file:
        own = any(line.split()[4] == VENDOR_DIRECTORY for line in file)
    return (*SEARCH_PATH, VENDOR_DIRECTORY) if own else SEARCH_PATH


@dataclass(frozen=True, slots=True)
class LoadedUnit:
    """What loading a name gave. `load_state` is loaded, not-found, masked, bad-setting or error."""

    name: str
    load_state: str
    unit: UnitSpec
    service: ServiceSpec | None = None
    fragment_path: str = ""
    drop_in_paths: tuple[str, ...] = ()
    error: str = ""
    # (path, mtime) of all files read: a later difference is "changed on disk".
    stamps: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads units from a search path."""

    search_path: Sequence[str] = SEARCH_PATH

    def find_fragment(self, name: str) -> Path | None:
        """The file that defines `name`; for an instance its own file, else the template's."""
        for candidate in filter(None, (name, unit_file.template_of(name))):
            for directory in self.search_path:
                path = Path(directory, candidate)
                if path.is_symlink() or path.is_file():
                    return path
        return None

    def resolve(self, name: str) -> str:
        """The unit's true name: an alias is a symbolic link to a file of another name."""
        for _ in range(8):  # a chain of links longer than this is a loop
            path = self.find_fragment(name)
            if path is None or not path.is_symlink():
                return name
            target = os.path.basename(os.readlink(path))
            if target == name or os.readlink(path) == "/dev/null" or not NAME_PATTERN.fullmatch(target):
                return name
            if target == unit_file.template_of(name):
                return name
            name = target
        return name

    def drop_ins(self, name: str) -> list[Path]:
        """The `.conf` files of `name.d/` in all directories, sorted by file name; the same name in a higher directory wins."""
        suffix = name.rpartition(".")[2]
        folders = [f"{name}.d", f"{suffix}.d"]
        template = unit_file.template_of(name)
        if template:
            folders.insert(1, f"{template}.d")
        chosen: dict[str, Path] = {}
        for folder in folders:
            for directory in self.search_path:
                for path in sorted(Path(directory, folder).glob("*.conf")):
                    chosen.setdefault(path.name, path)
        return [path for _, path in sorted(chosen.items()) if os.path.realpath(path) != "/dev/null"]

    def links(self, name: str, kind: str) -> list[str]:
        """The units linked in `name.wants/` or `name.requires/`."""
        found: dict[str, None] = {}
        for directory in self.search_path:
            try:
                entries = sorted(os.listdir(os.path.join(directory, f"{name}.{kind}")))
            except OSError:
                continue
            found.update(dict.fromkeys(entry for entry in entries if NAME_PATTERN.fullmatch(entry)))
        return list(found)

    def load(self, name: str) -> LoadedUnit:
        """Read a unit. Never raises: what is wrong is in `load_state` and `error`."""
        nothing = UnitSpec(name, name)
        if not NAME_PATTERN.fullmatch(name) or name.rpartition(".")[2] not in UNIT_SUFFIXES:
            return LoadedUnit(name, "not-found", nothing)
        fragment = self.find_fragment(name)
        builtin = builtin_units.text(name)
        if fragment is None and builtin is None:
            if name.endswith(".slice"):
                return LoadedUnit(name, "loaded", UnitSpec(name, f"Slice {name.removesuffix('.slice').replace('-', '/')}"))
            return LoadedUnit(name, "not-found", nothing)
        if fragment is not None and (os.path.realpath(fragment) == "/dev/null" or _is_empty(fragment)):
            return LoadedUnit(name, "masked", nothing, fragment_path=str(fragment))
        paths = ([fragment] if fragment else []) + self.drop_ins(name)
        parsed = unit_file.parse(builtin or "") if fragment is None else unit_file.UnitFile()
        try:
            for path in paths:
                parsed.extend(unit_file.parse(_read(path), str(path)))
        except OSError as error:
            return LoadedUnit(name, "error", nothing, fragment_path=str(fragment or ""), error=f"{error.strerror}: {error.filename}")
        stamps = tuple((str(path), path.stat().st_mtime_ns) for path in paths)
        return self._interpret(name, parsed, fragment, tuple(str(p) for p in paths if p != fragment), stamps)

    def _interpret(
        self, name: str, parsed: unit_file.UnitFile, fragment: Path | None, drop_ins: tuple[str, ...], stamps: tuple[tuple[str, int], ...]
    ) -> LoadedUnit:
        values = specifiers(name)
        for index, entry in enumerate(parsed.assignments):
            # Specifiers in [Unit] are expanded everywhere; in [Service] each setting says whether it takes them.
            if entry.section in ("Unit", "Install"):
                parsed.assignments[index] = replace(entry, value=unit_file.expand_specifiers(entry.value, values))
        spec = service_spec.unit_spec(name, parsed)
        dependencies = dict(spec.dependencies)
        for kind, key in (("wants", "Wants"), ("requires", "Requires")):
            linked = self.links(name, kind)
            if linked:
                dependencies[key] = tuple(dict.fromkeys((*dependencies[key], *linked)))
                if name.endswith(".target"):
                    dependencies["After"] = tuple(dict.fromkeys((*dependencies["After"], *linked)))
        spec = replace(spec, dependencies=dependencies)
        path = str(fragment) if fragment else ""
        if not name.endswith(".service"):
            return LoadedUnit(name, "loaded", spec, None, path, drop_ins, stamps=stamps)
        try:
            service = service_spec.service_spec(parsed, values)
        except ValueError as error:
            return LoadedUnit(name, "bad-setting", spec, None, path, drop_ins, f"{name}: {error}", stamps)
        return LoadedUnit(name, "loaded", spec, service, path, drop_ins, stamps=stamps)

    def changed_on_disk(self, loaded: LoadedUnit) -> bool:
        """Whether reading the unit again could give something else."""
        for path, stamp in loaded.stamps:
            try:
                if os.stat(path).st_mtime_ns != stamp:
                    return True
            except OSError:
                return True
        if loaded.load_state == "not-found":
            return self.find_fragment(loaded.name) is not None
        if loaded.load_state != "loaded" or (not loaded.stamps and not loaded.fragment_path):
            return False
        fragment = self.find_fragment(loaded.name)
        return str(fragment or "") != loaded.fragment_path or tuple(str(path) for path in self.drop_ins(loaded.name)) != loaded.drop_in_paths

    def all_files(self) -> dict[str, Path]:
        """Every unit file by name, templates included; the highest directory wins."""
        found: dict[str, Path] = {}
        for directory in self.search_path:
            try:
                entries = sorted(os.listdir(directory))
            except OSError:
                continue
            for entry in entries:
                path = Path(directory, entry)
                if NAME_PATTERN.fullmatch(entry) and not path.is_dir():
                    found.setdefault(entry, path)
        return found


def _read(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(UNIT_FILE_BYTES_MAX)


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def specifiers(name: str) -> dict[str, str]:
    """All specifiers of a system unit on this machine."""
    uname = os.uname()
    return unit_file.name_specifiers(name) | {
        "H": uname.nodename,
        "l": uname.nodename.partition(".")[0],
        "v": uname.release,
        "a": {"x86_64": "x86-64", "aarch64": "arm64"}.get(uname.machine, uname.machine),
        "m": read_id("/etc/machine-id"),
        "b": read_id("/proc/sys/kernel/random/boot_id").replace("-", ""),
        "t": "/run",
        "S": "/var/lib",
        "C": "/var/cache",
        "L": "/var/log",
        "E": "/etc",
        "T": "/tmp",
        "V": "/var/tmp",
        "h": "/root",
        "s": "/bin/sh",
        "u": "root",
        "U": "0",
        "g": "root",
        "G": "0",
    }


def read_id(path: str) -> str:
    """The id in a one-line file; empty when there is none."""
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
