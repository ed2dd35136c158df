"""Can the cluster still run something? A Job is made before an upgrade, and has to end well (upstream: phases/upgrade/health.go, check CreateJob)."""

import asyncio
import contextlib
from typing import Any

from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import FAILURES, Client
from kubette.kubeadm import images

TIMEOUT_S = 15.0
_PAUSE_S = 0.1
_TOLERATIONS = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]


def _job(image: str) -> dict[str, Any]:
    container = {"name": "upgrade-health-check", "image": image, "args": ["-v"]}
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 999, "runAsGroup": 999, "runAsNonRoot": True},
        "tolerations": _TOLERATIONS,
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "upgrade-health-check-", "namespace": "kube-system"},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 2, "template": {"spec": pod}},
    }


async def create_job(client: Client, kubernetes_version: str, repository: str, timeout_s: float = TIMEOUT_S) -> list[tuple[str, str]]:
    """(check, what is wrong); the Job is gone afterwards, by its TTL if not by us."""
    body = _job(images.pause(kubernetes_version, repository))
    try:
        made = await client.create(resources.JOBS, "kube-system", body)
    except (*FAILURES, TimeoutError) as error:
        return [("CreateJob", f'could not create Job "upgrade-health-check" in the namespace "kube-system": {error}')]
    name = made["metadata"]["name"]
    try:
        async with asyncio.timeout(timeout_s):
            return await _result(client, name)
    except TimeoutError:
        return [("CreateJob", f'Job "{name}" in the namespace "kube-system" did not complete in {timeout_s:.0f}s: no condition of type Complete')]
    finally:
        with contextlib.suppress(*FAILURES):
            await client.delete(resources.JOBS, "kube-system", name, propagation_policy="Background")


async def _result(client: Client, name: str) -> list[tuple[str, str]]:
    while True:
        try:
            job = await client.get(resources.JOBS, "kube-system", name)
        except ApiError as error:
            return [("CreateJob", f'could not get Job "{name}" in the namespace "kube-system": {error}')]
        for condition in job.get("status", {}).get("conditions") or ():
            if condition["status"] == "True" and condition["type"] == "Complete":
                return []
            if condition["status"] == "True" and condition["type"] == "Failed":
                return [("CreateJob", f'Job "{name}" in the namespace "kube-system" failed: {condition.get("message", "")}')]
        await asyncio.sleep(_PAUSE_S)
