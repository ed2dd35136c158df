"""Pure: nodes with their pods, bound ones and assumed ones (upstream: pkg/scheduler/backend/cache).

A pod is *assumed* on its node from the decision until the watch confirms the binding, so that the next decision counts it.
"""

from dataclasses import dataclass, field

from kubette.apimachinery.meta import key as key_of
from kubette.kube_scheduler.node_info import NodeInfo, Object, is_terminal


@dataclass(slots=True)
class Cache:
    """The scheduler's picture of the cluster. Nodes keep the order of their names, so that equal clusters decide equally."""

    _nodes: dict[str, NodeInfo] = field(default_factory=dict)
    _homeless: dict[str, dict[str, Object]] = field(default_factory=dict)  # pods of nodes not (or no longer) known
    _places: dict[str, str] = field(default_factory=dict)  # pod key -> node
    _assumed: set[str] = field(default_factory=set)

    def nodes(self) -> list[NodeInfo]:
        return [self._nodes[name] for name in sorted(self._nodes)]

    def set_node(self, node: Object) -> None:
        name = node["metadata"]["name"]
        info = self._nodes.get(name)
        if info is not None:
            info.set_node(node)
            return
        info = self._nodes[name] = NodeInfo(node)
        for pod in self._homeless.pop(name, {}).values():
            info.add_pod(pod)

    def remove_node(self, name: str) -> None:
        info = self._nodes.pop(name, None)
        if info is not None and info.pods:
            self._homeless[name] = dict(info.pods)

    def set_pod(self, pod: Object) -> None:
        """A pod that is bound, as the API server has it."""
        key, node = key_of(pod), pod["spec"]["nodeName"]
        self._assumed.discard(key)
        self.remove_pod(key)
        if not is_terminal(pod):
            self._place(pod, key, node)

    def _place(self, pod: Object, key: str, node: str) -> None:
        self._places[key] = node
        info = self._nodes.get(node)
        if info is not None:
            info.add_pod(pod)
        else:
            self._homeless.setdefault(node, {})[key] = pod

    def remove_pod(self, key: str) -> None:
        node = self._places.pop(key, None)
        self._assumed.discard(key)
        if node is None:
            return
        info = self._nodes.get(node)
        if info is not None and key in info.pods:
            info.remove_pod(info.pods[key])
        self._homeless.get(node, {}).pop(key, None)

    def assume_pod(self, pod: Object, node: str) -> None:
        key = key_of(pod)
        self._place({**pod, "spec": {**pod["spec"], "nodeName": node}}, key, node)
        self._assumed.add(key)

    def forget_pod(self, key: str) -> None:
        """The binding failed: take the assumption back (a confirmed pod stays)."""
        if key in self._assumed:
            self.remove_pod(key)

    def is_assumed(self, key: str) -> bool:
        return key in self._assumed
