"""Wires the process: the secure port, leader election, and while leading every chosen controller."""

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kubette.client import elected
from kubette.client.informer import InformerFactory
from kubette.client.rest import Client
from kubette.component_base import logs, metrics
from kubette.kube_controller_manager import config, controllers
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.service_account_tokens import ServiceAccountTokens
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

USER_AGENT = "kube-controller-manager"


class Runnable(Protocol):
    """What every controller class is."""

    async def run(self) -> None: ...


async def serve(options: Any) -> None:
    """The whole life of the process."""
    chosen = config.validate(options)

    async def work(client: Client, registry: metrics.Registry) -> None:
        await run_controllers(options, chosen, client, registry)

    await elected.serve(options, USER_AGENT, work)


async def run_controllers(options: Any, chosen: Sequence[controllers.Entry], client: Client, registry: metrics.Registry) -> None:
    """Start all controllers side by side on shared informers, until cancelled or one of them fails."""
    async with contextlib.AsyncExitStack() as stack:
        client_of = await _clients(stack, options, client)
        async with Scope() as scope:
            context = Context(options, client, InformerFactory(client), client_of, scope, registry)
            runnables = [(entry, _make(entry, context)) for entry in chosen]
            _install_metrics(context)
            context.informers.start(scope)
            for entry, runnable in runnables:
                log.v(1, "Starting controller", controller=entry.name)
                scope.start(runnable.run(), entry.name)
            await scope.wait()


def _make(entry: controllers.Entry, context: Context) -> Runnable:
    module, _, name = entry.target.partition(":")
    made: Runnable = getattr(importlib.import_module(module), name)(context)
    return made


async def _clients(stack: contextlib.AsyncExitStack, options: Any, client: Client) -> Callable[[str], Client]:
    """How a controller gets its client: with a service account of its own, or with ours."""
    if not options.use_service_account_credentials:
        return lambda account: client
    # Without our client certificate: it would win over the token.
    bare = dataclasses.replace(client.config, cert_file="", key_file="", cert_data="", key_data="", token="", token_file="")
    shared = await stack.enter_async_context(Client(bare, USER_AGENT, field_manager="kube-controller-manager"))
    made: dict[str, Client] = {}

    def client_of(account: str) -> Client:
        if account not in made:
            made[account] = shared.with_tokens(ServiceAccountTokens(client, account, SYSTEM_CLOCK))
        return made[account]

    return client_of


class _QueueMetric:
    """One number of every controller's queue, under client-go's names and labels."""

    def __init__(self, name: str, help: str, kind: str, context: Context, field: str) -> None:
        self.name, self.help, self.kind, self._context, self._field = name, help, kind, context, field

    def render(self) -> list[str]:
        return [f'{self.name}{{name="{c.name}"}} {c.statistics()[self._field]}' for c in self._context.controllers]


def _install_metrics(context: Context) -> None:
    context.registry.add(_QueueMetric("workqueue_depth", "Current depth of workqueue", "gauge", context, "depth"))
    context.registry.add(_QueueMetric("workqueue_unfinished_keys", "Keys being processed", "gauge", context, "active"))
    context.registry.add(_QueueMetric("workqueue_retries_total", "Total number of retries handled by workqueue", "counter", context, "error"))
