"""Pure: the files of configMap, secret, downwardAPI and projected volumes, from the objects they name."""

import base64
from collections.abc import Mapping
from typing import Any

from kubette.kubelet import environment, pod_spec
from kubette.kubelet.volumes.file import File

Object = dict[str, Any]
Objects = Mapping[tuple[str, str], Object | None]
DEFAULT_MODE = 0o644


class VolumeError(Exception):
    """The volume cannot be set up now; the text goes into FailedMount."""


def references(volume: Object) -> set[tuple[str, str]]:
    """(`configmaps`|`secrets`, name) of all that the volume shows."""
    found = set()
    for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
        if "configMap" in source:
            found.add(("configmaps", str(source["configMap"].get("name", ""))))
        if "secret" in source:
            # A secret volume says secretName, a projected source says name.
            found.add(("secrets", str(source["secret"].get("secretName") or source["secret"].get("name", ""))))
    return found


def tokens(volume: Object) -> list[Object]:
    """The service account token sources of a projected volume."""
    return [s["serviceAccountToken"] for s in (volume.get("projected") or {}).get("sources") or [] if "serviceAccountToken" in s]


def files(pod: Object, volume: Object, objects: Objects, token_of: Mapping[str, str], allocatable: Mapping[str, str]) -> dict[str, File]:
    """All files of the volume. `token_of` maps a token source's path to the token. Raises VolumeError."""
    payload: dict[str, File] = {}
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if kind not in volume:
            continue
        source = volume[kind] or {}
        mode = int(source.get("defaultMode") or DEFAULT_MODE)
        if kind == "projected":
            for part in source.get("sources") or []:
                payload.update(_part(pod, part, mode, objects, token_of, allocatable))
        else:
            payload.update(_part(pod, {kind: source}, mode, objects, token_of, allocatable))
    return payload


def _part(pod: Object, part: Object, mode: int, objects: Objects, token_of: Mapping[str, str], allocatable: Mapping[str, str]) -> dict[str, File]:
    if "configMap" in part:
        source = part["configMap"]
        name = source.get("name", "")
        return _keys(pod, "configmaps", name, source, objects.get(("configmaps", name)), mode)
    if "secret" in part:
        source = part["secret"]
        name = source.get("secretName") or source.get("name", "")
        return _keys(pod, "secrets", name, source, objects.get(("secrets", name)), mode)
    if "downwardAPI" in part:
        return _downward(pod, part["downwardAPI"] or {}, mode, allocatable)
    if "serviceAccountToken" in part:
        path = part["serviceAccountToken"]["path"]
        return {path: File(token_of[path].encode(), mode)}
    raise VolumeError(f"unsupported projected volume source: {', '.join(sorted(part))}")


def _keys(pod: Object, kind: str, name: str, source: Object, found: Object | None, mode: int) -> dict[str, File]:
    title = kind[:-1]
    if found is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'{title} "{name}" not found')
    data: dict[str, bytes] = {}
    if kind == "configmaps":
        data = {k: v.encode() for k, v in (found.get("data") or {}).items()}
        data |= {k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}
    else:
        data = {k: base64.b64decode(v) for k, v in (found.get("data") or {}).items()}
    items = source.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    payload = {}
    for item in items:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            noun = "config" if kind == "configmaps" else "secret"
            prefix = "configmap " if kind == "configmaps" else ""
            raise VolumeError(f"{prefix}references non-existent {noun} key: {item['key']}")
        payload[item["path"]] = File(data[item["key"]], int(item.get("mode") or mode))
    return payload


def _downward(pod: Object, source: Object, mode: int, allocatable: Mapping[str, str]) -> dict[str, File]:
    payload = {}
    for item in source.get("items") or []:
        try:
            if "fieldRef" in item:
                text = environment.field_value(pod, item["fieldRef"]["fieldPath"])
            else:
                container = pod_spec.containers(pod)[0]
                text = environment.resource_value(pod, container, item["resourceFieldRef"], allocatable)
        except environment.InvalidEnvironment as error:
            raise VolumeError(str(error)) from error
        payload[item["path"]] = File(text.encode(), int(item.get("mode") or mode))
    return payload
