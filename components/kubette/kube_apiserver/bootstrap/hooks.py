"""Post-start hooks: each has upstream's name, runs once the server listens, is tried again until it succeeds, and is a health check till then."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from kubette.api import kinds
from kubette.apimachinery.status import ApiError
from kubette.component_base import logs
from kubette.etcd_client import Client, EtcdError
from kubette.kube_apiserver.auth import default_roles
from kubette.kube_apiserver.bootstrap import objects
from kubette.kube_apiserver.bootstrap.kubernetes_service import KubernetesService
from kubette.kube_apiserver.bootstrap.loopback import Loopback
from kubette.kube_apiserver.bootstrap.master_leases import REFRESH_S
from kubette.kube_apiserver.config import Config
from kubette.kube_apiserver.core import Core
from kubette.kube_apiserver.healthz import Check
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

RETRY_S = 0.5
NAMESPACES_PERIOD_S = 60.0  # upstream's systemnamespaces controller

Hook = Callable[[], Awaitable[None]]


def _read(path: str) -> str:
    return Path(path).read_text() if path else ""


class PostStart:
    """The hooks of one server."""

    def __init__(self, core: Core, client: Client, config: Config) -> None:
        self._core = core
        self._loopback = Loopback(core)
        self._done: set[str] = set()
        self._service: KubernetesService | None = None
        self._client, self._config = client, config
        self._hooks: dict[str, Hook] = {"start-system-namespaces-controller": self._namespaces}
        if "RBAC" in config.options.authorization_mode:
            self._hooks["rbac/bootstrap-roles"] = self._rbac
        self._hooks["scheduling/bootstrap-system-priority-classes"] = self._priority_classes
        self._hooks["apiservice-registration-controller"] = self._api_services
        self._hooks["start-cluster-authentication-info-controller"] = self._authentication_info
        if config.options.endpoint_reconciler_type == "lease":
            self._hooks["bootstrap-controller"] = self._kubernetes

    def checks(self) -> dict[str, Check]:
        return {f"poststarthook/{name}": self._check(name) for name in self._hooks}

    def _check(self, name: str) -> Check:
        async def check() -> str | None:
            return None if name in self._done else "not finished"

        return check

    def start(self, scope: Scope, port: int) -> None:
        """Begin; the order of the table is the order of the first attempts, since later ones need the namespaces."""
        self._service = KubernetesService(self._config, self._loopback, self._client, port)
        scope.start(self._run(), "post-start-hooks")
        scope.start(self._keep("start-system-namespaces-controller", NAMESPACES_PERIOD_S), "system-namespaces")
        if "bootstrap-controller" in self._hooks:
            scope.start(self._keep("bootstrap-controller", REFRESH_S), "kubernetes-service")

    async def _run(self) -> None:
        while len(self._done) < len(self._hooks):
            for name, hook in self._hooks.items():
                if name not in self._done and await self._attempt(name, hook):
                    self._done.add(name)
            await asyncio.sleep(RETRY_S if len(self._done) < len(self._hooks) else 0)

    async def _keep(self, name: str, period_s: float) -> None:
        while True:
            await asyncio.sleep(period_s)
            if name in self._done:
                await self._attempt(name, self._hooks[name])

    async def _attempt(self, name: str, hook: Hook) -> bool:
        try:
            await hook()
            return True
        except (ApiError, EtcdError) as error:
            log.error("Failed to run post-start hook", err=error, hook=name)
            return False

    async def withdraw(self) -> None:
        """Take this server out of the endpoints of `kubernetes`."""
        if self._service is not None and "bootstrap-controller" in self._done:
            await self._attempt("withdraw", self._service.withdraw)

    async def _namespaces(self) -> None:
        for name in objects.SYSTEM_NAMESPACES:
            await self._loopback.ensure("", "namespaces", objects.namespace(name))

    async def _priority_classes(self) -> None:
        for one in objects.priority_classes():
            await self._loopback.ensure("scheduling.k8s.io", "priorityclasses", one)

    async def _rbac(self) -> None:
        group = "rbac.authorization.k8s.io"
        for wanted in default_roles.load():
            resource = wanted["kind"].lower() + "s"
            metadata = wanted["metadata"]
            current = await self._loopback.get(group, resource, metadata.get("namespace", ""), metadata["name"])
            changed = default_roles.reconciled(wanted, current)
            if changed is None:
                continue
            if current is None:
                await self._loopback.ensure(group, resource, changed)
            else:
                await self._loopback.update(group, resource, changed)

    async def _api_services(self) -> None:
        table = self._core.resources.table
        for group in table.groups():
            for version in table.versions(group):
                priority = kinds.GROUP_PRIORITY_MINIMUM.get(group, 16000)
                wanted = objects.api_service(group, version, priority, kinds.version_priority(group, version))
                if await self._loopback.ensure("apiregistration.k8s.io", "apiservices", wanted):
                    current = await self._loopback.get("apiregistration.k8s.io", "apiservices", "", wanted["metadata"]["name"])
                    if current is not None:
                        await self._loopback.update(
                            "apiregistration.k8s.io", "apiservices", {**current, "status": objects.local_status(self._core.now())}, "status"
                        )

    async def _authentication_info(self) -> None:
        """How servers that this one forwards to can believe it. Several API servers may be told different things: each adds its own."""
        options = self._config.options
        wanted = objects.authentication_info(
            _read(options.client_ca_file),
            _read(options.requestheader_client_ca_file),
            {name: getattr(options, name) for name in objects.REQUEST_HEADER},
        )
        current = await self._loopback.get("", "configmaps", "kube-system", wanted["metadata"]["name"])
        if current is None:
            await self._loopback.ensure("", "configmaps", wanted)
        elif (changed := objects.joined_authentication_info(current, wanted)) != current:
            await self._loopback.update("", "configmaps", changed)

    async def _kubernetes(self) -> None:
        assert self._service is not None
        await self._service.reconcile()
