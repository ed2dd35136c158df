"""Memory that is never swapped out (`--memory-mlock`)."""

import ctypes
import os

from kubette.component_base.run import StartupError

_MCL_CURRENT, _MCL_FUTURE = 1, 2


def lock_all() -> None:
    """Lock the pages of the process, now and from now on. Raises StartupError when the limits do not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        raise StartupError(f"failed to mlock memory: {os.strerror(ctypes.get_errno()).lower()}")
