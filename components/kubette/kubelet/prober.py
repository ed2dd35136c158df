"""Probes of running containers (kubelet's prober): one task a probe, results by container id.

A probe runs at once when its container has started and its initial delay is over, then once a period. While there is nothing to probe the
task sleeps until it is poked. Results are told by `changed(uid)`; only changes are told.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from kubette.component_base import logs
from kubette.component_base.metrics import Counter
from kubette.kubelet import http_probe, pod_spec
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.pod_actions import ProbeResults
from kubette.kubelet.pod_spec import Pod
from kubette.kubelet.probe_state import Kind, ProbeState, Result
from kubette.kubelet.recorder import WARNING, EventRecorder
from kubette.kubelet.runtime_state import Container, ContainerState, PodRuntime
from kubette.stdx.clock import Clock
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

ATTEMPTS_MAX = 3  # upstream's maxProbeRetries: for errors of the probing itself
OUTPUT_BYTES_MAX = 10 * 1024


class Prober:
    """All probes. `runtime_of(uid)` answers the last known state of a pod's containers."""

    def __init__(
        self,
        scope: Scope,
        cri: CriClient,
        recorder: EventRecorder,
        clock: Clock,
        runtime_of: Callable[[str], PodRuntime | None],
        changed: Callable[[str], None],
        counter: Counter,
    ) -> None:
        self._scope, self._cri, self._recorder, self._clock = scope, cri, recorder, clock
        self._runtime_of, self._changed, self._counter = runtime_of, changed, counter
        self._workers: dict[tuple[str, str, Kind], _Worker] = {}
        self._tls = http_probe.unverified()

    def add_pod(self, pod: Pod) -> None:
        """Begin (or go on) probing the pod's containers."""
        for container in [*(c for c in pod_spec.init_containers(pod) if pod_spec.is_sidecar(c)), *pod_spec.containers(pod)]:
            for kind in Kind:
                spec = container.get(kind.field)
                if not spec:
                    continue
                key = (pod_spec.uid(pod), container["name"], kind)
                worker = self._workers.get(key)
                if worker is None:
                    worker = self._workers[key] = _Worker(kind, spec)
                    worker.pod, worker.container = pod, container
                    worker.task = self._scope.start(self._run(key, worker), name=f"probe {pod_spec.key(pod)} {container['name']} {kind}")
                worker.pod, worker.container, worker.spec = pod, container, spec

    def poke(self, uid: str) -> None:
        """The pod's containers changed."""
        for (pod_uid, _, _), worker in self._workers.items():
            if pod_uid == uid:
                worker.poked.set()

    def stop_liveness(self, uid: str) -> None:
        """A terminating pod is no longer killed by its probes; readiness goes on until the end."""
        self._remove([k for k in self._workers if k[0] == uid and k[2] is not Kind.READINESS])

    def remove_pod(self, uid: str) -> None:
        self._remove([k for k in self._workers if k[0] == uid])

    def _remove(self, keys: list[tuple[str, str, Kind]]) -> None:
        for key in keys:
            worker = self._workers.pop(key)
            if worker.task is not None:
                worker.task.cancel()

    def results(self, uid: str) -> ProbeResults:
        """What compute_pod_actions needs."""
        found: dict[Kind, dict[str, Result]] = {Kind.LIVENESS: {}, Kind.STARTUP: {}}
        for (pod_uid, _, kind), worker in self._workers.items():
            if pod_uid == uid and kind in found and worker.container_id and worker.state is not None:
                found[kind][worker.container_id] = worker.state.result
        return ProbeResults(found[Kind.LIVENESS], found[Kind.STARTUP])

    def readiness(self, uid: str) -> tuple[dict[str, bool], dict[str, bool]]:
        """Container id -> ready, and -> started, of containers that have such a probe."""
        found: dict[Kind, dict[str, bool]] = {Kind.READINESS: {}, Kind.STARTUP: {}}
        for (pod_uid, _, kind), worker in self._workers.items():
            if pod_uid == uid and kind in found and worker.container_id and worker.state is not None:
                found[kind][worker.container_id] = worker.state.result is Result.SUCCESS
        return found[Kind.READINESS], found[Kind.STARTUP]

    def statistics(self) -> dict[str, int]:
        return {"workers": len(self._workers)}

    async def _run(self, key: tuple[str, str, Kind], worker: "_Worker") -> None:
        uid, name, kind = key
        while True:
            worker.poked.clear()
            container = self._running(uid, name)
            if container is None:
                await worker.poked.wait()
                continue
            if container.id != worker.container_id or worker.state is None:
                worker.container_id, worker.state = container.id, ProbeState.begin(kind, worker.spec)
                self._changed(uid)
            running_s = self._clock.wall() - container.started_at
            delay_s = int(worker.spec.get("initialDelaySeconds") or 0)
            if running_s < delay_s:
                await asyncio.sleep(delay_s - running_s)
                continue
            if not worker.state.due(running_s, worker.spec) or not self._startup_done(uid, name, kind, container.id):
                await worker.poked.wait()
                continue
            await self._probe_once(uid, worker, container)
            await asyncio.sleep(float(worker.spec.get("periodSeconds") or 10))

    def _running(self, uid: str, name: str) -> Container | None:
        runtime = self._runtime_of(uid)
        latest = runtime.latest(name) if runtime else None
        return latest if latest is not None and latest.state is ContainerState.RUNNING else None

    def _startup_done(self, uid: str, name: str, kind: Kind, container_id: str) -> bool:
        """Other probes wait for the startup probe."""
        startup = self._workers.get((uid, name, Kind.STARTUP))
        if kind is Kind.STARTUP or startup is None:
            return True
        return startup.container_id == container_id and startup.state is not None and startup.state.result is Result.SUCCESS

    async def _probe_once(self, uid: str, worker: "_Worker", container: Container) -> None:
        outcome, output = await self._attempts(worker, container)
        pod, name, kind = worker.pod, worker.container["name"], worker.kind
        state = worker.state
        if outcome is None or state is None or worker.container_id != container.id:
            return
        label = "successful" if outcome is Result.SUCCESS else "failed"
        self._counter.inc(kind.value, label, name, pod_spec.name(pod), pod_spec.namespace(pod), uid)
        if outcome is Result.FAILURE:
            self._recorder.pod(pod, WARNING, "Unhealthy", f"{kind.value} probe failed: {output}", name)
        if state.observe(outcome):
            log.v(3, "Probe result changed", pod=pod_spec.key(pod), container=name, probe=kind.value, result=outcome.value)
            self._changed(uid)
            if kind is Kind.STARTUP:
                self.poke(uid)

    async def _attempts(self, worker: "_Worker", container: Container) -> tuple[Result | None, str]:
        """The outcome of one probe; None when the probing itself failed each time (its result is then left as it is)."""
        error_text = ""
        for _ in range(ATTEMPTS_MAX):
            try:
                return await self._probe(worker, container)
            except (CriError, http_probe.ProbeError) as error:
                error_text = str(error)
        text = f"{worker.kind.value} probe errored and resulted in unknown state: {error_text}"
        self._recorder.pod(worker.pod, WARNING, "Unhealthy", text, worker.container["name"])
        return None, error_text

    async def _probe(self, worker: "_Worker", container: Container) -> tuple[Result, str]:
        spec, timeout_s = worker.spec, float(worker.spec.get("timeoutSeconds") or 1)
        if "exec" in spec:
            return await self._exec(container, spec["exec"].get("command") or [], timeout_s)
        runtime = self._runtime_of(pod_spec.uid(worker.pod))
        sandbox = runtime.ready_sandbox if runtime else None
        # A pod on the node's network answers on the node's loopback, whatever addresses the node has.
        ip = "127.0.0.1" if pod_spec.host_network(worker.pod) else sandbox.ips[0] if sandbox and sandbox.ips else ""
        if not ip:
            raise http_probe.ProbeError("the pod has no IP address")
        if "httpGet" in spec:
            return await _http(spec["httpGet"], worker.container, ip, timeout_s, self._tls)
        if "tcpSocket" in spec:
            return await _tcp(spec["tcpSocket"], worker.container, ip, timeout_s)
        if "grpc" in spec:
            return await _grpc(spec["grpc"], ip, timeout_s)
        raise http_probe.ProbeError(f"missing probe handler for {pod_spec.key(worker.pod)}:{worker.container['name']}")

    async def _exec(self, container: Container, command: list[str], timeout_s: float) -> tuple[Result, str]:
        try:
            code, output = await self._cri.exec_sync(container.id, command, timeout_s)
        except CriError as error:
            if error.code == "DeadlineExceeded":
                return Result.FAILURE, f"command timed out: {error.message}"
            raise
        text = output[:OUTPUT_BYTES_MAX].decode(errors="replace")
        return (Result.SUCCESS if code == 0 else Result.FAILURE), text


class _Worker:
    """One probe of one container name; the container behind it changes."""

    __slots__ = ("container", "container_id", "kind", "pod", "poked", "spec", "state", "task")

    def __init__(self, kind: Kind, spec: dict[str, Any]) -> None:
        self.kind, self.spec = kind, spec
        self.pod: Pod = {}
        self.container: dict[str, Any] = {}
        self.container_id = ""
        self.state: ProbeState | None = None
        self.poked = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None


async def _http(action: dict[str, Any], container: dict[str, Any], ip: str, timeout_s: float, context: ssl.SSLContext) -> tuple[Result, str]:
    request = http_probe.request_of(action, container, ip)
    try:
        async with asyncio.timeout(timeout_s):
            status, _, body = await http_probe.get(request, context)
    except TimeoutError:
        return Result.FAILURE, f'Get "{request.url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except OSError as error:
        return Result.FAILURE, f'Get "{request.url}": dial tcp {request.host}:{request.port}: connect: {_reason(error)}'
    except http_probe.ProbeError as error:
        return Result.FAILURE, f'Get "{request.url}": {error}'
    if 200 <= status < 400:
        return Result.SUCCESS, body.decode(errors="replace")
    return Result.FAILURE, f"HTTP probe failed with statuscode: {status}"


async def _tcp(action: dict[str, Any], container: dict[str, Any], ip: str, timeout_s: float) -> tuple[Result, str]:
    host, port = action.get("host") or ip, http_probe.resolve_port(action["port"], container)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Result.FAILURE, f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return Result.FAILURE, f"dial tcp {host}:{port}: connect: {_reason(error)}"
    writer.close()
    return Result.SUCCESS, ""


def _reason(error: OSError) -> str:
    import errno

    return {errno.ECONNREFUSED: "connection refused", errno.EHOSTUNREACH: "no route to host", errno.ENETUNREACH: "network is unreachable"}.get(
        error.errno or 0, (error.strerror or str(error)).lower()
    )


async def _grpc(action: dict[str, Any], ip: str, timeout_s: float) -> tuple[Result, str]:
    """grpc.health.v1.Health/Check, its two one-field messages written by hand."""
    import grpc

    service = (action.get("service") or "").encode()
    request = (b"\x0a" + bytes([len(service)]) + service) if service else b""
    address = f"{ip}:{int(action['port'])}"
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = await check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined]
            if code is grpc.StatusCode.UNIMPLEMENTED:
                return Result.FAILURE, f'error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "{address}"'
            if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                return Result.FAILURE, f'timeout: failed to connect service "{address}" within {timeout_s:g}s: context deadline exceeded'
            return Result.FAILURE, f"error: health rpc probe failed: {error.details()}"  # type: ignore[attr-defined]
    serving = answer[1] if len(answer) >= 2 and answer[0] == 0x08 else 0
    names = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
    if serving == 1:
        return Result.SUCCESS, "service healthy"
    return Result.FAILURE, f"service unhealthy (responded with {names.get(serving, str(serving))!r})".replace("'", '"')
