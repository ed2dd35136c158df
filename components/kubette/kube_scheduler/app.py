"""Wires the process: the secure port, leader election, and while leading one loop per profile on shared informers."""

import contextlib
import socket
from typing import Any

from kubette.client import secure_port
from kubette.client.component_flags import leader_elector, load_kubeconfig, reviewer
from kubette.client.events import NewRecorder
from kubette.client.informer import InformerFactory
from kubette.client.leader_election import LeadershipLost
from kubette.client.rest import Client
from kubette.component_base import health, metrics
from kubette.component_base.run import StartupError
from kubette.kube_scheduler import config
from kubette.kube_scheduler.metrics import Metrics
from kubette.kube_scheduler.plugins import default_profile
from kubette.kube_scheduler.scheduler import Scheduler
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

_USER_AGENT = "kube-scheduler"


async def serve(options: Any) -> None:
    """The whole life of the process."""
    names = config.scheduler_names(options)
    client_config = load_kubeconfig(options.kubeconfig, options.master)
    registry = metrics.Registry()
    instruments = Metrics(registry)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(client_config, _USER_AGENT, field_manager=_USER_AGENT))
        reviewing = reviewer(options, _USER_AGENT)
        if reviewing is not None:
            await stack.enter_async_context(reviewing)
        elector = leader_elector(client, options)

        async def leader_election() -> str | None:
            return None if elector is None or elector.healthy() else "failed election to renew leadership on lease"

        checks: dict[str, health.Check] = {"leaderElection": leader_election}
        await stack.enter_async_context(secure_port.serving(options, registry, checks, reviewing))

        async def lead() -> None:
            await _schedule(client, names, instruments)

        if elector is None:
            await lead()
            return
        try:
            await elector.run(lead)
        except LeadershipLost as error:
            raise StartupError(str(error)) from None


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
