"""`--patches DIRECTORY`: what a user changes in the static Pods, the kubelet's configuration and CoreDNS (upstream: app/util/patches).

A file is named `target[suffix][+type].extension`: kube-apiserver+merge.yaml, kubeletconfiguration0+strategic.json. Files apply in the order of their names.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubette.apimachinery import patch
from kubette.apimachinery.schema import Schema, Schemas
from kubette.kubeadm.config import ConfigError

TARGETS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeletconfiguration", "corednsdeployment")
_NAME = re.compile(r"([a-z-]+?)([^a-z+][^+]*)?(?:\+(\w*))?\.(json|yaml|yml)")
_CONTENT_TYPES = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}
# What a strategic patch needs to know of a target's lists. The kubelet's configuration is no object of the API: its lists are replaced.
_KINDS = {"corednsdeployment": ("apps", "v1", "Deployment"), "kubeletconfiguration": None}


@dataclass(frozen=True, slots=True)
class Patch:
    """One document of a file."""

    target: str
    kind: str  # strategic, merge or json
    content: Any


@dataclass(slots=True)
class Patches:
    """Those of one directory."""

    found: list[Patch] = field(default_factory=list)

    def apply(self, target: str, document: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
        """Raises ConfigError for a patch that does not fit."""
        for each in self.found:
            if each.target != target:
                continue
            try:
                document = _applied(document, each)
            except (patch.PatchError, KeyError, TypeError) as error:
                raise ConfigError(f'could not apply the patch of type "{_CONTENT_TYPES[each.kind]}" to target "{target}": {error}') from error
            say(f'[patches] Applied patch of type "{_CONTENT_TYPES[each.kind]}" to target "{target}"')
        return document


def _applied(document: dict[str, Any], each: Patch) -> dict[str, Any]:
    match each.kind:
        case "json":
            result: dict[str, Any] = patch.json_patch(document, each.content)
        case "merge":
            result = patch.merge_patch(document, each.content)
        case _:
            result = patch.strategic_merge_patch(document, each.content, _schema(each.target))
    return result


def _schema(target: str) -> Schema | None:
    kind = _KINDS.get(target, ("", "v1", "Pod"))
    return Schemas.load().for_gvk(*kind) if kind else None


def load(directory: str, say: Callable[[str], None]) -> Patches:
    """Raises ConfigError for a file that is no patch."""
    if not directory:
        return Patches()
    say(f'[patches] Reading patches from path "{directory}"')
    try:
        paths = sorted(path for path in Path(directory).iterdir() if path.suffix in (".json", ".yaml", ".yml"))
        texts = {path: path.read_text() for path in paths}
    except OSError as error:
        raise ConfigError(f"could not read patches from path {directory!r}: {error.strerror}") from error
    found = [one for path, text in texts.items() for one in _read(path.name, text)]
    if found:
        say(f"[patches] Found the following patch files: [{' '.join(path.name for path in paths)}]")
    return Patches(found)


def _read(name: str, text: str) -> list[Patch]:
    matched = _NAME.fullmatch(name)
    target = matched[1] if matched else name
    if matched is None or target not in TARGETS:
        raise ConfigError(f'unknown target "{target}", must be one of [{" ".join(TARGETS)}]')
    kind = matched[3] if matched[3] is not None else "strategic"
    if kind not in _CONTENT_TYPES:
        raise ConfigError(f'unknown patch type "{kind}" from filename "{name}"')
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        raise ConfigError(f'could not parse patch file "{name}": {error}') from error
    return [Patch(target, kind, content) for content in documents]
