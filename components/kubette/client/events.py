"""Records events on objects (client-go's record and events packages).

`Recorder` writes core/v1 Events, as the kubelet and the controllers do; `NewRecorder` writes events.k8s.io/v1, as the scheduler does.
`event` never waits and never fails: it puts the event into a bounded queue that one task (`run`) sends.
"""

import asyncio
from collections import OrderedDict
from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import resources
from kubette.client.event_correlator import Correlator
from kubette.client.resources import Resource
from kubette.client.rest import FAILURES, Client, PatchType
from kubette.client.transport import TransportError
from kubette.component_base import logs
from kubette.stdx.clock import SYSTEM_CLOCK, Clock

Object = dict[str, Any]

NORMAL, WARNING = "Normal", "Warning"

QUEUE_EVENTS_MAX = 1000  # upstream's; events beyond are dropped
MESSAGE_BYTES_MAX = 1024
SEND_ATTEMPTS = 12
SEND_RETRY_S = 10.0
SERIES_ENTRIES_MAX = 1024
SERIES_REFRESH_S = 360.0  # a series that stays quiet for this long is over

log = logs.logger(__name__)


def reference(obj: Object, field_path: str = "") -> Object:
    """The ObjectReference of an object that names its kind."""
    found = {
        "kind": obj.get("kind", ""),
        "namespace": meta.namespace(obj),
        "name": meta.name(obj),
        "uid": meta.uid(obj),
        "apiVersion": obj.get("apiVersion", ""),
        "resourceVersion": meta.resource_version(obj),
        "fieldPath": field_path,
    }
    return {k: v for k, v in found.items() if v}


def event_name(name: str, wall: float) -> str:
    """`web.18bdd5a6c7f8e901`: unique by its time in nanoseconds."""
    return f"{name}.{int(wall * 1e9):x}"


class _Sender:
    """The queue and the task that both recorders share."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: asyncio.Queue[Object] = asyncio.Queue(QUEUE_EVENTS_MAX)

    def _put(self, event: Object) -> None:
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("Dropped an event: too many are waiting", reason=event.get("reason", ""))

    async def run(self) -> None:
        """Send events until cancelled."""
        while True:
            event = await self._queue.get()
            for attempt in range(1, SEND_ATTEMPTS + 1):
                try:
                    await self._send(event)
                    break
                except TransportError as error:
                    if attempt == SEND_ATTEMPTS:
                        log.error("Unable to write event (retry limit exceeded!)", err=error)
                        break
                    await asyncio.sleep(SEND_RETRY_S)
                except status.ApiError as error:
                    # The server understood and refused: for instance a namespace that is going away.
                    log.v(2, "Server rejected event", err=error, event=meta.key(event))
                    break
                except Exception as error:
                    log.error("Unable to write event", err=error, event=meta.key(event))
                    break

    async def flush(self) -> None:
        """Send what waits, once, without retries: for a process about to end."""
        while not self._queue.empty():
            try:
                await self._send(self._queue.get_nowait())
            except FAILURES:
                return

    async def _send(self, event: Object) -> None:
        raise NotImplementedError


class Recorder(_Sender):
    """Writes core/v1 Events in the name of one component."""

    def __init__(self, client: Client, component: str, host: str = "", clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(client)
        self._source = {"component": component, "host": host} if host else {"component": component}
        self._clock = clock
        self._correlator = Correlator()

    def event(self, obj: Object, type: str, reason: str, message: str, annotations: dict[str, str] | None = None, field_path: str = "") -> None:
        """Something happened to `obj` (an object with kind and metadata, or an ObjectReference)."""
        involved = reference(obj, field_path) if "metadata" in obj else {**obj, **({"fieldPath": field_path} if field_path else {})}
        wall = self._clock.wall()
        stamp = timestamps.format_time(wall)
        metadata: Object = {"name": event_name(involved.get("name", ""), wall), "namespace": involved.get("namespace") or "default"}
        if annotations:
            metadata["annotations"] = annotations
        self._put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": metadata,
                "involvedObject": involved,
                "reason": reason,
                "message": message[:MESSAGE_BYTES_MAX],
                "source": self._source,
                "firstTimestamp": stamp,
                "lastTimestamp": stamp,
                "count": 1,
                "type": type,
                "eventTime": None,
                "reportingComponent": self._source["component"],
                "reportingInstance": self._source.get("host", ""),
            }
        )

    async def _send(self, event: Object) -> None:
        decision = self._correlator.correlate(event, self._clock.wall())
        if decision is None:
            return
        event = decision.event
        namespace = event["metadata"]["namespace"]
        if decision.patch is not None:
            try:
                name = event["metadata"]["name"]
                await self._client.patch(resources.EVENTS, namespace, name, decision.patch, PatchType.STRATEGIC)
                return
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise
                # It lived its hour: begin again under a new name.
                self._correlator.forget(decision.key)
                involved = event["involvedObject"]
                event = {**event, "count": 1, "metadata": {**event["metadata"], "name": event_name(involved.get("name", ""), self._clock.wall())}}
        try:
            await self._client.create(resources.EVENTS, namespace, event)
        except FAILURES:
            # Nothing to count onto: a repetition must create it.
            self._correlator.forget(decision.key)
            raise


class NewRecorder(_Sender):
    """Writes events.k8s.io/v1 Events; repetitions become a series on the first."""

    def __init__(self, client: Client, reporting_controller: str, reporting_instance: str, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(client)
        self._controller, self._instance, self._clock = reporting_controller, reporting_instance, clock
        self._sent: OrderedDict[tuple[str, ...], tuple[str, int, float]] = OrderedDict()  # name, count, last time

    def event(self, regarding: Object, type: str, reason: str, action: str, note: str, related: Object | None = None) -> None:
        """Something was done (`action`) to `regarding`, for `reason`."""
        about = reference(regarding) if "metadata" in regarding else dict(regarding)
        wall = self._clock.wall()
        event: Object = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": event_name(about.get("name", ""), wall), "namespace": about.get("namespace") or "default"},
            "eventTime": timestamps.format_micro_time(wall),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "action": action,
            "reason": reason,
            "regarding": about,
            "note": note[:MESSAGE_BYTES_MAX],
            "type": type,
        }
        if related is not None:
            event["related"] = reference(related) if "metadata" in related else dict(related)
        self._put(event)

    async def _send(self, event: Object) -> None:
        about = event["regarding"]
        key = (
            event["action"],
            event["reason"],
            event["type"],
            event["note"],
            *(about.get(f, "") for f in ("kind", "namespace", "name", "uid", "fieldPath")),
        )
        wall = self._clock.wall()
        earlier = self._sent.get(key)
        resource: Resource = resources.NEW_EVENTS
        if earlier is not None and wall - earlier[2] < SERIES_REFRESH_S:
            name, count = earlier[0], earlier[1] + 1
            patch = {"series": {"count": count, "lastObservedTime": event["eventTime"]}}
            try:
                await self._client.patch(resource, event["metadata"]["namespace"], name, patch, PatchType.STRATEGIC)
                self._remember(key, name, count, wall)
                return
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise
        await self._client.create(resource, event["metadata"]["namespace"], event)
        self._remember(key, event["metadata"]["name"], 1, wall)

    def _remember(self, key: tuple[str, ...], name: str, count: int, wall: float) -> None:
        self._sent[key] = (name, count, wall)
        self._sent.move_to_end(key)
        if len(self._sent) > SERIES_ENTRIES_MAX:
            self._sent.popitem(last=False)
