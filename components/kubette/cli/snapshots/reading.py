"""A member of etcd as its machine describes it, in a manifest or in a unit."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from kubette.cli.doctor import manifests
from kubette.cli.doctor.facts import MANIFESTS, File
from kubette.cli.errors import CommandError
from kubette.cli.snapshots.member import Member


def read(machine: str, files: Mapping[str, File]) -> Member:
    """The member of a machine, by its files. Raises CommandError when there is none, or one that cannot be handled."""
    command = manifests.commands(files, {}).get("etcd")
    if command is None:
        raise CommandError(f'machine "{machine}" has no etcd: neither {MANIFESTS}/etcd.yaml nor an etcd.service')
    flags = _flags(command)
    if lacking := next((name for name in ("name", "data-dir", "initial-advertise-peer-urls") if not flags.get(name)), ""):
        raise CommandError(f'etcd of machine "{machine}" is started without --{lacking}: where it is, and who, cannot be known')
    if flags.get("wal-dir"):
        raise CommandError(f'etcd of machine "{machine}" keeps its log elsewhere (--wal-dir): not supported')
    manifest = files.get(f"{MANIFESTS}/etcd.yaml")
    data_dir = flags["data-dir"] if manifest is None else _on_machine(manifests.read("", manifest.text).document, flags["data-dir"])
    urls = flags.get("listen-client-urls", "").split(",")
    local = next((url for url in urls if urlsplit(url).hostname in ("127.0.0.1", "localhost")), urls[0]) or "http://127.0.0.1:2379"
    certificates = (flags.get("trusted-ca-file", ""), flags.get("cert-file", ""), flags.get("key-file", ""))
    return Member(
        machine, flags["name"], manifest is None, data_dir.rstrip("/"), flags["initial-advertise-peer-urls"].split(",")[0], local, *certificates
    )


def _flags(command: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value`."""
    found: dict[str, str] = {}
    last = ""
    for word in command[1:]:
        if word.startswith("-"):
            last, separator, value = word.lstrip("-").partition("=")
            found[last] = value
            last = "" if separator else last
        elif last:
            found[last], last = word, ""
    return found


def _on_machine(pod: Any, inside: str) -> str:
    """A folder of a pod's first container as a folder of its machine."""
    spec = (pod or {}).get("spec") or {}
    paths = {volume.get("name"): (volume.get("hostPath") or {}).get("path", "") for volume in spec.get("volumes") or []}
    for mount in (spec.get("containers") or [{}])[0].get("volumeMounts") or []:
        if mount.get("mountPath", "").rstrip("/") == inside.rstrip("/"):
            return str(paths.get(mount.get("name")) or inside)
    return inside
