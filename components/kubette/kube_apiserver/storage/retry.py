"""Patience with an etcd that is away for a moment (a restart, an election): clientv3's retry policy.

A read is asked again; a write only when it surely never left this process. After a few seconds the caller is told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kubette.etcd_api.errors import Code
from kubette.etcd_client import EtcdError

T = TypeVar("T")

ATTEMPTS = 100  # clientv3's defaults
PAUSE_S = 0.025


async def read(ask: Callable[[], Awaitable[T]]) -> T:
    """Raises the last EtcdError."""
    return await _retry(ask, lambda error: error.code is Code.UNAVAILABLE)


async def write(ask: Callable[[], Awaitable[T]]) -> T:
    """Raises EtcdError; what may have happened is never repeated."""
    return await _retry(ask, lambda error: error.never_sent)


async def _retry(ask: Callable[[], Awaitable[T]], may_repeat: Callable[[EtcdError], bool]) -> T:
    for _ in range(ATTEMPTS - 1):
        try:
            return await ask()
        except EtcdError as error:
            if not may_repeat(error):
                raise
        await asyncio.sleep(PAUSE_S)
    return await ask()
