"""Pure: what a restore would do to the objects of a cluster: which are newer than the snapshot, by resource and name."""

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kubette.api.kinds import KINDS

Revisions = dict[str, tuple[int, int]]  # key → create_revision and mod_revision

# Written all the time by the cluster itself; counted, not listed.
RESTLESS = ("events", "leases.coordination.k8s.io", "masterleases", "ranges")
_PREFIXES = sorted(
    {(kind.storage_prefix.strip("/"), kind.group_resource) for kind in KINDS if kind.stored and kind.stored_gv.group == kind.group},
    key=lambda pair: -len(pair[0]),
)


@dataclass(frozen=True, slots=True)
class Loss:
    """Objects as `deployments.apps default/web`. `restless` counts the changes that are not listed."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    restless: Mapping[str, int] = field(default_factory=dict)


def revisions(answer: str) -> Revisions:
    """What `etcdctl get --prefix --keys-only -w json` says."""
    found = json.loads(answer).get("kvs") or []
    return {base64.b64decode(kv["key"]).decode(errors="replace"): (kv["create_revision"], kv["mod_revision"]) for kv in found}


def object_of(key: str) -> tuple[str, str]:
    """A key's resource and the object's name: `/registry/pods/default/web` → `pods`, `default/web`. A key of something else is its own name."""
    path = key.strip("/")
    for prefix, resource in _PREFIXES:
        if path.startswith(prefix + "/"):
            return resource, path[len(prefix) + 1 :]
    parts = path.split("/")
    if parts[0] == "registry" and len(parts) > 2:
        return parts[1], "/".join(parts[2:])
    return "key", key


def compare(now: Revisions, then: Revisions) -> Loss:
    """`then` is what the snapshot holds."""
    kinds = {
        "created": now.keys() - then.keys(),
        "changed": {key for key in now.keys() & then.keys() if now[key] != then[key]},
        "deleted": then.keys() - now.keys(),
    }
    listed: dict[str, list[str]] = {}
    restless: Counter[str] = Counter()
    for what, keys in kinds.items():
        listed[what] = []
        for resource, name in sorted(map(object_of, keys)):
            if resource in RESTLESS:
                restless[resource] += 1
            else:
                listed[what].append(f"{resource} {name}")
    return Loss(**listed, restless=dict(restless))


def text(loss: Loss) -> str:
    """For the user."""
    parts = []
    for title, names in (
        ("Newer than the snapshot, and lost", loss.created),
        ("Changed since, and taken back", loss.changed),
        ("Deleted since, and there again", loss.deleted),
    ):
        if names:
            parts += [f"{title} ({len(names)}):", *(f"  {name}" for name in names)]
    if loss.restless:
        counted = ", ".join(f"{count} {resource}" for resource, count in sorted(loss.restless.items()))
        parts.append(f"Also {counted}, which change all the time.")
    return "\n".join(parts) or "Nothing is newer than the snapshot."
