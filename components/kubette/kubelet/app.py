"""Builds the kubelet and runs it: the one place where all parts meet."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubette.apimachinery.status import ApiError, is_not_found
from kubette.client import kubeconfig, resources
from kubette.client.events import Recorder
from kubette.client.informer import Informer
from kubette.client.rest import Client
from kubette.component_base import logs, version
from kubette.component_base.metrics import Registry
from kubette.component_base.run import StartupError
from kubette.kubelet import admission, config, machine
from kubette.kubelet.agent import Agent
from kubette.kubelet.certificates import ClientCertificates
from kubette.kubelet.container_config import NodeFacts
from kubette.kubelet.container_inputs import ContainerInputs
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.eviction_manager import EvictionManager
from kubette.kubelet.garbage_collection import GarbageCollector
from kubette.kubelet.images import ImageManager
from kubette.kubelet.log_rotation import LogRotation
from kubette.kubelet.mirror_pods import MirrorPods
from kubette.kubelet.node_agent import NodeAgent
from kubette.kubelet.pleg import Pleg
from kubette.kubelet.pod_manager import PodManager
from kubette.kubelet.pod_runner import PodRunner
from kubette.kubelet.pod_sources import ApiSource, FileSource
from kubette.kubelet.pod_workers import PodWorkers
from kubette.kubelet.prober import Prober
from kubette.kubelet.recorder import EventRecorder
from kubette.kubelet.status_manager import StatusManager
from kubette.kubelet.volumes.manager import VolumeManager
from kubette.kubelet.volumes.payloads import VolumeError
from kubette.kubelet.volumes.tokens import TokenManager
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

RUNTIME_WAIT_S = 0.2


async def serve(options: Any) -> None:
    """The kubelet from its configuration to its end."""
    settings = config.load(options)
    logs.set_verbosity(settings.verbosity)
    for directory in (settings.root_dir, f"{settings.root_dir}/pods", settings.pod_logs_dir):
        Path(directory).mkdir(parents=True, exist_ok=True)
    log.info("Kubelet version", kubeletVersion=version.git_version())
    async with contextlib.AsyncExitStack() as stack:
        client = await _client(settings, stack)
        cri = await stack.enter_async_context(CriClient(settings.runtime_endpoint, settings.runtime_timeout_s))
        scope = await stack.enter_async_context(Scope())
        await _run(settings, client, cri, scope, stack)


async def _client(settings: config.Config, stack: contextlib.AsyncExitStack) -> Client | None:
    """The API client with the node's credentials, obtained first if need be; None in standalone mode."""
    if not settings.kubeconfig:
        log.info("Standalone mode, no API client")
        return None
    certificates = ClientCertificates(settings, SYSTEM_CLOCK)
    if settings.bootstrap_kubeconfig:
        await certificates.bootstrap()
    try:
        found = certificates.client_config()
    except kubeconfig.KubeconfigError as error:
        raise StartupError(f"failed to run Kubelet: unable to load kubeconfig: {error}") from error
    client = await stack.enter_async_context(Client(found, f"kubelet/{version.git_version()} (linux/amd64) kubernetes", "kubelet"))
    if settings.rotate_certificates:
        scope = await stack.enter_async_context(Scope())
        scope.start(certificates.rotate(client), name="certificate rotation")
    return client


async def _run(settings: config.Config, client: Client | None, cri: CriClient, scope: Scope, stack: contextlib.AsyncExitStack) -> None:
    release, clock, metrics = version.major_minor(), SYSTEM_CLOCK, Registry()
    facts = machine.read(settings.root_dir)
    events = Recorder(client, "kubelet", settings.node_name) if client else None
    recorder = EventRecorder(events, settings.node_name)
    pods = PodManager()
    services = Informer(client, resources.SERVICES) if client else None

    # The parts refer to each other through `agent`, which is complete before anything runs.
    objects = ObjectCacheFactory(client, scope)
    tokens = TokenManager(client, clock)
    volumes = VolumeManager(settings.root_dir, tokens, objects.of_pod, claims(client), lambda: node.allocatable())
    inputs = ContainerInputs(settings, objects.cache, services, recorder, lambda: tuple(node.addresses), lambda: node.allocatable())
    images = ImageManager(cri, recorder, clock, release, settings.pulls_max, lambda pod, name: objects.of_pod(pod, "secrets", name))
    node_facts = NodeFacts(
        settings.cluster_domain,
        settings.pod_logs_dir,
        settings.hostname,
        facts.memory_bytes,
        await _cgroup_driver(cri, settings),
        settings.cgroup_root,
    )
    runner = PodRunner(cri, images, recorder, clock, release, node_facts, inputs.dns_of, inputs.environment_of, inputs.mounts_of)
    agent = Agent(
        cri,
        pods,
        runner,
        volumes,
        objects.cache,
        inputs,
        recorder,
        clock,
        release,
        lambda: tuple(node.addresses),
        lambda: node.network_error(),
        lambda pod, others: admission.admit(
            pod, others, node.node() or {"metadata": {"name": settings.node_name, "labels": node.labels()}}, node.allocatable()
        ),
        lambda: mirrors.poke() if mirrors else None,
    )
    objects.changed = agent.changed
    agent.workers = PodWorkers(scope, agent, settings.sync_frequency_s, agent.pod_finished)
    agent.statuses = StatusManager(client, pods, clock, agent.workers.is_finished)
    counter = metrics.counter(
        "prober_probe_total",
        "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        ("probe_type", "result", "container", "pod", "namespace", "pod_uid"),
    )
    agent.prober = Prober(scope, cri, recorder, clock, agent.runtime_of, agent.changed, counter)
    pleg = Pleg(cri, clock, agent.changed)
    node = NodeAgent(
        settings,
        client,
        cri,
        recorder,
        clock,
        facts,
        pleg.healthy,
        agent.wake_all,
        lambda: mirrors.poke() if mirrors else None,
        lambda: settings.port,
    )
    files = FileSource(settings.static_pod_path, settings.node_name, clock, settings.file_check_frequency_s, agent.put_pod, agent.remove_pod)
    api = ApiSource(client, settings.node_name, agent.put_pod, agent.remove_pod) if client else None

    def sources_ready() -> bool:
        return (not settings.static_pod_path or files.has_synced) and (api is None or api.has_synced)

    mirrors = MirrorPods(client, pods, node.node, sources_ready) if client else None
    collector = GarbageCollector(settings, cri, agent, clock)
    rotation = LogRotation(settings, cri)

    evictions = EvictionManager(settings, cri, agent, pods, node, clock)

    scope.start(evictions.run(), name="eviction")
    scope.start(node.watch_runtime(), name="runtime status")
    scope.start(pleg.run(), name="pleg")
    if settings.static_pod_path:
        scope.start(files.run(), name="file source")
    scope.start(agent.housekeep(sources_ready), name="housekeeping")
    scope.start(collector.run(), name="garbage collection")
    scope.start(rotation.run(), name="log rotation")
    if client is not None:
        assert api is not None
        assert services is not None
        assert events is not None
        assert mirrors is not None
        assert node.informer is not None
        api.informer.on_change(lambda _: mirrors.poke())
        for work, name in (
            (node.informer.run(), "node informer"),
            (services.run(), "services informer"),
            (events.run(), "events"),
            (node.run(), "node status"),
            (node.heartbeat(), "lease"),
            (agent.statuses.run(), "status manager"),
            (mirrors.run(), "mirror pods"),
        ):
            scope.start(work, name=name)
        scope.start(_api_pods(api, node, agent, mirrors), name="pods informer")
    from kubette.kubelet import server

    await server.start(stack, settings, client, cri, agent, pods, node, metrics, pleg)
    log.info("Started kubelet")
    await scope.wait()


async def _api_pods(api: ApiSource, node: NodeAgent, agent: Agent, mirrors: MirrorPods) -> None:
    """Pods of the API come after the node's own object, which admission needs; then what they left behind can be told from orphans."""
    assert node.informer is not None
    await node.informer.wait_synced()
    async with Scope() as scope:
        scope.start(api.run(), name="pods reflector")
        await api.informer.wait_synced()
        mirrors.poke()
        agent.housekeeping_wake.set()
        await scope.wait()


def _ignore(uid: str) -> None:
    del uid


class ObjectCacheFactory:
    """ConfigMaps and Secrets by pod; `changed` is set once the agent exists."""

    def __init__(self, client: Client | None, scope: Scope) -> None:
        from kubette.kubelet.object_cache import ObjectCache

        self.changed: Callable[[str], None] = _ignore
        self.cache = ObjectCache(client, scope, lambda uid: self.changed(uid))

    async def of_pod(self, pod: dict[str, Any], kind: str, name: str) -> dict[str, Any] | None:
        metadata = pod["metadata"]
        return await self.cache.get(metadata["uid"], kind, metadata.get("namespace") or "default", name)


def claims(client: Client | None) -> Any:
    """The spec of the PersistentVolume behind a claim."""

    async def claim_of(pod: dict[str, Any], name: str) -> dict[str, Any]:
        if client is None:
            raise VolumeError("persistent volume claims need an API server")
        try:
            claim = await client.get(resources.PERSISTENTVOLUMECLAIMS, pod["metadata"].get("namespace") or "default", name)
            volume = (claim.get("spec") or {}).get("volumeName")
            if not volume or (claim.get("status") or {}).get("phase") != "Bound":
                raise VolumeError(f"error processing PVC {pod['metadata'].get('namespace')}/{name}: PVC is not bound")
            answer = await client.get(resources.PERSISTENTVOLUMES, "", volume)
        except ApiError as error:
            prefix = "PVC was not found" if is_not_found(error) else "failed to fetch PVC from API server"
            raise VolumeError(f"{prefix}: {error}") from error
        return dict(answer.get("spec") or {})

    return claim_of


async def _cgroup_driver(cri: CriClient, settings: config.Config) -> str:
    """Which cgroups pods get: none where the runtime has none, or the configuration says so."""
    import asyncio

    if not settings.cgroups_per_qos:
        return ""
    waited = False
    while True:
        try:
            return await cri.uses_cgroups()
        except CriError as error:
            if not waited:
                log.info("Waiting for the container runtime", endpoint=settings.runtime_endpoint, err=str(error))
                waited = True
            await asyncio.sleep(RUNTIME_WAIT_S)
