"""postStart and preStop handlers of a container: exec, httpGet, tcpSocket (as upstream: refused), sleep."""

import asyncio
from typing import Any

from kubette.kubelet import http_probe, pod_spec
from kubette.kubelet.cri_client import CriClient, CriError

EXEC_TIMEOUT_S = 3600.0  # upstream's exec hooks have no timeout of their own; the grace period ends preStop
HTTP_TIMEOUT_S = 30.0


class HookError(Exception):
    """The handler failed; the text goes into FailedPostStartHook or FailedPreStopHook."""


async def run(cri: CriClient, container_id: str, pod: pod_spec.Pod, container: dict[str, Any], handler: dict[str, Any], pod_ip: str) -> None:
    """Run one handler to its end. Raises HookError."""
    if "exec" in handler:
        command = handler["exec"].get("command") or []
        try:
            code, output = await cri.exec_sync(container_id, command, EXEC_TIMEOUT_S)
        except CriError as error:
            raise HookError(f"{error}") from error
        if code != 0:
            text = output.decode(errors="replace")[:1024]
            raise HookError(f"command '{' '.join(command)}' exited with {code}: {text}")
    elif "httpGet" in handler:
        action = handler["httpGet"]
        request = http_probe.request_of(action, container, pod_ip)
        try:
            status, _, _ = await asyncio.wait_for(http_probe.get(request), HTTP_TIMEOUT_S)
        except (OSError, http_probe.ProbeError, TimeoutError) as error:
            raise HookError(f'Get "{request.url}": {error}') from error
        if status >= 400:
            raise HookError(f"HTTP probe failed with statuscode: {status}")
    elif "sleep" in handler:
        await asyncio.sleep(int(handler["sleep"].get("seconds") or 0))
    else:
        raise HookError(f"invalid handler: {sorted(handler)}")
