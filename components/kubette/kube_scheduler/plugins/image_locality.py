"""Pure: ImageLocality: nodes that have the pod's images already, weighted by size and spread."""

from collections.abc import Sequence
from typing import Any

from kubette.kube_scheduler.framework import MAX_SCORE, Snapshot
from kubette.kube_scheduler.node_info import NodeInfo, Object

_MB = 1024 * 1024
_LEAST = 23 * _MB
_MOST_PER_CONTAINER = 1000 * _MB


def _normalized(image: str) -> str:
    return image if ":" in image.rsplit("/", 1)[-1] or "@" in image else f"{image}:latest"


class ImageLocality:
    name = "ImageLocality"

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> dict[str, dict[str, int]]:
        """Per node name: image name -> size scaled by the share of nodes that have it."""
        held = {node.name: self._images(node) for node in snapshot.nodes}
        spread: dict[str, int] = {}
        for found in held.values():
            for image in found:
                spread[image] = spread.get(image, 0) + 1
        count = max(1, len(snapshot.nodes))
        return {name: {image: size * spread[image] // count for image, size in found.items()} for name, found in held.items()}

    def _images(self, node: NodeInfo) -> dict[str, int]:
        found = {}
        for image in (node.node.get("status") or {}).get("images") or ():
            for name in image.get("names") or ():
                found[name] = image.get("sizeBytes", 0)
        return found

    def score(self, state: dict[str, dict[str, int]], pod: Object, node: NodeInfo) -> int:
        containers = [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
        held = state.get(node.name, {})
        total = sum(held.get(_normalized(c.get("image", "")), 0) for c in containers)
        most = _MOST_PER_CONTAINER * max(1, len(containers))
        return MAX_SCORE * (min(max(total, _LEAST), most) - _LEAST) // (most - _LEAST)

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        return scores
