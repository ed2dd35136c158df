"""What `/proc/PID/cmdline`, `/proc/PID/environ` and `comm` show of this process.

A process forked from a warm parent carries the parent's command line. The kernel lets a process move the borders of its own argument and
environment areas (prctl PR_SET_MM_MAP, no privilege needed), so a warm-started program shows its words NUL-separated, and its environment, exactly as
if it had been executed. Where the kernel was built without that (CONFIG_CHECKPOINT_RESTORE), setproctitle overwrites the old areas as far as they reach.
"""

import ctypes
from collections.abc import Mapping, Sequence

_PR_SET_MM, _PR_SET_MM_MAP, _PR_SET_NAME = 35, 14, 15
_COMM_BYTES_MAX = 15
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS = 3, 0x22


class _MemoryMap(ctypes.Structure):
    """struct prctl_mm_map of linux/prctl.h."""

    _fields_ = [
        *[(name, ctypes.c_uint64) for name in ("start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack")],
        *[(name, ctypes.c_uint64) for name in ("arg_start", "arg_end", "env_start", "env_end", "auxv")],
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]


def command_line() -> list[str]:
    """What `ps` shows of this process now, word by word."""
    with open("/proc/self/cmdline", "rb") as file:
        return [word.decode(errors="surrogateescape") for word in file.read().rstrip(b"\0").split(b"\0")]


def set_command_line(argv: Sequence[str], environment: Mapping[str, str], comm: str) -> None:
    """Show `argv` and `environment` as this process's own. Never raises: a title is not worth a process."""
    arguments = b"".join(word.encode(errors="surrogateescape") + b"\0" for word in argv)
    variables = b"".join(f"{name}={value}".encode(errors="surrogateescape") + b"\0" for name, value in environment.items())
    try:
        moved = _move_areas(arguments, variables)
    except (OSError, AttributeError, ValueError, IndexError):
        moved = False
    if moved:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, comm.encode()[:_COMM_BYTES_MAX], 0, 0, 0)
        return
    import setproctitle

    setproctitle.setproctitle(" ".join(argv))
    setproctitle.setthreadtitle(comm[:_COMM_BYTES_MAX])


def _move_areas(arguments: bytes, variables: bytes) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.sbrk.restype = ctypes.c_void_p
    libc.sbrk.argtypes = [ctypes.c_ssize_t]
    length = len(arguments) + len(variables)
    # Never unmapped: the kernel reads it for as long as the process lives.
    area = libc.mmap(None, length, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, 0)
    if area in (None, ctypes.c_void_p(-1).value):
        return False
    ctypes.memmove(area, arguments + variables, length)
    with open("/proc/self/stat", "rb") as file:
        # proc(5) numbers the fields from 1; the third is the first behind the parenthesis of comm.
        fields = file.read().rpartition(b")")[2].split()
    field = {number: int(fields[number - 3]) for number in (26, 27, 28, 45, 46, 47)}
    memory = _MemoryMap(
        start_code=field[26], end_code=field[27], start_stack=field[28], start_data=field[45], end_data=field[46], start_brk=field[47],
        brk=libc.sbrk(0), arg_start=area, arg_end=area + len(arguments), env_start=area + len(arguments), env_end=area + length,
        auxv=0, auxv_size=0, exe_fd=0xFFFFFFFF,
    )  # fmt: skip
    return bool(libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(memory), ctypes.sizeof(memory), 0) == 0)
