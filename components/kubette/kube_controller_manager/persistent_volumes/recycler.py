"""The reclaim policy `Recycle`: a pod that empties the volume (upstream: pkg/volume/util/recyclerclient; deprecated there, and still what it does)."""

from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.rest import Client
from kubette.kube_controller_manager import objects

Object = dict[str, Any]

NAMESPACE = "default"
IMAGE = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.4"
LOOK_AGAIN_S = 1.0
ACTIVE_DEADLINE_S = 60
RUNNING, DONE = "running", "done"

_SCRUB = 'test -e /scrub && find /scrub -mindepth 1 -delete && test -z "$(ls -A /scrub)" || exit 1'


def pod_for(volume: Object) -> Object:
    """Pure. The pod that empties a volume; raises ValueError for a kind of volume that has no recycler."""
    source = volume["spec"].get("hostPath")
    if source is None:
        raise ValueError("no recyclable volume plugin matched")
    container = {
        "name": "pv-recycler",
        "image": IMAGE,
        "command": ["/bin/sh"],
        "args": ["-c", _SCRUB],
        "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"recycler-for-{meta.name(volume)}", "namespace": NAMESPACE},
        "spec": {
            "activeDeadlineSeconds": ACTIVE_DEADLINE_S,
            "restartPolicy": "Never",
            "volumes": [{"name": "vol", "hostPath": {"path": source["path"]}}],
            "containers": [container],
        },
    }


async def step(client: Client, volume: Object) -> str:
    """RUNNING, DONE, or what went wrong."""
    try:
        wanted = pod_for(volume)
    except ValueError as error:
        return str(error)
    name = meta.name(wanted)
    try:
        pod = await client.get(resources.PODS, NAMESPACE, name)
    except status.ApiError as error:
        if not status.is_not_found(error):
            raise
        await client.create(resources.PODS, NAMESPACE, wanted)
        return RUNNING
    phase = objects.status(pod).get("phase")
    if phase not in ("Succeeded", "Failed"):
        return RUNNING
    await client.delete(resources.PODS, NAMESPACE, name, uid=meta.uid(pod))
    return DONE if phase == "Succeeded" else f"Recycle failed: recycler pod failed: {objects.status(pod).get('message') or 'Pod failed'}"
