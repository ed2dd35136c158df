"""Where pods come from: files of this machine and the API server (kubelet/config).

The file source is told by inotify and reads the directory again every `fileCheckFrequency` in case it was not; any file whose name does
not begin with a dot counts. A file that cannot be parsed leaves the pod it described before as it is: a half-written manifest must not
kill etcd.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubette.apimachinery import timestamps
from kubette.client import resources
from kubette.client.informer import Handler, Informer
from kubette.client.rest import Client
from kubette.component_base import logs
from kubette.kubelet import pod_spec, static_pods
from kubette.kubelet.pod_spec import Pod
from kubette.stdx import inotify
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

MANIFEST_BYTES_MAX = 10 << 20  # upstream's limit of a config file
RESCAN_S_MIN = 0.5
SETTLE_S = 0.02  # an editor's write, rename and chmod are one change


class FileSource:
    """`put` and `remove` are called with static pods."""

    def __init__(self, path: str, node_name: str, clock: Clock, rescan_s: float, put: Callable[[Pod], None], remove: Callable[[Pod], None]) -> None:
        self._path, self._node_name, self._clock = path, node_name, clock
        self._rescan_s = max(rescan_s, RESCAN_S_MIN)
        self._put, self._remove = put, remove
        self._by_file: dict[str, tuple[bytes, Pod | None]] = {}
        self.has_synced = False

    def scan(self) -> None:
        """Read all files and report what is new, changed or gone."""
        present = self._read()
        gone = [f for f in self._by_file if f not in present]
        for file in gone:
            _, pod = self._by_file.pop(file)
            if pod is not None:
                self._remove(pod)
        for file, content in sorted(present.items()):
            before = self._by_file.get(file)
            if before is not None and before[0] == content:
                continue
            old = before[1] if before else None
            pod = self._parse(file, content)
            self._by_file[file] = (content, pod or old)
            if pod is None:
                continue
            if old is not None and pod_spec.uid(old) == pod_spec.uid(pod):
                continue
            if old is not None:
                self._remove(old)
            self._put(pod)
        self.has_synced = True

    def _read(self) -> dict[str, bytes]:
        path = Path(self._path)
        files = [path] if path.is_file() else []
        if not files:
            try:
                files = [path / name for name in os.listdir(path) if not name.startswith(".")]
            except FileNotFoundError:
                return {}
            except OSError as error:
                log.error("Unable to read config path", err=error, path=self._path)
                return {file: content for file, (content, _) in self._by_file.items()}
        present = {}
        for file in files:
            try:
                if file.is_file():
                    with file.open("rb") as stream:
                        present[str(file)] = stream.read(MANIFEST_BYTES_MAX)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.error("Could not process manifest file", err=error, path=str(file))
                if str(file) in self._by_file:
                    present[str(file)] = self._by_file[str(file)][0]
        return present

    def _parse(self, file: str, content: bytes) -> Pod | None:
        import yaml

        try:
            document: Any = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            return static_pods.from_manifest(document, file, self._node_name, timestamps.format_micro_time(self._clock.wall()))
        except (yaml.YAMLError, static_pods.InvalidManifest) as error:
            log.error("Could not process manifest file", err=" ".join(str(error).split()), path=file)
            return None

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        import asyncio

        with inotify.Watcher() as watcher:
            watched: tuple[int, int] | None = None
            while True:
                watched = self._watch(watcher, watched)
                self.scan()
                if await watcher.wait(self._rescan_s if watched else min(self._rescan_s, 1.0)):
                    await asyncio.sleep(SETTLE_S)

    def _watch(self, watcher: inotify.Watcher, watched: tuple[int, int] | None) -> tuple[int, int] | None:
        """Watch the path, again if it was replaced by another; None while it does not exist."""
        try:
            stat = os.stat(self._path)
            identity = (stat.st_dev, stat.st_ino)
            if identity != watched:
                watcher.add(self._path, inotify.CHANGES_OF_DIRECTORY | inotify.IN_MODIFY)
            return identity
        except OSError:
            return None


class ApiSource:
    """The pods bound to this node, mirrors included."""

    def __init__(self, client: Client, node_name: str, put: Callable[[Pod], None], remove: Callable[[Pod], None]) -> None:
        self.informer = Informer(client, resources.PODS, field_selector=f"spec.nodeName={node_name}")

        def replaced(old: Pod, new: Pod) -> None:
            if pod_spec.uid(old) != pod_spec.uid(new):
                # Deleted and created again under the same name between two looks.
                remove(old)
            put(new)

        self.informer.add_handler(Handler(put, replaced, remove))

    @property
    def has_synced(self) -> bool:
        return self.informer.has_synced

    async def run(self) -> None:
        await self.informer.run()
