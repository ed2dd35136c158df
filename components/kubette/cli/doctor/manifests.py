"""Manifests and unit files as their readers read them: what a file means, or what is wrong with its text."""

from collections.abc import Mapping
from functools import cache

import yaml

from kubette.apimachinery import schema, validation
from kubette.cli.doctor.facts import CONTROL_PLANE, MANIFESTS, File, Manifest

UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system")
COMPONENTS = (*CONTROL_PLANE, "kubelet", "kube-proxy")


@cache
def _pod_schema() -> schema.Schema:
    found = schema.Schemas.load().for_gvk("", "v1", "Pod")
    assert found is not None
    return found


def read(path: str, text: str) -> Manifest:
    """One file of the static pods' folder."""
    try:
        document = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        return Manifest(path, error=" ".join(str(error).split()))
    if not isinstance(document, dict):
        return Manifest(path, error="it is not a mapping: a Pod is expected")
    if document.get("kind") != "Pod" or document.get("apiVersion") != "v1":
        return Manifest(path, document, f'expected a Pod of v1, got kind "{document.get("kind", "")}" of "{document.get("apiVersion", "")}"')
    try:
        return Manifest(path, document, unknown=tuple(validation.unknown_fields(document, _pod_schema())))
    except validation.DecodeError as error:
        return Manifest(path, document, str(error))


def commands(files: Mapping[str, File], running: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Component → command line, from its manifest or from its unit file with the drop-ins' environment."""
    found = dict(running)
    for component in COMPONENTS:
        manifest = files.get(f"{MANIFESTS}/{component}.yaml")
        if manifest is not None:
            container = read("", manifest.text).container
            words = [*(container.get("command") or []), *(container.get("args") or [])]
            found[component] = tuple(str(word) for word in words)
            continue
        for folder in UNIT_FOLDERS:
            unit = files.get(f"{folder}/{component}.service")
            if unit is not None:
                drop_ins = [file.text for path, file in sorted(files.items()) if f"/{component}.service.d/" in path]
                found[component] = _exec_start([unit.text, *drop_ins])
                break
    return found


def _exec_start(texts: list[str]) -> tuple[str, ...]:
    """The last ExecStart of a unit and its drop-ins; `$NAME` and `${NAME}` come from their Environment lines."""
    environment: dict[str, str] = {}
    line_of_start = ""
    for line in "\n".join(texts).replace("\\\n", " ").splitlines():
        key, _, value = line.strip().partition("=")
        if key == "Environment":
            name, _, content = value.strip().strip('"').partition("=")
            environment[name] = content
        elif key == "ExecStart" and value:
            line_of_start = value
    for name, content in environment.items():
        line_of_start = line_of_start.replace("${" + name + "}", content).replace("$" + name, content)
    return tuple(word.strip('"') for word in line_of_start.split())
