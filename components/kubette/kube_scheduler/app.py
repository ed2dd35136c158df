"""Wires the process: the secure port, leader election, and while leading one loop per profile on shared informers."""

import socket
from typing import Any

from kubette.client import elected
from kubette.client.events import NewRecorder
from kubette.client.informer import InformerFactory
from kubette.client.rest import Client
from kubette.component_base import metrics
from kubette.kube_scheduler import config
from kubette.kube_scheduler.metrics import Metrics
from kubette.kube_scheduler.plugins import default_profile
from kubette.kube_scheduler.scheduler import Scheduler
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope


async def serve(options: Any) -> None:
    """The whole life of the process."""
    names = config.scheduler_names(options)

    async def work(client: Client, registry: metrics.Registry) -> None:
        await _schedule(client, names, Metrics(registry))

    await elected.serve(options, "kube-scheduler", work)


async def _schedule(client: Client, names: list[str], instruments: Metrics) -> None:
    async with Scope() as scope:
        factory = InformerFactory(client)
        schedulers = []
        for name in names:
            recorder = NewRecorder(client, name, f"{name}-{socket.gethostname()}")
            schedulers.append(Scheduler(client, factory, recorder, default_profile.profile(), name, SYSTEM_CLOCK, instruments))
            scope.start(recorder.run(), f"events of {name}")
        factory.start(scope)
        await factory.wait_synced()
        for scheduler in schedulers:
            scope.start(scheduler.run(), "scheduler")
        await scope.wait()
