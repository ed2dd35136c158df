"""One way to listen: an aiohttp application on an address, plain or TLS, with limits.

The limits are those that recent holes of such servers taught (RELIABILITY, lesson 10): header time, header size, body size.
"""

import contextlib
import errno
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from kubette.component_base.run import StartupError

KEEPALIVE_S = 90.0  # the idle timeout of upstream's servers


def split_host_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:80`, `[::1]:80` or `:80`. Raises StartupError in Go's words."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise StartupError(f"address {address}: missing port in address" if not colon else f"address {address}: invalid port")
    return host.strip("[]"), int(port)


@contextlib.asynccontextmanager
async def serving(app: web.Application, host: str, port: int, ssl_context: ssl.SSLContext | None = None, **runner_options: Any) -> AsyncIterator[int]:
    """Serve `app` while the block runs; yields the port that is bound. A port in use is a StartupError in Go's words."""
    options: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEPALIVE_S, "max_field_size": 65536, "max_line_size": 65536}
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, **{**options, **runner_options})
    await runner.setup()
    try:
        site = web.TCPSite(runner, host or None, port, ssl_context=ssl_context, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            reason = "address already in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
            raise StartupError(f"failed to create listener: failed to listen on {host}:{port}: listen tcp {host}:{port}: bind: {reason}") from error
        yield int(runner.addresses[0][1]) if runner.addresses else port
    finally:
        await runner.cleanup()
