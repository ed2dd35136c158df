"""Pure: volumes of pods and how containers mount them (upstream's `ValidateVolumes`, `ValidateVolumeMounts`)."""

from typing import Any

from kubette.apimachinery import field_errors, names
from kubette.apimachinery.field_errors import FieldError, child

Object = dict[str, Any]
Errors = list[FieldError]

FILE_MODE_MAX = 0o777
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def volumes(found: list[Object], path: str) -> tuple[dict[str, Object], Errors]:
    """The valid volumes by name, and what is wrong with the others."""
    errors: Errors = []
    known: dict[str, Object] = {}
    for index, volume in enumerate(found):
        where = child(path, index)
        wrong = _source(volume, where)
        name = volume.get("name") or ""
        if not name:
            wrong.append(field_errors.required(child(where, "name")))
        else:
            wrong += [field_errors.invalid(child(where, "name"), name, text) for text in names.dns1123_label(name)]
        if name and name in known:
            wrong.append(field_errors.duplicate(child(where, "name"), name))
        errors += wrong
        known.setdefault(name, volume)
    return known, errors


def _source(volume: Object, path: str) -> Errors:
    kinds = [name for name, value in volume.items() if name != "name" and value is not None]
    errors: Errors = [field_errors.forbidden(child(path, name), "may not specify more than 1 volume type") for name in kinds[1:]]
    if not kinds:
        return [field_errors.required(path, "must specify a volume type")]
    kind = kinds[0]
    source, where = volume[kind] or {}, child(path, kind)
    match kind:
        case "emptyDir":
            pass
        case "hostPath":
            errors += _host_path(source, where)
        case "secret":
            if not source.get("secretName"):
                errors.append(field_errors.required(child(where, "secretName")))
            errors += _mode(source.get("defaultMode"), child(where, "defaultMode")) + _items(source.get("items") or [], child(where, "items"))
        case "configMap":
            if not source.get("name"):
                errors.append(field_errors.required(child(where, "name")))
            errors += _mode(source.get("defaultMode"), child(where, "defaultMode")) + _items(source.get("items") or [], child(where, "items"))
        case "persistentVolumeClaim":
            if not source.get("claimName"):
                errors.append(field_errors.required(child(where, "claimName")))
        case "downwardAPI":
            errors += _mode(source.get("defaultMode"), child(where, "defaultMode"))
            errors += _downward_items(source.get("items") or [], child(where, "items"))
        case "projected":
            errors += _projected(source, where)
        case "nfs":
            errors += [field_errors.required(child(where, name)) for name in ("server", "path") if not source.get(name)]
            if source.get("path") and not source["path"].startswith("/"):
                errors.append(field_errors.invalid(child(where, "path"), source["path"], "must be an absolute path"))
        case "csi":
            if not source.get("driver"):
                errors.append(field_errors.required(child(where, "driver")))
        case "ephemeral":
            if source.get("volumeClaimTemplate") is None:
                errors.append(field_errors.required(child(where, "volumeClaimTemplate")))
    return errors


def _host_path(source: Object, path: str) -> Errors:
    found = source.get("path") or ""
    if not found:
        return [field_errors.required(child(path, "path"))]
    errors = no_backsteps(found, child(path, "path"))
    if source.get("type") is not None and source["type"] not in _HOST_PATH_TYPES:
        errors.append(field_errors.not_supported(child(path, "type"), source["type"], _HOST_PATH_TYPES))
    return errors


def no_backsteps(found: str, path: str) -> Errors:
    return [field_errors.invalid(path, found, "must not contain '..'")] if ".." in found.split("/") else []


def _local_path(found: str, path: str) -> Errors:
    """A path inside a volume: relative, and not out of it."""
    errors: Errors = []
    if found.startswith("/"):
        errors.append(field_errors.invalid(path, found, "must be a relative path"))
    errors += no_backsteps(found, path)
    if found.startswith("..") and ".." not in found.split("/"):
        errors.append(field_errors.invalid(path, found, "must not start with '..'"))
    return errors


def _mode(mode: Any, path: str) -> Errors:
    return [field_errors.invalid(path, mode, _MODE_TEXT)] if isinstance(mode, int) and not 0 <= mode <= FILE_MODE_MAX else []


def _items(items: list[Object], path: str) -> Errors:
    errors: Errors = []
    for index, item in enumerate(items):
        where = child(path, index)
        if not item.get("key"):
            errors.append(field_errors.required(child(where, "key")))
        if not item.get("path"):
            errors.append(field_errors.required(child(where, "path")))
        else:
            errors += _local_path(item["path"], child(where, "path"))
        errors += _mode(item.get("mode"), child(where, "mode"))
    return errors


def _downward_items(items: list[Object], path: str) -> Errors:
    errors: Errors = []
    for index, item in enumerate(items):
        where = child(path, index)
        if not item.get("path"):
            errors.append(field_errors.required(child(where, "path")))
        else:
            errors += _local_path(item["path"], child(where, "path"))
        if item.get("fieldRef") is None and item.get("resourceFieldRef") is None:
            errors.append(field_errors.required(where, "one of fieldRef and resourceFieldRef is required"))
        elif item.get("fieldRef") is not None and item.get("resourceFieldRef") is not None:
            errors.append(field_errors.invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
        errors += _mode(item.get("mode"), child(where, "mode"))
    return errors


def _projected(source: Object, path: str) -> Errors:
    errors = _mode(source.get("defaultMode"), child(path, "defaultMode"))
    seen: set[str] = set()
    for index, projection in enumerate(source.get("sources") or []):
        where = child(child(path, "sources"), index)
        kinds = [name for name, value in projection.items() if value is not None]
        if not kinds:
            errors.append(field_errors.required(where, "must specify a volume type"))
        errors += [field_errors.forbidden(child(where, name), "may not specify more than 1 volume type") for name in kinds[1:]]
        for kind in kinds[:1]:
            one, at = projection[kind], child(where, kind)
            if kind in ("secret", "configMap"):
                if not one.get("name"):
                    errors.append(field_errors.required(child(at, "name")))
                errors += _items(one.get("items") or [], child(at, "items"))
            elif kind == "downwardAPI":
                errors += _downward_items(one.get("items") or [], child(at, "items"))
            elif kind == "serviceAccountToken":
                errors += _token(one, at)
            paths = (
                [one.get("path")] if kind in ("serviceAccountToken", "clusterTrustBundle") else [item.get("path") for item in one.get("items") or []]
            )
            for found in paths:
                if found and found in seen:
                    errors.append(field_errors.invalid(path, found, "conflicting duplicate paths"))
                seen.add(str(found))
    return errors


def _token(token: Object, path: str) -> Errors:
    errors: Errors = []
    seconds = token.get("expirationSeconds")
    if seconds is not None:
        if seconds < 600:
            errors.append(field_errors.invalid(child(path, "expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"))
        if seconds > 2**32:
            errors.append(field_errors.invalid(child(path, "expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"))
    if not token.get("path"):
        errors.append(field_errors.required(child(path, "path")))
    return errors


def mounts(container: Object, known: dict[str, Object], path: str) -> Errors:
    """volumeMounts and volumeDevices of one container."""
    errors: Errors = []
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where = child(child(path, "volumeMounts"), index)
        name, mount_path = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(field_errors.required(child(where, "name")))
        elif name not in known:
            errors.append(field_errors.not_found(child(where, "name"), name))
        if not mount_path:
            errors.append(field_errors.required(child(where, "mountPath")))
        elif mount_path in paths:
            errors.append(field_errors.invalid(child(where, "mountPath"), mount_path, "must be unique"))
        paths.add(mount_path)
        if mount.get("subPath"):
            errors += _local_path(mount["subPath"], child(where, "subPath"))
            if mount.get("subPathExpr"):
                text = "subPathExpr and subPath are mutually exclusive"
                errors.append(field_errors.invalid(child(where, "subPathExpr"), mount["subPathExpr"], text))
        if mount.get("subPathExpr"):
            errors += _local_path(mount["subPathExpr"], child(where, "subPathExpr"))
        propagation = mount.get("mountPropagation")
        if propagation is not None and propagation not in ("Bidirectional", "HostToContainer", "None"):
            errors.append(field_errors.not_supported(child(where, "mountPropagation"), propagation, ("Bidirectional", "HostToContainer", "None")))
        if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
            text = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(field_errors.forbidden(child(where, "mountPropagation"), text))
    for index, device in enumerate(container.get("volumeDevices") or []):
        where = child(child(path, "volumeDevices"), index)
        if device.get("name") not in known:
            errors.append(field_errors.not_found(child(where, "name"), device.get("name") or ""))
        if not device.get("devicePath"):
            errors.append(field_errors.required(child(where, "devicePath")))
    return errors
