"""What a container needs from the node besides its image: variables, mounts, names (kubelet_pods' GenerateRunContainerOptions)."""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubette.client.informer import Informer
from kubette.kubelet import environment, network_files, pod_spec
from kubette.kubelet.config import Config
from kubette.kubelet.container_config import BindMount
from kubette.kubelet.object_cache import ObjectCache
from kubette.kubelet.recorder import WARNING, EventRecorder
from kubette.kubelet.start_error import StartError

Object = dict[str, Any]

SERVICES_TIMEOUT_S = 10.0
ETC_HOSTS = "/etc/hosts"


class ContainerInputs:
    """`volume_paths` is filled by each sync: uid -> volume name -> path."""

    def __init__(
        self,
        config: Config,
        objects: ObjectCache,
        services: Informer | None,
        recorder: EventRecorder,
        host_ips: Callable[[], tuple[str, ...]],
        allocatable: Callable[[], Mapping[str, str]],
    ) -> None:
        self._config, self._objects, self._services, self._recorder = config, objects, services, recorder
        self._host_ips, self._allocatable = host_ips, allocatable
        self.volume_paths: dict[str, dict[str, Path]] = {}

    def dns_of(self, pod: Object) -> network_files.Dns:
        """The resolver configuration of the pod; a missing cluster DNS is warned about."""
        try:
            node = network_files.parse_resolv_conf(Path(self._config.resolv_conf).read_text()) if self._config.resolv_conf else network_files.Dns()
        except OSError:
            node = network_files.Dns()
        dns, warning = network_files.pod_dns(pod, node, self._config.cluster_dns, self._config.cluster_domain)
        if warning:
            self._recorder.pod(pod, WARNING, "MissingClusterDNS", f'pod: "{pod_spec.described(pod)}". {warning}')
        return dns

    async def environment_of(self, pod: Object, container: Object, ips: tuple[str, ...]) -> dict[str, str]:
        """The variables. Raises InvalidEnvironment, StartError."""
        services: dict[str, str] = {}
        if self._services is not None and not pod_spec.is_static(pod):
            await self._wait_services()
            links = pod["spec"].get("enableServiceLinks", True)
            services = environment.service_variables(self._services.list(), pod_spec.namespace(pod), bool(links))
        uid, namespace = pod_spec.uid(pod), pod_spec.namespace(pod)
        wanted = sorted(environment.needed_objects(container))
        objects = {(kind, name): await self._objects.get(uid, kind, namespace, name) for kind, name in wanted}
        return environment.make_environment(self._with_addresses(pod, ips), container, objects, services, self._allocatable())

    async def _wait_services(self) -> None:
        import asyncio

        assert self._services is not None
        try:
            async with asyncio.timeout(SERVICES_TIMEOUT_S):
                await self._services.wait_synced()
        except TimeoutError:
            raise StartError("CreateContainerConfigError", "services have not yet been read at least once, cannot construct envvars") from None

    def _with_addresses(self, pod: Object, ips: tuple[str, ...]) -> Object:
        """The pod with the addresses of its new sandbox, for the downward API."""
        host_ips = self._host_ips()
        shown = host_ips if pod_spec.host_network(pod) else ips
        status = {
            **(pod.get("status") or {}),
            "podIP": shown[0] if shown else "",
            "podIPs": [{"ip": ip} for ip in shown],
            "hostIP": host_ips[0] if host_ips else "",
            "hostIPs": [{"ip": ip} for ip in host_ips],
        }
        return {**pod, "status": status}

    async def mounts_of(self, pod: Object, container: Object, ips: tuple[str, ...], variables: dict[str, str], attempt: int) -> list[BindMount]:
        """The mounts. Raises OSError, StartError."""
        uid = pod_spec.uid(pod)
        paths = self.volume_paths.get(uid, {})
        mounts = []
        for mount in container.get("volumeMounts") or []:
            volume = paths.get(mount["name"])
            if volume is None:
                raise StartError(
                    "CreateContainerConfigError",
                    f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"',
                )
            sub_path = mount.get("subPath") or ""
            if mount.get("subPathExpr"):
                sub_path = environment.expand(mount["subPathExpr"], variables.get)
            source = sub_path_of(volume, sub_path) if sub_path else volume
            target = mount["mountPath"] if mount["mountPath"].startswith("/") else f"/{mount['mountPath']}"
            mounts.append(BindMount(str(source), target, bool(mount.get("readOnly")), mount.get("mountPropagation") or "None"))
        directory = Path(self._config.root_dir) / "pods" / uid
        if not any(m.container_path.rstrip("/") == ETC_HOSTS for m in mounts):
            mounts.append(BindMount(str(self._write_hosts(pod, directory, ips)), ETC_HOSTS))
        if path := container.get("terminationMessagePath"):
            log_path = directory / "containers" / container["name"] / f"{attempt}-{secrets.token_hex(4)}"
            log_path.parent.mkdir(parents=True, exist_ok=True)
            for old in log_path.parent.iterdir():
                # Of the attempts before the last one nobody asks any more.
                if old.name.partition("-")[0].isdigit() and int(old.name.partition("-")[0]) < attempt - 1:
                    old.unlink(missing_ok=True)
            log_path.touch(mode=0o666)
            os.chmod(log_path, 0o666)
            mounts.append(BindMount(str(log_path), path))
        return mounts

    def _write_hosts(self, pod: Object, directory: Path, ips: tuple[str, ...]) -> Path:
        hostname, domain = network_files.hostname_and_domain(pod, self._config.cluster_domain)
        try:
            node_hosts = Path(ETC_HOSTS).read_text() if pod_spec.host_network(pod) else ""
        except OSError:
            node_hosts = ""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "etc-hosts"
        # Written in place: it is bound into the pod's other containers by its inode.
        path.write_text(network_files.hosts_file(pod, ips, hostname, domain, node_hosts))
        os.chmod(path, 0o644)
        return path


def sub_path_of(volume: Path, sub_path: str) -> Path:
    """A path inside the volume, made if it does not exist; it may not lead out of it. Raises StartError."""
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise StartError("CreateContainerConfigError", f"subPath must not be absolute or contain '..': {sub_path}")
    root = volume.resolve()
    target = (root / sub_path).resolve()
    if target != root and root not in target.parents:
        raise StartError(
            "CreateContainerConfigError", f'failed to prepare subPath for volumeMount: subpath "{target}" not within volume path "{root}"'
        )
    if not target.exists():
        target.mkdir(parents=True, mode=0o750)
        os.chmod(target, 0o750 if not volume.stat().st_mode & 0o002 else 0o777)
    return target
