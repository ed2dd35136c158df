"""The data directory: made, or looked at before anything is opened in it; what is wrong with it is said in upstream's words."""

import os
import stat
from pathlib import Path

from kubette.component_base import logs
from kubette.component_base.run import StartupError
from kubette.etcd.disk import SYSTEM_DISK

log = logs.logger(__name__)
MODE = 0o700


def prepare(path: Path) -> None:
    """Make the directory, or see that it is one and that we may write. Raises StartupError."""
    try:
        if not path.exists():
            SYSTEM_DISK.make_directory(path)
        elif path.is_dir():
            _look_at(path)
        else:
            raise StartupError(f"cannot access data directory: mkdir {path}: not a directory")
    except OSError as error:
        raise StartupError(f"cannot access data directory: mkdir {path}: {(error.strerror or str(error)).lower()}") from error
    touched = path / ".touch"
    try:
        touched.write_bytes(b"")
        touched.unlink()
    except OSError as error:
        raise StartupError(f"cannot access data directory: open {touched}: {(error.strerror or str(error)).lower()}") from error


def _look_at(path: Path) -> None:
    mode = path.stat().st_mode
    if stat.S_IMODE(mode) != MODE:
        log.warning(
            "check file permission",
            err=f'directory "{path}" exist, but the permission is "{stat.filemode(mode)}". The recommended permission is "-rwx------" '
            "to prevent possible unprivileged access to the data",
        )
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise StartupError(f"cannot access data directory: open {path}: {(error.strerror or str(error)).lower()}") from error
    for name in names:
        if name not in ("member", "fixtures"):
            log.warning("found invalid file under data directory", filename=name, data_dir=str(path))


def told(error: OSError, path: str) -> str:
    """A failure to read or write below the directory."""
    return f"cannot access data directory: open {error.filename or path}: {(error.strerror or str(error)).lower()}"
