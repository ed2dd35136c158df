"""Giving a volume's files to the pod's fsGroup."""

import errno
import os
from pathlib import Path


def give_to_group(path: Path, group: int | None) -> None:
    """Change the group; `None` leaves it. On a machine whose user namespace maps no such group nothing is changed: no process there
    can be in that group either, and the one user there is reads every file."""
    if group is None:
        return
    try:
        os.chown(path, -1, group)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
