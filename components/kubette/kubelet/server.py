"""The kubelet's HTTPS API on 10250 and its health on 127.0.0.1:10248 (kubelet/server): pods, logs, exec, statistics.

Every path but the local health port is authenticated and authorized. exec, attach and port-forward are located here and then passed
through as bytes.
"""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from kubette.apimachinery import timestamps
from kubette.client.rest import Client
from kubette.component_base import health, http_server, logs, tls, version
from kubette.component_base.metrics import Registry
from kubette.kubelet import certificates, log_reader, pod_spec, pod_status, tunnel
from kubette.kubelet.agent import Agent
from kubette.kubelet.authorization import Gatekeeper
from kubette.kubelet.config import Config
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.node_agent import NodeAgent
from kubette.kubelet.pleg import Pleg
from kubette.kubelet.pod_manager import PodManager
from kubette.kubelet.stats import Statistics
from kubette.stdx.clock import SYSTEM_CLOCK

log = logs.logger(__name__)

Object = dict[str, Any]
METRICS_TYPE = "text/plain; version=0.0.4"


class KubeletServer:
    """The handlers, one a path."""

    def __init__(
        self, config: Config, cri: CriClient, agent: Agent, pods: PodManager, node: NodeAgent, metrics: Registry, statistics: Statistics
    ) -> None:
        self._config, self._cri, self._agent, self._pods, self._node = config, cri, agent, pods, node
        self._metrics, self._statistics = metrics, statistics

    def install(self, app: web.Application) -> None:
        """Add the routes."""
        routes = app.router
        routes.add_get("/pods", self.list_pods)
        routes.add_get("/runningpods/", self.list_running_pods)
        routes.add_get("/stats/summary", self.summary)
        routes.add_get("/metrics", self.metrics)
        routes.add_get("/metrics/resource", self.resource_metrics)
        routes.add_get("/metrics/cadvisor", self.cadvisor_metrics)
        routes.add_get("/metrics/probes", self.probe_metrics)
        routes.add_get("/configz", self.configz)
        if not self._config.debugging_handlers:
            return
        routes.add_get("/containerLogs/{namespace}/{pod}/{container}", self.container_logs)
        routes.add_get("/logs/{path:.*}", self.node_logs)
        for verb, handler in (("exec", self.exec), ("attach", self.attach), ("run", self.run)):
            for path in (f"/{verb}/{{namespace}}/{{pod}}/{{container}}", f"/{verb}/{{namespace}}/{{pod}}/{{uid}}/{{container}}"):
                routes.add_post(path, handler)
                routes.add_get(path, handler)
        for path in ("/portForward/{namespace}/{pod}", "/portForward/{namespace}/{pod}/{uid}"):
            routes.add_post(path, self.port_forward)
            routes.add_get(path, self.port_forward)

    # Lists and figures

    async def list_pods(self, request: web.Request) -> web.Response:
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [self._agent.shown(p) for p in self._pods.pods()]})

    async def list_running_pods(self, request: web.Request) -> web.Response:
        items = []
        for sandbox in await self._cri.list_sandboxes():
            if sandbox.state == 0:
                metadata = {"name": sandbox.metadata.name, "namespace": sandbox.metadata.namespace, "uid": sandbox.metadata.uid}
                runtime = self._agent.runtime_of(sandbox.metadata.uid)
                containers = [{"name": c.name, "image": c.image, "resources": {}} for c in (runtime.running() if runtime else [])]
                items.append({"metadata": {**metadata, "creationTimestamp": None}, "spec": {"containers": containers}, "status": {}})
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def summary(self, request: web.Request) -> web.Response:
        return _json(await self._statistics.summary())

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self._metrics.render(), headers={"Content-Type": METRICS_TYPE})

    async def probe_metrics(self, request: web.Request) -> web.Response:
        lines = [line for line in self._metrics.render().splitlines() if "prober_" in line]
        return web.Response(text="\n".join(lines) + "\n", headers={"Content-Type": METRICS_TYPE})

    async def resource_metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=await self._statistics.resource_metrics(), headers={"Content-Type": METRICS_TYPE})

    async def cadvisor_metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=await self._statistics.cadvisor_metrics(), headers={"Content-Type": METRICS_TYPE})

    async def configz(self, request: web.Request) -> web.Response:
        return _json({"kubeletconfig": self._config.raw})

    async def node_logs(self, request: web.Request) -> web.StreamResponse:
        """Files below /var/log, as upstream's file server shows them."""
        root = Path(self._config.pod_logs_dir).parent.resolve()
        path = (root / request.match_info["path"]).resolve()
        if path != root and root not in path.parents:
            return web.Response(status=404, text="404 page not found\n")
        if path.is_file():
            return web.FileResponse(path, headers={"Content-Type": "text/plain; charset=utf-8"})
        if not path.is_dir():
            return web.Response(status=404, text="404 page not found\n")
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
        text = "<pre>\n" + "".join(f'<a href="{name}">{name}</a>\n' for name in names) + "</pre>\n"
        return web.Response(text=text, content_type="text/html")

    # Logs

    async def container_logs(self, request: web.Request) -> web.StreamResponse:
        name, namespace, container = (request.match_info[k] for k in ("pod", "namespace", "container"))
        pod = self._pods.find(namespace, name)
        if pod is None:
            return web.Response(status=404, text=f'pod "{name}" does not exist\n')
        if pod_spec.find_container(pod, container) is None:
            return web.Response(status=404, text=f'container "{container}" not found in pod "{name}"\n')
        try:
            options = _log_options(request.query)
            container_id = log_container(self._agent.shown(pod), container, _flag(request.query.get("previous", "")))
            path = (await self._cri.container_status(container_id)).log_path
        except (ValueError, LogError) as error:
            return web.Response(status=400, text=f"{error}\n")
        except CriError as error:
            return web.Response(status=400, text=f"unable to retrieve container logs for containerd://{container_id}: {error}\n")

        async def is_running() -> bool:
            try:
                return (await self._cri.container_status(container_id)).state in (0, 1)
            except CriError:
                return False

        response = web.StreamResponse(headers={"Content-Type": "text/plain", "X-Content-Type-Options": "nosniff"})
        response.enable_chunked_encoding()
        try:
            pieces = log_reader.read(path, options, is_running)
            first = await anext(pieces, b"")
        except FileNotFoundError:
            return web.Response(status=400, text=f"failed to try resolving symlinks in path {path!r}: lstat {path}: no such file or directory\n")
        await response.prepare(request)
        if first:
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
        await response.write_eof()
        return response

    # Into containers

    def _running_container(self, request: web.Request) -> tuple[str, str]:
        """(container id, ""), or ("", why not)."""
        name, namespace, container = (request.match_info[k] for k in ("pod", "namespace", "container"))
        pod = self._pods.find(namespace, name)
        uid = request.match_info.get("uid")
        if pod is None or (uid and self._pods.find_uid(uid) is not pod):
            return "", "pod does not exist"
        runtime = self._agent.runtime_of(pod_spec.uid(pod))
        latest = runtime.latest(container) if runtime else None
        if latest is None or latest not in (runtime.running() if runtime else []):
            return "", f'container not found ("{container}")'
        return latest.id, ""

    async def exec(self, request: web.Request) -> web.StreamResponse:
        container_id, problem = self._running_container(request)
        if problem:
            return web.Response(status=404 if problem.startswith("pod") else 500, text=problem)
        query = request.query
        command, streams = query.getall("command", []), _streams(query)
        if not any((streams["stdin"], streams["stdout"], streams["stderr"])):
            return web.Response(status=400, text="you must specify at least 1 of stdin, stdout, stderr")
        if streams["tty"]:
            streams["stderr"] = False
        return await self._pass(request, self._cri.exec_url(container_id, list(command), **streams))

    async def attach(self, request: web.Request) -> web.StreamResponse:
        container_id, problem = self._running_container(request)
        if problem:
            return web.Response(status=404 if problem.startswith("pod") else 500, text=problem)
        streams = _streams(request.query)
        if not any((streams["stdin"], streams["stdout"], streams["stderr"])):
            return web.Response(status=400, text="you must specify at least 1 of stdin, stdout, stderr")
        if streams["tty"]:
            streams["stderr"] = False
        return await self._pass(request, self._cri.attach_url(container_id, **streams))

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        pod = self._pods.find(request.match_info["namespace"], request.match_info["pod"])
        uid = request.match_info.get("uid")
        if pod is None or (uid and self._pods.find_uid(uid) is not pod):
            return web.Response(status=404, text="pod does not exist")
        runtime = self._agent.runtime_of(pod_spec.uid(pod))
        sandbox = runtime.ready_sandbox if runtime else None
        if sandbox is None:
            return web.Response(status=500, text=f"failed to find sandbox of pod {pod_spec.described(pod)}: it is not running")
        ports = []
        for text in [part for value in request.query.getall("port", []) for part in value.split(",")]:
            if not text.isdigit() or not 0 < int(text) < 65536:
                return web.Response(status=400, text=f'unable to parse "{text}" as a port')
            ports.append(int(text))
        return await self._pass(request, self._cri.port_forward_url(sandbox.id, ports))

    async def _pass(self, request: web.Request, url: Awaitable[str]) -> web.StreamResponse:
        if "upgrade" not in request.headers.get("Connection", "").lower():
            return web.Response(status=400, text="unable to upgrade: missing upgrade headers in request")
        try:
            where = await url
        except CriError as error:
            return web.Response(status=500, text=str(error))
        return await tunnel.upgrade(request, where, self._config.streaming_idle_timeout_s)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Run a command and answer what it wrote."""
        container_id, problem = self._running_container(request)
        if problem:
            return web.Response(status=404, text=problem)
        form = await request.post() if request.method == "POST" else {}
        command = request.query.get("cmd") or str(form.get("cmd") or "")
        if not command:
            return web.Response(status=400, text="missing cmd parameter")
        try:
            code, output = await self._cri.exec_sync(container_id, command.split(" "), self._config.runtime_timeout_s)
        except CriError as error:
            return web.Response(status=500, text=str(error))
        suffix = b"" if code == 0 else f"command terminated with exit code {code}\n".encode()
        return web.Response(body=output + suffix, content_type="text/plain")


class LogError(Exception):
    """There is no log to show; the text is the user's."""


def log_container(pod: Object, container: str, previous: bool) -> str:
    """The id of the container whose log is meant (validateContainerLogStatus). Raises LogError."""
    status, name = pod.get("status") or {}, pod_spec.name(pod)
    lists = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    found = next((s for field in lists for s in status.get(field) or [] if s["name"] == container), None)
    if found is None:
        raise LogError(f'container "{container}" in pod "{name}" is not available')
    state, last = found.get("state") or {}, (found.get("lastState") or {}).get("terminated")
    chosen = ""
    if previous:
        if not last or not last.get("containerID"):
            raise LogError(f'previous terminated container "{container}" in pod "{name}" not found')
        chosen = last["containerID"]
    elif state.get("running"):
        chosen = found["containerID"]
    elif state.get("terminated"):
        chosen = state["terminated"].get("containerID") or (last or {}).get("containerID") or ""
    elif last:
        chosen = last.get("containerID") or ""
    elif state.get("waiting"):
        reason = state["waiting"].get("reason", "")
        text = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}.get(reason, reason)
        raise LogError(f'container "{container}" in pod "{name}" is waiting to start: {text}')
    if not chosen:
        raise LogError(f'container "{container}" in pod "{name}" is terminated')
    return str(chosen).removeprefix(pod_status.RUNTIME_PREFIX)


def _flag(text: str) -> bool:
    return text in ("1", "true", "True", "t", "T", "TRUE")


def _streams(query: Any) -> dict[str, bool]:
    names = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
    return {ours: _flag(query.get(theirs, "")) for ours, theirs in names.items()}


def _log_options(query: Any) -> log_reader.Options:
    """Raises ValueError in the API's words."""
    numbers: dict[str, int | None] = {}
    for name, lowest in (("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)):
        text = query.get(name, "")
        if text and (not text.lstrip("-").isdigit() or int(text) < lowest):
            raise ValueError(f'{name}: Invalid value: "{text}": must be greater than or equal to {lowest}')
        numbers[name] = int(text) if text else None
    since = 0.0
    if numbers["sinceSeconds"] is not None:
        since = SYSTEM_CLOCK.wall() - numbers["sinceSeconds"]
    elif query.get("sinceTime"):
        since = timestamps.parse_time(query["sinceTime"])
    stream = query.get("stream", "All").lower()
    return log_reader.Options(
        follow=_flag(query.get("follow", "")),
        tail=numbers["tailLines"],
        since=since,
        timestamps=_flag(query.get("timestamps", "")),
        limit_bytes=numbers["limitBytes"],
        stream="" if stream == "all" else stream,
    )


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _register_metrics(metrics: Registry, agent: Agent, node_name: str, pleg: Pleg) -> None:
    info = version.version_info()
    labels = ("git_version", "major", "minor")
    build = metrics.gauge("kubernetes_build_info", "A metric with a constant '1' value labeled by the build.", labels)
    build.set(1, info["gitVersion"], info["major"], info["minor"])
    metrics.gauge("kubelet_node_name", "The node's name. The count is always 1.", ("node",)).set(1, node_name)
    metrics.function("kubelet_running_pods", "Number of pods that have a running pod sandbox", lambda: agent.running()[0])
    metrics.function("kubelet_running_containers", "Number of containers currently running", lambda: agent.running()[1])
    metrics.function("kubelet_pod_workers", "Number of pod streams that are not finished", lambda: float(sum(agent.workers.statistics().values())))
    metrics.function("kubelet_pleg_healthy", "1 if the pod lifecycle event generator is healthy", lambda: float(not pleg.healthy()))


async def start(
    stack: contextlib.AsyncExitStack,
    config: Config,
    client: Client | None,
    cri: CriClient,
    agent: Agent,
    pods: PodManager,
    node: NodeAgent,
    metrics: Registry,
    pleg: Pleg,
) -> None:
    """Serve both ports until the stack is closed."""
    _register_metrics(metrics, agent, config.node_name, pleg)
    if config.healthz_port:
        local = web.Application()
        health.install(local, "/healthz", {"syncloop": _syncloop(pleg)})
        await stack.enter_async_context(http_server.serving(local, config.healthz_address, config.healthz_port))
    if not config.enable_server:
        return
    gatekeeper = Gatekeeper(config, client, SYSTEM_CLOCK, version.major_minor())

    @web.middleware
    async def authorized(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        refusal = await gatekeeper.check(request)
        if refusal is not None:
            return refusal
        try:
            return await handler(request)
        except CriError as error:
            return web.Response(status=500, text=f"{error}\n")

    app = web.Application(middlewares=[authorized])
    health.install(app, "/healthz", {"syncloop": _syncloop(pleg)})
    statistics = Statistics(cri, node.machine, config.node_name, config.root_dir, SYSTEM_CLOCK)
    KubeletServer(config, cri, agent, pods, node, metrics, statistics).install(app)
    cert_file, key_file = certificates.serving_pair(config, tuple(node.addresses), SYSTEM_CLOCK.wall())
    context = tls.server_context(cert_file, key_file, config.client_ca_file)
    await stack.enter_async_context(http_server.serving(app, config.address, config.port, context))
    log.info("Started to listen", address=config.address, port=config.port)


def _syncloop(pleg: Pleg) -> health.Check:
    async def check() -> str | None:
        return pleg.healthy() or None

    return check
