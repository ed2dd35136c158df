"""`--dry-run`: what would be written, to the API server and to files, is shown instead (upstream: app/util/apiclient/dryrun.go and app/util/dryrun)."""

import os
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubette.client.kubeconfig import ClientConfig
from kubette.client.resources import Resource
from kubette.client.rest import Client, Object, PatchType
from kubette.kubeadm import cluster_api, config

if TYPE_CHECKING:
    from kubette.kubeadm.phases.context import Context

Say = Callable[[str], None]


class DryRunClient(Client):
    """Reads are real, writes are told. `offline`: there is no cluster yet, and whoever asks for an object gets an empty one of that name."""

    def __init__(self, config: ClientConfig, say: Say, offline: bool = False) -> None:
        super().__init__(config, user_agent="kubeadm", field_manager="kubeadm")
        self._say, self._offline = say, offline

    async def get(self, resource: Resource, namespace: str, name: str, subresource: str = "", **params: str) -> Object:
        if self._offline:
            return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name, "resourceVersion": "0"}, "spec": {}}
        return await super().get(resource, namespace, name, subresource, **params)

    async def create(self, resource: Resource, namespace: str, body: Object, *, name: str = "", subresource: str = "", **params: str) -> Object:
        self._told("CREATE", resource, body)
        return {**body, "metadata": {"uid": "", "resourceVersion": "0", **body["metadata"]}}

    async def update(self, resource: Resource, body: Object, subresource: str = "", **params: str) -> Object:
        self._told("UPDATE", resource, body)
        return body

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Any,
        type: PatchType = PatchType.MERGE,
        subresource: str = "",
        **params: str,
    ) -> Object:
        self._told("PATCH", resource, patch, name, namespace, "patch")
        return {"metadata": {"name": name}}

    async def delete(self, resource: Resource, namespace: str, name: str, **options: Any) -> Object:
        self._told("DELETE", resource, None, name, namespace)
        return {}

    def _told(self, action: str, resource: Resource, body: Any, name: str = "", namespace: str = "", what: str = "object") -> None:
        self._say(
            f'[dryrun] Would perform action {action} on resource "{resource.resource}" in API group "{resource.group or "core"}/{resource.version}"'
        )
        if name:
            self._say(f'[dryrun] Resource name "{name}"' + (f', namespace "{namespace}"' if namespace else ""))
        if body is not None:
            shown = {**body, "data": dict.fromkeys(body["data"], "(not shown)")} if resource.kind == "Secret" and "data" in body else body
            self._say(f"[dryrun] Attached {what}:\n{_indented(cluster_api.dump(shown))}")


def show_files(files: Iterable[tuple[Path, str]], say: Say) -> None:
    """(where the file would be, its content)."""
    for path, content in files:
        say(f'[dryrun] Would write file "{path}" with content:\n{_indented(content)}')


def new_directory(command: str, say: Say) -> Path:
    """Where the files of a dry run of `init` or `join` go: what the variable says, or a new directory below /etc/kubernetes/tmp."""
    variable = f"KUBEADM_{command.upper()}_DRYRUN_DIR"
    if chosen := os.environ.get(variable):
        return Path(chosen)
    parent = Path(config.KUBERNETES_DIR) / "tmp"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"kubeadm-{command}-dryrun", dir=parent))
    say(f"W Using dry-run directory {made}. To override it, set the environment variable {variable}")
    return made


# file -> where it would be
_SHOWN = {
    **{f"{name}.yaml": config.MANIFESTS_DIR for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")},
    "config.yaml": config.KUBELET_DIR,
    "kubeadm-flags.env": config.KUBELET_DIR,
}


def show_directory(context: "Context") -> None:
    """What a dry run wrote, as init shows it at the point where it would wait for the control plane."""
    directory = context.manifests_dir
    context.say(f'[dryrun] Wrote certificates, kubeconfig files and control plane manifests to the "{directory}" directory')
    context.say("[dryrun] The certificates or kubeconfig files would not be printed due to their sensitive nature")
    context.say(f'[dryrun] Please examine the "{directory}" directory for details about what would be written')
    files = [(Path(place) / name, (directory / name).read_text()) for name, place in _SHOWN.items() if (directory / name).exists()]
    show_files(files, context.say)


def _indented(text: str) -> str:
    return textwrap.indent(text.rstrip("\n"), "\t")
