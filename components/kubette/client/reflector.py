"""Keeps a sink equal to a resource on the server: list at a revision, then watch from it (client-go's Reflector).

The watch is resumed from the last revision seen (bookmarks move it on while nothing happens). When the server no longer knows that
revision (410), or not yet, everything is listed again. The list is always a consistent one: a cache restarted against a lagging API server must
not travel back in time (RELIABILITY, INV-A4).

Also when no server could be reached: it may come back over an etcd that was restored from a backup, in whose history the revision means something else. (There
client-go resumes, and upstream's advice is to restart every component after a restore.)
"""

import asyncio
import random
from typing import Any, Protocol

from kubette.apimachinery.status import ApiError
from kubette.client.resources import Resource
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import logs
from kubette.stdx.backoff import Backoff

Object = dict[str, Any]

log = logs.logger(__name__)

# Upstream backs off from 0.8 to 30 s; a cluster that starts in seconds retries sooner and, being small, may keep doing so.
RETRY = Backoff(base_s=0.1, cap_s=5.0, factor=2.0, jitter=0.5)
WATCH_TIMEOUT_S_MIN = 300.0  # the server ends a watch after this to twice this, spread so that not all return at once


class Sink(Protocol):
    """What a reflector fills."""

    def replace(self, objects: list[Object]) -> None:
        """The whole truth, after a list."""

    def apply(self, kind: str, obj: Object) -> None:
        """One event: ADDED, MODIFIED or DELETED."""


class Reflector:
    """Lists and watches one resource for ever; `run` is a task's whole work."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        sink: Sink,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        rng: random.Random | None = None,
        metadata_only: bool = False,
    ) -> None:
        self._client, self._resource, self._sink, self._namespace = client, resource, sink, namespace
        self._label_selector, self._field_selector = label_selector, field_selector
        self._metadata_only = metadata_only
        self._rng = rng or random.Random()
        self.resource_version = ""
        self._connected = False  # the last watch got an answer

    async def run(self) -> None:
        """Follow the resource until cancelled; every failure is logged, waited for and tried again."""
        failures = 0
        while True:
            try:
                if not self.resource_version:
                    await self._list()
                    failures = 0
                seen = await self._watch()
                # A server that opens a watch only to close it would otherwise be asked again without pause.
                failures = 0 if seen else failures + 1
            except ApiError as error:
                if error.code == 410 or _is_too_large(error):
                    log.v(2, "Watch expired, listing again", resource=self._resource.group_resource, err=error)
                    self.resource_version = ""
                    continue
                failures += 1
                self._report(error, failures)
            except TransportError as error:
                if not self._connected:
                    self.resource_version = ""
                failures += 1
                self._report(error, failures)
            if failures:
                await asyncio.sleep(RETRY.delay(failures - 1, self._rng))

    def _report(self, error: Exception, failures: int) -> None:
        if failures == 1:
            log.v(2, "Reflector lost its connection", resource=self._resource.group_resource, err=error)
        elif failures == 5 or failures % 60 == 0:
            log.warning("Failed to list or watch", resource=self._resource.group_resource, failures=failures, err=error)

    async def _list(self) -> None:
        objects, version = await self._client.list_all(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
        )
        self._sink.replace(objects)
        self.resource_version = version

    async def _watch(self) -> bool:
        """Apply events until the server ends the watch; answers whether it brought any."""
        timeout_s = WATCH_TIMEOUT_S_MIN * (1 + self._rng.random())
        seen = self._connected = False
        started = asyncio.get_running_loop().time()
        async with self._client.watch(
            self._resource,
            self._namespace,
            resource_version=self.resource_version,
            timeout_s=timeout_s,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
        ) as events:
            self._connected = True
            async for kind, obj in events:
                seen = True
                version = obj["metadata"].get("resourceVersion", "")
                if kind != "BOOKMARK":
                    self._sink.apply(kind, obj)
                if version:
                    self.resource_version = version
        return seen or asyncio.get_running_loop().time() - started > 1.0


def _is_too_large(error: ApiError) -> bool:
    """The server has not reached the revision: it belongs to a history that was taken back."""
    causes = (error.details or {}).get("causes") or []
    return error.code == 504 and any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes)
