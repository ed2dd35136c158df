"""Container events for an evented PLEG: every subscriber gets all of them, or its stream ends."""

import asyncio
from collections.abc import AsyncIterator

from kubette.cri import api_pb2

# A subscriber this far behind is dropped and must list again.
EVENTS_MAX = 1000


class Broadcast:
    """Fans events out to the streams of GetContainerEvents."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[api_pb2.ContainerEventResponse | None]] = set()

    def publish(self, event: api_pb2.ContainerEventResponse) -> None:
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    @property
    def watched(self) -> bool:
        return bool(self._queues)

    async def stream(self) -> AsyncIterator[api_pb2.ContainerEventResponse]:
        """Events from now on; ends when this reader has fallen behind."""
        queue: asyncio.Queue[api_pb2.ContainerEventResponse | None] = asyncio.Queue(EVENTS_MAX)
        self._queues.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.discard(queue)
