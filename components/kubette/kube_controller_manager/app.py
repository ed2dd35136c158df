"""Wires the process: the secure port, leader election, and while leading every chosen controller."""

import contextlib
import dataclasses
import importlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kubette.client import kubeconfig
from kubette.client.informer import InformerFactory
from kubette.client.leader_election import Config, LeaderElector, LeadershipLost, new_identity
from kubette.client.rest import Client
from kubette.component_base import health, logs, metrics
from kubette.component_base.run import StartupError
from kubette.kube_controller_manager import config, controllers, server
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
    client_config = _load(options.kubeconfig, options.master)
    registry = metrics.Registry()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(client_config, USER_AGENT, field_manager="kube-controller-manager"))
        reviewer = await _reviewer(stack, options)
        elector = _elector(client, options)
        checks = _checks(elector)
        await stack.enter_async_context(server.serving(options, registry, checks, reviewer))

        async def lead() -> None:
            await run_controllers(options, chosen, client, registry)

        if elector is None:
            await lead()
            return
        leader = registry.gauge("leader_election_master_status", "Whether the reporting system is master of the relevant lease.", ["name"])
        leader.set(0, options.leader_elect_resource_name)
        try:
            await elector.run(_mark(lead, leader, options.leader_elect_resource_name))
        except LeadershipLost as error:
            raise StartupError(str(error)) from None


def _mark(lead: Callable[[], Any], gauge: metrics.Gauge, name: str) -> Callable[[], Any]:
    async def marked() -> None:
        gauge.set(1, name)
        await lead()

    return marked


def _load(path: str, master: str) -> kubeconfig.ClientConfig:
    try:
        return kubeconfig.load(path, master=master)
    except kubeconfig.KubeconfigError as error:
        raise StartupError(str(error)) from error


async def _reviewer(stack: contextlib.AsyncExitStack, options: Any) -> Client | None:
    """The client that asks TokenReviews and SubjectAccessReviews; kubeadm gives both flags the same file."""
    path = options.authentication_kubeconfig or options.authorization_kubeconfig
    if not path:
        return None
    return await stack.enter_async_context(Client(_load(path, ""), USER_AGENT))


def _elector(client: Client, options: Any) -> LeaderElector | None:
    if not options.leader_elect:
        return None
    try:
        return LeaderElector(
            client,
            Config(
                options.leader_elect_resource_name,
                new_identity(socket.gethostname()),
                options.leader_elect_resource_namespace,
                options.leader_elect_lease_duration,
                options.leader_elect_renew_deadline,
                options.leader_elect_retry_period,
            ),
        )
    except ValueError as error:
        raise StartupError(str(error)) from None


def _checks(elector: LeaderElector | None) -> dict[str, health.Check]:
    async def leader_election() -> str | None:
        if elector is None or elector.healthy():
            return None
        return "failed election to renew leadership on lease"

    return {"leaderElection": leader_election}


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
