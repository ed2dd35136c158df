"""Sets up and tears down the volumes of pods (volumemanager), and answers where each lies.

Setting up is idempotent: it runs at every sync, which is also how a changed ConfigMap or a renewed token reaches the pod.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from kubette.apimachinery import quantity
from kubette.component_base import logs
from kubette.kubelet import pod_spec
from kubette.kubelet.start_error import StartError
from kubette.kubelet.volumes import atomic_writer, host_path, mounts, ownership, payloads
from kubette.kubelet.volumes.payloads import VolumeError
from kubette.kubelet.volumes.tokens import TokenManager

Object = dict[str, Any]

log = logs.logger(__name__)

PLUGIN = {
    "emptyDir": "kubernetes.io~empty-dir",
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
}
IN_MEMORY = ("secret", "projected")  # credentials stay off the disk


class VolumeManager:
    """`object_of(pod, kind, name)` answers a ConfigMap or Secret; `claim_of(pod, name)` the PersistentVolume's spec of a claim."""

    def __init__(
        self,
        root_dir: str,
        tokens: TokenManager,
        object_of: Callable[[Object, str, str], Awaitable[Object | None]],
        claim_of: Callable[[Object, str], Awaitable[Object]],
        allocatable: Callable[[], Mapping[str, str]],
    ) -> None:
        self._root = Path(root_dir) / "pods"
        self._tokens, self._object_of, self._claim_of, self._allocatable = tokens, object_of, claim_of, allocatable

    async def set_up(self, pod: Object) -> tuple[dict[str, Path], list[tuple[str, str]]]:
        """Volume name -> path, and (volume name, error) of those that failed."""
        paths: dict[str, Path] = {}
        failures: list[tuple[str, str]] = []
        for volume in pod["spec"].get("volumes") or []:
            try:
                paths[volume["name"]] = await self._set_up(pod, volume)
            except StartError as error:
                failures.append((volume["name"], error.message))
            except (VolumeError, OSError, ValueError) as error:
                failures.append((volume["name"], str(error)))
        return paths, failures

    async def _set_up(self, pod: Object, volume: Object) -> Path:
        name = str(volume["name"])
        kind = next((k for k in volume if k != "name"), "emptyDir")
        if kind == "hostPath":
            return host_path.prepare(volume["hostPath"])
        if kind == "persistentVolumeClaim":
            spec = await self._claim_of(pod, volume[kind]["claimName"])
            if "hostPath" in spec:
                return host_path.prepare(spec["hostPath"])
            if "local" in spec:
                return host_path.prepare({"path": spec["local"]["path"]})
            raise VolumeError("no volume plugin matched: only hostPath and local persistent volumes can be mounted")
        if kind not in PLUGIN:
            raise VolumeError("no volume plugin matched")
        path: Path = self._root / pod_spec.uid(pod) / "volumes" / PLUGIN[kind] / name
        if kind == "emptyDir":
            self._empty_dir(path, volume["emptyDir"] or {}, self._group(pod))
            return path
        objects = {(k, n): await self._object_of(pod, k, n) for k, n in sorted(payloads.references(volume))}
        token_of = {source["path"]: await self._tokens.token(pod, source) for source in payloads.tokens(volume)}
        payload = payloads.files(pod, volume, objects, token_of, self._allocatable())
        path.mkdir(parents=True, exist_ok=True)
        if kind in IN_MEMORY and not mounts.is_mount_point(path):
            # Not there yet, or lost in a reboot of the machine.
            mounts.mount_tmpfs(path, "mode=0755")
        await asyncio.to_thread(atomic_writer.write, path, payload, self._group(pod))
        return path

    @staticmethod
    def _group(pod: Object) -> int | None:
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        return None if group is None else int(group)

    def _empty_dir(self, path: Path, source: Object, group: int | None) -> None:
        in_memory = source.get("medium") == "Memory"
        if path.exists() and not (in_memory and not mounts.is_mount_point(path)):
            return
        path.mkdir(parents=True, exist_ok=True)
        if in_memory:
            limit = source.get("sizeLimit")
            size = f",size={quantity.parse(limit).value}" if limit else ""
            if not mounts.mount_tmpfs(path, f"mode=0777{size}"):
                log.warning("May not mount a tmpfs, the volume is on disk", path=str(path))
        elif str(source.get("medium") or "").startswith("HugePages"):
            raise VolumeError("hugepages are not available on this node")
        os.chmod(path, 0o777)
        if group is not None:
            ownership.give_to_group(path, group)
            os.chmod(path, 0o2777)

    async def tear_down(self, uid: str) -> None:
        """Remove everything of a pod that has ended."""
        await asyncio.to_thread(self._remove, self._root / uid)
        self._tokens.forget(uid)

    def _remove(self, directory: Path) -> None:
        volumes = directory / "volumes"
        if volumes.exists():
            for plugin in volumes.iterdir():
                for path in plugin.iterdir():
                    if mounts.is_mount_point(path):
                        mounts.unmount(path)
        shutil.rmtree(directory, ignore_errors=True)

    def known_uids(self) -> list[str]:
        """The pods that have a directory here, running or left over."""
        try:
            return sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []
