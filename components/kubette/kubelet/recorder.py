"""The kubelet's events: about pods, their containers and the node; without an API server they are dropped (standalone)."""

from typing import Any

from kubette.client.events import Recorder
from kubette.kubelet import pod_spec

NORMAL, WARNING = "Normal", "Warning"


class EventRecorder:
    """`pod` and `node` events in upstream's form; static pods' events carry the static uid, as upstream's do."""

    def __init__(self, sink: Recorder | None, node_name: str) -> None:
        self._sink, self._node_name = sink, node_name

    def pod(self, pod: pod_spec.Pod, type: str, reason: str, message: str, container: str = "") -> None:
        if self._sink is None:
            return
        metadata = pod["metadata"]
        uid = pod_spec.uid(pod)
        if pod_spec.is_static(pod):
            # What the API server knows as this pod is its mirror; its hash is the uid upstream's events name.
            uid = pod_spec.annotations(pod).get(pod_spec.CONFIG_HASH, uid)
        reference: dict[str, Any] = {"kind": "Pod", "namespace": pod_spec.namespace(pod), "name": pod_spec.name(pod), "uid": uid, "apiVersion": "v1"}
        if metadata.get("resourceVersion"):
            reference["resourceVersion"] = metadata["resourceVersion"]
        self._sink.event(reference, type, reason, message, field_path=pod_spec.field_path(pod, container) if container else "")

    def node(self, type: str, reason: str, message: str) -> None:
        if self._sink is not None:
            self._sink.event({"kind": "Node", "name": self._node_name, "uid": self._node_name}, type, reason, message)
