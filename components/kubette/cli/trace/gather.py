"""Collects what was written down of a pod: the object, its owners and events from the API; audit logs and etcd's log from the machines' own disks."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import yaml

from kubette.apimachinery import meta, status, timestamps
from kubette.cli import kubeconfig as kubeconfig_command
from kubette.cli.errors import CommandError
from kubette.cli.trace import etcd_log, story
from kubette.client import kubeconfig, resources, rest
from kubette.client.resources import Resource
from kubette.machines import layout, spec

Object = dict[str, Any]

API_TIMEOUT_S = 10.0
KINDS = {
    "Pod": resources.PODS,
    "Deployment": resources.DEPLOYMENTS,
    "ReplicaSet": resources.REPLICASETS,
    "StatefulSet": resources.STATEFULSETS,
    "DaemonSet": resources.DAEMONSETS,
    "Job": resources.JOBS,
    "CronJob": resources.CRONJOBS,
}
_SHORT = {"po": "Pod", "deploy": "Deployment", "rs": "ReplicaSet", "sts": "StatefulSet", "ds": "DaemonSet", "cj": "CronJob"}
_NAMES = {name: kind for kind, resource in KINDS.items() for name in (kind.lower(), resource.resource)} | _SHORT
_OWNERS_MAX = 4
_FILES = {"kubeadm": "etc/kubernetes/manifests/{}.yaml", "systemd": "etc/systemd/system/{}.service"}


def parse_target(text: str) -> tuple[str, str]:
    """`pod/web`, `deployment/web`, or a pod's name alone: kind and name. Raises CommandError."""
    word, slash, name = text.partition("/")
    kind, name = (_NAMES.get(word.lower(), ""), name) if slash else ("Pod", word)
    if not kind or not name:
        raise CommandError(
            f'cannot trace "{text}": expected pod/NAME, or one of {", ".join(kind.lower() for kind in KINDS)}/NAME, whose newest pod is meant'
        )
    return kind, name


def records(place: layout.Layout, cluster: spec.Cluster, kind: str, namespace: str, name: str) -> story.Records:
    """Raises CommandError when the API cannot be asked or has no such object."""
    try:
        pod, owners, events = asyncio.run(_ask(kubeconfig_command.of_cluster(place, cluster), kind, namespace, name))
    except status.ApiError as error:
        raise CommandError(str(error)) from None
    except rest.FAILURES as error:
        raise CommandError(f"cannot ask the API server: {error or type(error).__name__}") from error
    objects = [pod, *owners]
    audit, begins, trouble = _audit(place, cluster, [meta.name(one) for one in objects])
    keys = {story.etcd_key(one) for one in objects}
    writes = next((found for m in cluster.etcd_members if (found := etcd_log.writes(_wal(place, cluster, m), keys))), [])
    return story.Records(pod, tuple(owners), tuple(events), tuple(audit), tuple(writes), begins, trouble)


async def _ask(config: Path, kind: str, namespace: str, name: str) -> tuple[Object, list[Object], list[Object]]:
    async with rest.Client(kubeconfig.from_file(str(config)), user_agent="kubette", timeout_s=API_TIMEOUT_S) as api:
        found = await _get(api, kind, namespace, name)
        pod = found if kind == "Pod" else await _newest_pod(api, found)
        owners: list[Object] = []
        while len(owners) < _OWNERS_MAX and (reference := meta.controller_of([pod, *owners][-1])) is not None and reference["kind"] in KINDS:
            try:
                owners.append(await _get(api, reference["kind"], namespace, reference["name"]))
            except status.ApiError:
                break  # it is gone; the pod is not yet
        events = (await api.list_all(resources.EVENTS, namespace, field_selector=f"involvedObject.uid={meta.uid(pod)}"))[0]
        return pod, owners, list(events)


async def _get(api: rest.Client, kind: str, namespace: str, name: str) -> Object:
    found = await api.get(KINDS[kind], namespace, name)
    return {**found, "kind": kind}


async def _newest_pod(api: rest.Client, owner: Object) -> Object:
    """The newest pod that `owner` has, itself or through what it owns."""
    namespace = meta.namespace(owner)
    mine = {meta.uid(owner)}
    for between in (resources.REPLICASETS, resources.JOBS):
        mine |= {meta.uid(one) for one in await _owned(api, between, namespace, mine)}
    pods = await _owned(api, resources.PODS, namespace, mine)
    if not pods:
        raise CommandError(f"{str(owner['kind']).lower()}/{meta.name(owner)} has no pod")
    newest: Object = max(pods, key=_age)
    return {**newest, "kind": "Pod"}


def _age(obj: Object) -> tuple[str, int]:
    return meta.creation_timestamp(obj), int(meta.resource_version(obj))


async def _owned(api: rest.Client, resource: Resource, namespace: str, owners: set[str]) -> list[Object]:
    listed = (await api.list_all(resource, namespace))[0]
    return [one for one in listed if (reference := meta.controller_of(one)) is not None and reference["uid"] in owners]


def _file(place: layout.Layout, machine: spec.Machine, style: str, component: str) -> Path:
    """Where the flags of a component stand."""
    return place.machine_root(machine.name) / _FILES[style].format(component)


def _flag(file: Path, flag: str) -> str:
    try:
        text = file.read_text()
    except OSError:
        return ""
    found = re.search(rf"--{flag}=(\S+)", text)
    return found[1] if found else ""


def _audit(place: layout.Layout, cluster: spec.Cluster, names: list[str]) -> tuple[list[Object], float | None, str]:
    """The records that may be about these names, the time of the oldest record of all, and why there is none."""
    wanted = [f'"name":"{name}"'.encode() for name in names]
    found: list[Object] = []
    begins: list[float] = []
    troubles = []
    for machine in cluster.control_planes:
        path, policy = (_flag(_file(place, machine, cluster.style, "kube-apiserver"), flag) for flag in ("audit-log-path", "audit-policy-file"))
        if not (path and policy) or path == "-":
            what = "--audit-policy-file" if not policy else "a file as --audit-log-path"
            troubles.append(f"the API server on {machine.name} runs without {what}")
            continue
        try:
            files = _log_files(place.machine_root(machine.name) / path.lstrip("/"))
            for number, file in enumerate(files):
                for place_in_file, line in enumerate(_lines(file)):
                    if number == place_in_file == 0:
                        begins += [timestamps.parse_time(record["requestReceivedTimestamp"]) for record in _parsed(line)]
                    if any(name in line for name in wanted) or (b'"verb":"watch"' in line and b'"resource":"pods"' in line):
                        found += _parsed(line)
        except OSError as error:
            troubles.append(f"{path} on {machine.name} cannot be read: {(error.strerror or str(error)).lower()}")
    return found, min(begins, default=None), "" if begins else "; ".join(troubles)


def _log_files(path: Path) -> list[Path]:
    """The log and those it was before, the oldest first."""
    return [*sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")), path]


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _parsed(line: bytes) -> list[Object]:
    try:
        return [orjson.loads(line)]
    except orjson.JSONDecodeError:  # being written
        return []


def _wal(place: layout.Layout, cluster: spec.Cluster, machine: spec.Machine) -> Path:
    """The member's log: where its manifest mounts its data from, or its unit says."""
    file = _file(place, machine, "systemd" if cluster.external_etcd else cluster.style, "etcd")
    directory = _flag(file, "data-dir") or "/var/lib/etcd"
    if file.suffix == ".yaml":
        directory = _mounted_from(file, directory)
    return place.machine_root(machine.name) / directory.lstrip("/") / "member" / "wal"


def _mounted_from(manifest: Path, directory: str) -> str:
    """The machine's folder that a static pod sees as `directory`."""
    try:
        spec_of_pod = yaml.safe_load(manifest.read_text())["spec"]
        volumes = {volume["name"]: volume["hostPath"]["path"] for volume in spec_of_pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in spec_of_pod["containers"][0]["volumeMounts"]}
        return str(volumes[mounts[directory]])
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return directory
