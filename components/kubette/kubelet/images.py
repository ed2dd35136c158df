"""Makes sure that a container's image is on the machine (upstream's images package): policy, back-off, one pull at a time, events."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kubette.component_base import logs
from kubette.cri import api_pb2
from kubette.kubelet import event_texts, pod_spec
from kubette.kubelet.backoff import KeyedBackoff
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.recorder import NORMAL, WARNING, EventRecorder
from kubette.kubelet.start_error import StartError
from kubette.stdx.clock import Clock

log = logs.logger(__name__)
PULLS_UNLIMITED = 64  # maxParallelImagePulls unset: still a limit


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the container's configuration needs of its image."""

    ref: str
    uid: int | None
    user: str


class ImageManager:
    """`secret` answers a pull secret of a namespace, or None."""

    def __init__(
        self,
        cri: CriClient,
        recorder: EventRecorder,
        clock: Clock,
        release: tuple[int, int],
        pulls_max: int,
        secret: Callable[[pod_spec.Pod, str], Awaitable[dict[str, Any] | None]],
    ) -> None:
        self._cri, self._recorder, self._clock, self._release, self._secret = cri, recorder, clock, release, secret
        self._backoff = KeyedBackoff()
        self._errors: dict[str, str] = {}
        self._turn = asyncio.Semaphore(pulls_max or PULLS_UNLIMITED)

    async def ensure(self, pod: pod_spec.Pod, container: dict[str, Any], sandbox: api_pb2.PodSandboxConfig) -> ImageInfo:
        """The image, pulled if its policy asks for it. Raises StartError."""
        wanted, name = container["image"], container["name"]
        try:
            image = await self._cri.image(with_tag(wanted))
        except CriError as error:
            text = f'Failed to inspect image "{wanted}": {error}'
            self._recorder.pod(pod, WARNING, "InspectFailed", text, name)
            raise StartError("ImageInspectError", text) from error
        policy = container.get("imagePullPolicy") or "IfNotPresent"
        if image is not None and policy != "Always":
            self._recorder.pod(pod, NORMAL, "Pulled", event_texts.already_present(self._release, wanted), name)
            return _info(image, image.id)
        if policy == "Never":
            text = event_texts.never_present(wanted)
            self._recorder.pod(pod, WARNING, "ErrImageNeverPull", text, name)
            raise StartError("ErrImageNeverPull", text)
        ref = await self._pull(pod, container, sandbox)
        image = await self._cri.image(ref) or await self._cri.image(with_tag(wanted))
        return _info(image, ref) if image is not None else ImageInfo(ref, None, "")

    async def _pull(self, pod: pod_spec.Pod, container: dict[str, Any], sandbox: api_pb2.PodSandboxConfig) -> str:
        wanted, name = container["image"], container["name"]
        key = f"{pod_spec.uid(pod)}_{wanted}"
        remaining_s = self._backoff.remaining_since_update_s(key, self._clock.monotonic())
        if remaining_s > 0:
            text = event_texts.pull_back_off(self._release, wanted, self._errors.get(key, ""))
            self._recorder.pod(pod, NORMAL, "BackOff", text, name)
            raise StartError("ImagePullBackOff", text, remaining_s)
        self._recorder.pod(pod, NORMAL, "Pulling", f'Pulling image "{wanted}"', name)
        asked_at = self._clock.monotonic()
        async with self._turn:
            began_at = self._clock.monotonic()
            try:
                ref = await self._pull_with_secrets(pod, with_tag(wanted), sandbox)
                image = await self._cri.image(ref)
            except CriError as error:
                now = self._clock.monotonic()
                self._backoff.next(key, now, now)
                self._errors[key] = str(error)
                log.error("PullImage from image service failed", err=str(error), image=wanted)
                self._recorder.pod(pod, WARNING, "Failed", event_texts.failed_to_pull(wanted, str(error)), name)
                raise StartError("ErrImagePull", str(error)) from error
        now = self._clock.monotonic()
        self._backoff.forget(key)
        self._errors.pop(key, None)
        text = event_texts.pulled(self._release, wanted, now - began_at, now - asked_at, image.size if image else 0)
        self._recorder.pod(pod, NORMAL, "Pulled", text, name)
        return ref

    async def _pull_with_secrets(self, pod: pod_spec.Pod, reference: str, sandbox: api_pb2.PodSandboxConfig) -> str:
        """Try every credential that fits the registry, then none; the last error counts."""
        credentials: list[api_pb2.AuthConfig | None] = []
        for entry in pod["spec"].get("imagePullSecrets") or []:
            secret = await self._secret(pod, entry["name"])
            if secret is None:
                names = f"[{entry['name']}]"
                text = f"Unable to retrieve some image pull secrets ({entry['name']}); attempting to pull the image may not succeed."
                self._recorder.pod(pod, WARNING, "FailedToRetrieveImagePullSecret", text)
                log.warning("Image pull secret was not found", pod=pod_spec.key(pod), secrets=names)
                continue
            credentials.extend(credentials_of(secret, registry_of(reference)))
        failure: CriError | None = None
        for auth in credentials or [None]:
            try:
                return await self._cri.pull(reference, auth, sandbox)
            except CriError as error:
                failure = error
        assert failure is not None
        raise failure

    def forget(self, uid: str) -> None:
        self._backoff.forget(f"{uid}_")
        for key in [k for k in self._errors if k.startswith(f"{uid}_")]:
            del self._errors[key]


def _info(image: api_pb2.Image, ref: str) -> ImageInfo:
    return ImageInfo(ref or image.id, image.uid.value if image.HasField("uid") else None, image.username)


def with_tag(reference: str) -> str:
    """`nginx` is `nginx:latest`; a short name stays short."""
    return reference if "@" in reference or ":" in reference.rsplit("/", 1)[-1] else f"{reference}:latest"


def registry_of(reference: str) -> str:
    """Where an image comes from; a name without a host is Docker Hub's."""
    host, slash, _ = reference.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else "docker.io"


def credentials_of(secret: dict[str, Any], registry: str) -> list[api_pb2.AuthConfig]:
    """The entries of a `kubernetes.io/dockerconfigjson` (or the older dockercfg) secret for that registry."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            entries = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        elif ".dockercfg" in data:
            entries = json.loads(base64.b64decode(data[".dockercfg"]))
        else:
            return []
    except ValueError:
        return []
    found = []
    for address, entry in entries.items():
        host = address.split("://")[-1].split("/")[0]
        if host not in (registry, f"index.{registry}", f"*.{registry.partition('.')[2]}"):
            continue
        username, password = entry.get("username", ""), entry.get("password", "")
        if entry.get("auth") and not username:
            username, _, password = base64.b64decode(entry["auth"]).decode(errors="replace").partition(":")
        token = entry.get("identitytoken", "")
        found.append(api_pb2.AuthConfig(username=username, password=password, server_address=address, identity_token=token))
    return found
