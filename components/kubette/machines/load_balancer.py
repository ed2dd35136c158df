"""Which control-plane machines may get API connections: the health checks of a load balancer, as kubeadm's HA guide sets one up.

With one control plane there is nothing to choose and nothing is checked. With several, `/readyz` of each is asked every two seconds: a machine
that is paused or cut off still accepts TCP connections in its kernel, so that only an answer counts.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubette.component_base import logs
from kubette.machines import spec
from kubette.machines.forwarding import Candidate

log = logs.logger(__name__)

CHECK_INTERVAL_S = 2.0
CHECK_TIMEOUT_S = 1.0
RECHECK_INTERVAL_S = 0.5  # after a first failure, so that a frozen machine is left within some four seconds
FALL = 2  # failures in a row until a backend is down; one success brings it back


@dataclass(slots=True)
class Backend:
    machine: spec.Machine
    has_power: bool = False
    failures: int = FALL  # down until it has answered once

    @property
    def is_up(self) -> bool:
        return self.has_power and self.failures < FALL


class LoadBalancer:
    """The API servers of a cluster, best first."""

    def __init__(self, machines: Sequence[spec.Machine], on_down: Callable[[str], None]) -> None:
        self.backends = [Backend(m) for m in machines]
        self._on_down = on_down
        self._turn = 0

    def set_power(self, on: set[str]) -> None:
        for backend in self.backends:
            had, backend.has_power = backend.has_power, backend.machine.name in on
            if had and not backend.has_power:
                backend.failures = FALL
                self._on_down(backend.machine.name)

    def candidates(self) -> list[Candidate]:
        """Round robin over those that are up; when none is known to be, all that have power."""
        self._turn += 1
        rotated = self.backends[self._turn % len(self.backends) :] + self.backends[: self._turn % len(self.backends)]
        powered = [b for b in rotated if b.has_power]
        up = [b for b in powered if b.is_up]
        return [(b.machine.name, b.machine.address, spec.API_PORT) for b in [*up, *(b for b in powered if b not in up)]]

    async def check_for_ever(self) -> None:
        if len(self.backends) < 2:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A health check asks whether the server answers, not who it is: the clients behind it verify that.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        while True:
            await asyncio.gather(*(self._check(b, context) for b in self.backends if b.has_power))
            in_doubt = any(b.has_power and 0 < b.failures < FALL for b in self.backends)
            await asyncio.sleep(RECHECK_INTERVAL_S if in_doubt else CHECK_INTERVAL_S)

    async def _check(self, backend: Backend, context: ssl.SSLContext) -> None:
        was_up = backend.is_up
        backend.failures = 0 if await _answers(backend.machine.address, context) else min(backend.failures + 1, FALL)
        if was_up and not backend.is_up:
            log.warning("Control plane went down", machine=backend.machine.name)
            self._on_down(backend.machine.name)
        elif backend.is_up and not was_up:
            log.info("Control plane came up", machine=backend.machine.name)


async def _answers(address: str, context: ssl.SSLContext) -> bool:
    writer = None
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, spec.API_PORT, ssl=context)
            writer.write(f"GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            status = (await reader.readline()).split()
            # 401 and 403: it answers, but not to strangers.
            return len(status) > 1 and status[1].isdigit() and int(status[1]) < 500
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.transport.abort()
