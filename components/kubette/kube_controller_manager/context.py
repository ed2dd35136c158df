"""What a controller is given: informers, a client with its own identity, a recorder, the clock and the options."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kubette.client.controller import Controller, Reconcile
from kubette.client.events import Recorder
from kubette.client.informer import Informer, InformerFactory
from kubette.client.resources import Resource
from kubette.client.rest import Client
from kubette.client.store import IndexFunction
from kubette.component_base import metrics
from kubette.stdx.clock import SYSTEM_CLOCK, Clock
from kubette.stdx.tasks import Scope


@dataclass(slots=True)
class Context:
    """One for the process. `client_of` answers the client of a controller's service account, `root` is the process's own."""

    options: Any
    root: Client
    informers: InformerFactory
    client_of: Callable[[str], Client]
    scope: Scope
    registry: metrics.Registry
    clock: Clock = SYSTEM_CLOCK
    rng: random.Random = field(default_factory=random.Random)
    controllers: list[Controller] = field(default_factory=list)
    _recorders: dict[str, Recorder] = field(default_factory=dict)

    def informer(self, resource: Resource, indexers: dict[str, IndexFunction] | None = None, **selection: Any) -> Informer:
        return self.informers.informer(resource, indexers=indexers, **selection)

    def recorder(self, component: str, client: Client) -> Recorder:
        """The event recorder of a component; it sends from the moment it is asked for."""
        found = self._recorders.get(component)
        if found is None:
            found = self._recorders[component] = Recorder(client, component, clock=self.clock)
            self.scope.start(found.run(), f"events of {component}")
        return found

    def controller(self, name: str, reconcile: Reconcile, caches: Iterable[Informer], workers: int = 5) -> Controller:
        made = Controller(name, reconcile, caches, workers, clock=self.clock)
        self.controllers.append(made)
        return made
