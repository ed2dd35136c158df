"""Phase wait-control-plane: until the kubelet, the API server, the controller manager and the scheduler answer as healthy."""

import asyncio
import ssl
import time

import aiohttp

from kubette.kubeadm import timeouts
from kubette.kubeadm.phases.context import Context, PhaseError

_PAUSE_S = 0.1  # there is no event to wait for: a server that is not there yet cannot be subscribed to


async def _until_healthy(session: aiohttp.ClientSession, url: str, name: str, limit_s: float, context: Context, prefix: str) -> None:
    started, reason = time.monotonic(), "no answer"
    deadline = started + limit_s
    # The certificate is not verified, as upstream does not: this asks for health, it sends no secret.
    insecure = ssl.create_default_context()
    insecure.check_hostname, insecure.verify_mode = False, ssl.CERT_NONE
    while time.monotonic() < deadline:
        try:
            async with session.get(url, ssl=insecure, timeout=aiohttp.ClientTimeout(total=5)) as response:
                if response.status == 200:
                    context.say(f"[{prefix}] {name} is healthy after {time.monotonic() - started:.3g}s")
                    return
                reason = f"{url} returned HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = f'Get "{url}": {error}'
        await asyncio.sleep(_PAUSE_S)
    raise PhaseError("wait-control-plane", f"{name} check failed at {url} after {timeouts.text(limit_s)}: {reason}")


async def wait_kubelet(context: Context) -> None:
    url, limit_s = "http://127.0.0.1:10248/healthz", context.timeouts["kubeletHealthCheck"]
    context.say(f"[kubelet-check] Waiting for a healthy kubelet at {url}. This can take up to {timeouts.text(limit_s)}")
    async with aiohttp.ClientSession() as session:
        await _until_healthy(session, url, "The kubelet", limit_s, context, "kubelet-check")


async def wait_components(context: Context) -> None:
    """All three at once: they start at the same time."""
    checks = {
        "kube-apiserver": f"https://{context.local.local_endpoint()}/livez",
        "kube-controller-manager": "https://127.0.0.1:10257/healthz",
        "kube-scheduler": "https://127.0.0.1:10259/livez",
    }
    limit_s = context.timeouts["controlPlaneComponentHealthCheck"]
    context.say(f"[control-plane-check] Waiting for healthy control plane components. This can take up to {timeouts.text(limit_s)}")
    for name, url in checks.items():
        context.say(f"[control-plane-check] Checking {name} at {url}")
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for name, url in checks.items():
            group.create_task(_until_healthy(session, url, name, limit_s, context, "control-plane-check"))


async def run(context: Context) -> None:
    context.say('[wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods from directory "/etc/kubernetes/manifests"')
    await wait_kubelet(context)
    await wait_components(context)
