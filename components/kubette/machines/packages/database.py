"""A machine's package database on disk: sources, lists and status, in the places and formats of apt and dpkg."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from kubette.machines.packages import control_file, dpkg_status, repository, sources
from kubette.machines.packages.catalog import Catalog
from kubette.machines.packages.control_file import Stanza
from kubette.machines.packages.sources import Source, SourcesError
from kubette.stdx import files

FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend"


class LockedError(Exception):
    """Another process changes packages at this moment (its pid, 0 when unknown)."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"held by process {pid}")
        self.pid = pid


def _holder(fd: int) -> int:
    """Who has the lock (struct flock: type, whence, start, length, pid)."""
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    return int(struct.unpack("hhqqi", fcntl.fcntl(fd, fcntl.F_GETLK, asked)[: len(asked)])[4])


class Database:
    """Reads are of whole files; a change is one atomic replacement, made under the lock."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._status = root / "var/lib/dpkg/status"
        self._lists = root / "var/lib/apt/lists"

    def exists(self) -> bool:
        """Whether this is a machine of ours: on the host these commands have nothing to say."""
        return (self._root / repository.RELEASES_DIRECTORY.lstrip("/") / "default").exists()

    def sources(self) -> list[Source]:
        """Raises SourcesError."""
        folder = self._root / "etc/apt"
        found: list[Source] = []
        for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]:
            shown = "/" + str(path.relative_to(self._root))
            try:
                found += sources.parse(path.read_text(), shown)
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise SourcesError(f"Unable to read {shown} - open ({error})") from None
        return found

    def has_keyring(self, source: Source) -> bool:
        """Whether the keyring that a source is to be signed by is there, with something in it."""
        path = self._root / source.signed_by.lstrip("/")
        return bool(source.signed_by) and path.is_file() and path.stat().st_size > 0

    def index(self, source: Source) -> str | None:
        """A source's list as of the last update."""
        try:
            return (self._lists / source.index_file).read_text()
        except OSError:
            return None

    def write_index(self, source: Source, text: str) -> None:
        self._lists.mkdir(parents=True, exist_ok=True)
        files.write_atomic(self._lists / source.index_file, text)

    def forget_indexes_but(self, kept: list[Source]) -> None:
        """Lists of sources that are no longer there go, as with apt's List-Cleanup."""
        names = {source.index_file for source in kept}
        for path in self._lists.glob("*_Packages"):
            if path.name not in names:
                path.unlink()

    def status(self) -> dict[str, Stanza]:
        try:
            return {stanza["Package"]: stanza for stanza in control_file.parse(self._status.read_text()) if "Package" in stanza}
        except FileNotFoundError:
            return {}

    def catalog(self) -> Catalog:
        """Raises SourcesError."""
        indexes = [(source, control_file.parse(text)) for source in self.sources() if (text := self.index(source)) is not None]
        return Catalog(indexes, self.status())

    def number_of_files(self) -> int:
        return sum(len(path.read_text().splitlines()) for path in (self._root / "var/lib/dpkg/info").glob("*.list"))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """The one writer. Raises LockedError."""
        path = self._root / FRONTEND_LOCK.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a POSIX lock, as dpkg's
            except OSError:
                raise LockedError(_holder(fd)) from None
            yield
        finally:
            os.close(fd)

    def install(self, package: Stanza) -> None:
        """Unpack a package, then record it: when it is interrupted between the two, installing again mends it."""
        for path, text in repository.content(package).items():
            self._write(path, text)
        name = package["Package"]
        self._write(f"/var/lib/dpkg/info/{name}.list", "".join(f"{path}\n" for path in repository.paths(package)))
        self._write_status(self.status() | {name: dpkg_status.installed(package)})

    def set_hold(self, name: str, hold: bool) -> None:
        status = self.status()
        self._write_status(status | {name: dpkg_status.installed(status[name], hold)})

    def _write(self, path: str, text: str) -> None:
        target = self._root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(target, text, durable=True)

    def _write_status(self, status: dict[str, Stanza]) -> None:
        self._write("/var/lib/dpkg/status", control_file.render(status[name] for name in sorted(status)))
