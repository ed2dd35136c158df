"""The pods this node shall run, from all sources, and which mirror stands for which static pod (kubelet/pod).

Holds state only; who changes it tells the workers. Keys: uid for pods, `name_namespace` to pair a static pod with its mirror.
"""

from kubette.kubelet import pod_spec
from kubette.kubelet.pod_spec import Pod


class PodManager:
    """`pods` are what runs (static pods, API pods); mirrors are kept apart."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}
        self._mirrors: dict[str, Pod] = {}

    def put(self, pod: Pod) -> None:
        if pod_spec.is_mirror(pod):
            self._mirrors[pod_spec.full_name(pod)] = pod
        else:
            self._pods[pod_spec.uid(pod)] = pod

    def remove(self, pod: Pod) -> None:
        if pod_spec.is_mirror(pod):
            known = self._mirrors.get(pod_spec.full_name(pod))
            if known is not None and pod_spec.uid(known) == pod_spec.uid(pod):
                del self._mirrors[pod_spec.full_name(pod)]
        else:
            self._pods.pop(pod_spec.uid(pod), None)

    def get(self, uid: str) -> Pod | None:
        return self._pods.get(uid)

    def pods(self) -> list[Pod]:
        return list(self._pods.values())

    def mirrors(self) -> list[Pod]:
        return list(self._mirrors.values())

    def mirror_of(self, pod: Pod) -> Pod | None:
        return self._mirrors.get(pod_spec.full_name(pod))

    def static_of(self, mirror: Pod) -> Pod | None:
        """The static pod a mirror stands for."""
        wanted = pod_spec.full_name(mirror)
        return next((p for p in self._pods.values() if pod_spec.is_static(p) and pod_spec.full_name(p) == wanted), None)

    def find(self, namespace: str, name: str) -> Pod | None:
        """By its name in the API; a static pod answers to its mirror's."""
        return next((p for p in self._pods.values() if pod_spec.key(p) == f"{namespace}/{name}"), None)

    def find_uid(self, uid: str) -> Pod | None:
        """By uid, a mirror's uid included."""
        if uid in self._pods:
            return self._pods[uid]
        mirror = next((m for m in self._mirrors.values() if pod_spec.uid(m) == uid), None)
        return self.static_of(mirror) if mirror is not None else None

    def api_pod(self, pod: Pod) -> Pod | None:
        """What the API server knows this pod as: itself, or its mirror."""
        return self.mirror_of(pod) if pod_spec.is_static(pod) else self._pods.get(pod_spec.uid(pod))
