"""One conversation with a process in a container: exec starts it, attach finds it running. What streaming carries, whatever the protocol.

A further process is started by the launcher (`kubette-runc exec`), a child of the runtime as upstream's is of the shim; attaching goes through init,
which holds the container's pipes.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubette.component_base import init_client
from kubette.runtime import records
from kubette.runtime.errors import CriError
from kubette.stdx import tasks

CHUNK_BYTES = 32 << 10
# containerd truncates what ExecSync returns at 16 MiB.
OUTPUT_BYTES_MAX = 16 << 20
START_TIMEOUT_S = 30.0
KILL_WAIT_S = 5.0


class Session(Protocol):
    """Output, input, size, end."""

    def output(self) -> AsyncIterator[tuple[str, bytes]]: ...

    async def write(self, data: bytes) -> None: ...

    async def close_input(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int:
        """The exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute, and which streams are wanted."""

    argv: list[str]
    tty: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class Execution:
    """A running further process (made by `executing`)."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: "Terminal | None", command: Command) -> None:
        self._process = process
        self._terminal = terminal
        self._command = command

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        if self._terminal is not None:
            while data := await self._terminal.read():
                yield "stdout", data
            return
        async for item in _merged({"stdout": self._process.stdout, "stderr": self._process.stderr}):
            yield item

    async def write(self, data: bytes) -> None:
        if self._terminal is not None:
            await self._terminal.write(data)
        elif self._process.stdin is not None:
            # A process that no longer reads is not the session's end.
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                self._process.stdin.write(data)
                await self._process.stdin.drain()

    async def close_input(self) -> None:
        if self._terminal is None and self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, width: int, height: int) -> None:
        if self._terminal is not None:
            self._terminal.resize(width, height)

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code


async def _merged(streams: dict[str, asyncio.StreamReader | None]) -> AsyncIterator[tuple[str, bytes]]:
    """Chunks of several streams as they come, until all have ended."""
    queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(8)

    async def pump(name: str, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await queue.put((name, data))
        finally:
            await queue.put((name, b""))

    async with tasks.Scope() as group:
        pumps = [group.start(pump(name, reader)) for name, reader in streams.items() if reader is not None]
        open_streams = len(pumps)
        while open_streams:
            name, data = await queue.get()
            if data:
                yield name, data
            else:
                open_streams -= 1


def _resolve(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Terminal:
    """The master side of a terminal, for the event loop."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)

    async def _ready(self, write: bool) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
        add(self._fd, _resolve, done)
        try:
            await done
        finally:
            remove(self._fd)

    async def read(self) -> bytes:
        """Some output; nothing at the end."""
        while True:
            try:
                return os.read(self._fd, CHUNK_BYTES)
            except BlockingIOError:
                await self._ready(write=False)
            except OSError:
                return b""  # EIO: the last process that held the terminal is gone

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await self._ready(write=True)
            except OSError:
                return

    def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close(self) -> None:
        os.close(self._fd)


@contextlib.asynccontextmanager
async def executing(container: records.Container, spec_path: Path, identity: dict[str, Any], command: Command) -> AsyncIterator[Execution]:
    """Run a command in a running container for the length of the block; leaving it early kills the process. Raises CriError when it cannot be executed."""
    spec = json.loads(spec_path.read_text())
    environment = dict(spec["process"]["env"])
    if command.tty:
        environment.setdefault("TERM", "xterm")
    process_spec = {**identity, "argv": command.argv, "env": environment, "tty": command.tty, "pid": container.status.pid}
    ours, theirs = socket.socketpair()
    terminal = None
    with ours, tempfile.NamedTemporaryFile("w", prefix="exec-", suffix=".json", dir=spec_path.parent) as file:
        ours.setblocking(False)
        json.dump(process_spec, file)
        file.flush()
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        piped = not command.tty
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "kubette.runtime.launcher", "exec", str(spec_path), file.name, str(theirs.fileno())],
                stdin=pipe if piped and command.stdin else null,
                stdout=pipe if piped and command.stdout else null,
                stderr=pipe if piped and command.stderr else null,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                terminal = await _started(ours, command)
            yield Execution(process, terminal, command)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)  # the launcher passes a SIGKILL on
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KILL_WAIT_S):
                        await process.wait()
            if terminal is not None:
                terminal.close()


async def _started(control: socket.socket, command: Command) -> Terminal | None:
    """Follow the launcher's control socket until the process runs; answers its terminal, if it has one."""
    loop = asyncio.get_running_loop()
    terminal = None
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(control.fileno(), _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(control.fileno())
        data, fds, _, _ = socket.recv_fds(control, 65536, 1)
        for fd in fds:
            terminal = Terminal(fd)
        if not data:
            return terminal
        if data.startswith(b"E"):
            if terminal is not None:
                terminal.close()
            text = data[1:].decode(errors="replace")
            raise CriError(
                "UNKNOWN",
                f"failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: {text}: unknown",
            )


async def run_to_end(
    container: records.Container, spec_path: Path, identity: dict[str, Any], argv: list[str], timeout_s: float
) -> tuple[bytes, bytes, int]:
    """ExecSync: stdout, stderr, exit code. Raises CriError DEADLINE_EXCEEDED when the time is up; the process is killed."""
    collected = {"stdout": bytearray(), "stderr": bytearray()}
    try:
        async with asyncio.timeout(timeout_s or None):
            async with executing(container, spec_path, identity, Command(argv)) as execution:
                async for stream, data in execution.output():
                    collected[stream] += data[: max(0, OUTPUT_BYTES_MAX - len(collected[stream]))]
                code = await execution.wait()
    except TimeoutError as error:
        raise CriError("DEADLINE_EXCEEDED", f"failed to exec in container: timeout {timeout_s:g}s exceeded: context deadline exceeded") from error
    return bytes(collected["stdout"]), bytes(collected["stderr"]), code


class Attached:
    """A container's own streams, through init."""

    def __init__(self, attachment: init_client.Attachment, exit_code: Any) -> None:
        self._attachment = attachment
        self._exit_code = exit_code

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        return self._attachment.output()

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(init_client.InitError):
            await self._attachment.write(data)

    async def close_input(self) -> None:
        with contextlib.suppress(init_client.InitError):
            await self._attachment.close_input()

    async def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(init_client.InitError):
            await self._attachment.resize(width, height)

    async def wait(self) -> int:
        return int(await self._exit_code())
