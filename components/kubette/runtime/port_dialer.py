"""Connections into a pod's network namespace: to its own loopback, as upstream's port-forward dials."""

import asyncio
import contextlib
import os
import socket

from kubette.runtime import syscalls

DIAL_TIMEOUT_S = 10.0


async def dial(namespace: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TCP connection to `localhost:port` inside the namespace (the machine's own when there is none): IPv4, then IPv6. Raises OSError."""
    failures = []
    for family, host, name in ((socket.AF_INET, "127.0.0.1", "tcp4 127.0.0.1"), (socket.AF_INET6, "::1", "tcp6 [::1]")):
        try:
            return await _dial(namespace, family, host, port)
        except OSError as error:
            reason = "i/o timeout" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0).lower()
            failures.append(f"dial {name}:{port}: connect: {reason}")
    raise OSError(f'failed to connect to localhost:{port} inside namespace "{os.path.basename(namespace)}", IPv4: {failures[0]} IPv6 {failures[1]}')


async def _dial(namespace: str, family: int, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    # A socket belongs to the namespace it was made in, wherever it is connected from.
    with syscalls.in_network_namespace(namespace) if namespace else contextlib.nullcontext():
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
        return await asyncio.open_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
