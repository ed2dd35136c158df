"""What the handlers share: the resources, the admission chain, the authorizer, the clock. Built in `app.py`, read everywhere."""

import asyncio
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from kubette.apimachinery import timestamps
from kubette.apimachinery.protobuf import Decoder
from kubette.component_base.metrics import Registry
from kubette.kube_apiserver.admission.interfaces import Chain, Lister
from kubette.kube_apiserver.allocators.services import ServiceAllocators
from kubette.kube_apiserver.audit.auditor import Auditor, Trail
from kubette.kube_apiserver.auth.interfaces import Authorizer, UserInfo
from kubette.kube_apiserver.config import Config
from kubette.kube_apiserver.filters.negotiation import PLAIN, Form
from kubette.kube_apiserver.identity import Identity
from kubette.kube_apiserver.node_proxy import Dialer
from kubette.kube_apiserver.registry.strategy import Context
from kubette.kube_apiserver.request_info import RequestInfo
from kubette.kube_apiserver.resources import Resource, Resources
from kubette.kube_apiserver.storage.feed import Feed
from kubette.stdx.clock import Clock


@dataclass(slots=True)
class Core:
    """One API server."""

    config: Config
    resources: Resources
    chain: Chain
    authorizer: Authorizer
    feed: Feed
    clock: Clock
    rng: random.Random
    metrics: Registry
    lister: Lister
    identity: Identity
    dialer: Dialer
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    allocators: ServiceAllocators | None = None
    auditor: Auditor | None = None

    _protobuf: Decoder | None = None

    @property
    def protobuf(self) -> Decoder:
        """Read on the first body that needs it."""
        if self._protobuf is None:
            self._protobuf = Decoder.load()
        return self._protobuf

    def now(self) -> str:
        """RFC 3339, to the second."""
        return timestamps.format_time(self.clock.wall())

    def new_uid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))


@dataclass(slots=True)
class Call:
    """One request on its way to its verb."""

    core: Core
    request: web.BaseRequest
    info: RequestInfo
    user: UserInfo
    resource: Resource
    audit_id: str
    query: Mapping[str, str]
    form: Form = PLAIN
    warnings: list[str] = field(default_factory=list)
    trail: Trail | None = None

    def context(self) -> Context:
        """What strategies may know of the request."""
        user = self.user
        return Context(
            now=self.core.now(),
            username=user.name,
            uid=user.uid,
            groups=user.groups,
            extra={key: list(values) for key, values in user.extra.items()},
            minor=self.resource.minor,
        )

    def warn(self, message: str) -> None:
        """Once each, as a Warning header."""
        if message not in self.warnings:
            self.warnings.append(message)
