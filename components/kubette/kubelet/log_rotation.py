"""Rotates container logs: `containerLogMaxSize`, `containerLogMaxFiles` (kubelet/logs' container_log_manager).

`0.log` becomes `0.log.<time>` and the runtime reopens it; older rotated logs are compressed, the oldest removed.
"""

import asyncio
import gzip
import os
import shutil
import time
from pathlib import Path

from kubette.component_base import logs
from kubette.cri import api_pb2
from kubette.kubelet.config import Config
from kubette.kubelet.cri_client import CriClient, CriError

log = logs.logger(__name__)

PERIOD_S = 10.0  # upstream's containerLogMonitorInterval


class LogRotation:
    """Looks at the logs of running containers now and then."""

    def __init__(self, config: Config, cri: CriClient) -> None:
        self._config, self._cri = config, cri
        self._root = Path(config.pod_logs_dir)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            large = await asyncio.to_thread(self._too_large)
            if not large:
                # Usually nothing is large enough: the runtime is not even asked.
                continue
            try:
                for container in await self._cri.list_containers():
                    if container.state == api_pb2.CONTAINER_RUNNING:
                        await self._rotate_one(container.id, large)
            except CriError as error:
                log.error("Failed to rotate container logs", err=error)

    def _too_large(self) -> set[str]:
        found = set()
        for path in self._root.glob("*/*/*.log"):
            try:
                if path.stat().st_size >= self._config.log_bytes_max:
                    found.add(str(path))
            except OSError:
                continue
        return found

    async def _rotate_one(self, container_id: str, large: set[str]) -> None:
        status = await self._cri.container_status(container_id)
        if status.log_path not in large:
            return
        path = Path(status.log_path)
        await asyncio.to_thread(prune, path, self._config.log_files_max)
        rotated = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
        os.rename(path, rotated)
        try:
            await self._cri.reopen_log(container_id)
        except CriError:
            # The container writes on into the renamed file: give it its name back.
            os.rename(rotated, path)
            raise


def prune(path: Path, files_max: int) -> None:
    """Compress rotated logs but the newest, and keep `files_max` files in all, the live one and the next rotated one included."""
    rotated = sorted(p for p in path.parent.glob(f"{path.name}.*") if not p.name.endswith(".tmp"))
    keep = max(files_max - 2, 0)
    for old in rotated[: max(len(rotated) - keep, 0)]:
        old.unlink(missing_ok=True)
    for old in rotated[max(len(rotated) - keep, 0) :]:
        if old.suffix == ".gz":
            continue
        temporary = old.with_name(f"{old.name}.tmp")
        with old.open("rb") as source, gzip.open(temporary, "wb") as target:
            shutil.copyfileobj(source, target)
        os.replace(temporary, old.with_name(f"{old.name}.gz"))
        old.unlink(missing_ok=True)
