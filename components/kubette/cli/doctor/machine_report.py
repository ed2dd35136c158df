"""What one machine tells about itself: one script a machine, all machines at once; its sections are read here."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.cli import on_machines
from kubette.cli.doctor.facts import CONTROL_PLANE, Container, Etcd

UNITS = ("kubelet", "containerd", "kube-proxy", *CONTROL_PLANE)
PROPERTIES = "Id,LoadState,ActiveState,SubState,Result,NRestarts,NeedDaemonReload,UnitFileState,ExecMainStatus,FragmentPath,User"
JOURNAL_LINES, LOG_LINES = 200, 20
_MARK = "=====kubette:"
_UNKNOWN_FLAG = re.compile(r"unknown flag: --|flag provided but not defined: -")
# etcdctl's own patience (5 s) would be felt: a member that is there answers in milliseconds.
_ETCDCTL = "etcdctl --dial-timeout=1s --command-timeout=2s"
# Where `etcd` listens is read where it is configured; `$1` is the file, `$2` CA, `$3` certificate, `$4` key.
_ASK_ETCD = f"""
export ETCDCTL_API=3 ETCDCTL_CACERT={{ca}} ETCDCTL_CERT={{certificate}} ETCDCTL_KEY={{key}}
at=$(sed -n 's/.*--listen-client-urls=\\(\\S*\\).*/\\1/p' {{configured}} | tr , '\\n' | grep -m1 127.0.0.1)
export ETCDCTL_ENDPOINTS=${{{{at:-https://127.0.0.1:2379}}}}
echo {_MARK}members; {_ETCDCTL} member list -w json 2>&1
echo {_MARK}statuses; {_ETCDCTL} endpoint status --cluster -w json 2>/dev/null
echo {_MARK}alarms; {_ETCDCTL} alarm list 2>/dev/null
"""
_CLIENTS = {
    "kubeadm": {
        "ca": "/etc/kubernetes/pki/etcd/ca.crt",
        "certificate": "/etc/kubernetes/pki/etcd/server.crt",
        "key": "/etc/kubernetes/pki/etcd/server.key",
        "configured": "/etc/kubernetes/manifests/etcd.yaml",
    },
    "systemd": {
        "ca": "/etc/etcd/ca.crt",
        "certificate": "/etc/etcd/etcd-server.crt",
        "key": "/etc/etcd/etcd-server.key",
        "configured": "/etc/systemd/system/etcd.service",
    },
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a machine."""

    style: str
    is_control_plane: bool


@dataclass(frozen=True, slots=True)
class Report:
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    journals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    command_lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    etcd: Etcd | None = None


def script(wanted: Wanted) -> str:
    """What is typed on the machine."""
    units = " ".join(f"{unit}.service" for unit in UNITS)
    lines = [
        f"echo {_MARK}units; systemctl show {units} -p {PROPERTIES}",
        *(f"echo {_MARK}journal {u}; journalctl -u {u} -n {JOURNAL_LINES} --no-pager -o cat 2>/dev/null" for u in _asked(wanted)),
        f"echo {_MARK}containers; crictl --timeout=3s ps -a -o json 2>/dev/null",
        f'for log in /var/log/pods/kube-system_*/*; do echo "{_MARK}log $log"; for each in $(ls -v "$log" | tail -n 2); do '
        f'tail -qn {LOG_LINES} "$log/$each"; done; done',
    ]
    if wanted.is_control_plane:
        lines.append(_ASK_ETCD.format(**_CLIENTS[wanted.style]))
    return "\n".join(lines)


def _asked(wanted: Wanted) -> tuple[str, ...]:
    if wanted.style == "kubeadm":
        return ("kubelet",)
    return ("kubelet", "kube-proxy", *CONTROL_PLANE) if wanted.is_control_plane else ("kubelet", "kube-proxy")


def of_all(pids: Mapping[str, int], wanted: Mapping[str, Wanted], timeout_s: float) -> dict[str, Report]:
    """The reports of the machines that could be entered."""
    started = {name: on_machines.start(pid, ["/bin/bash", "-c", script(wanted[name])]) for name, pid in pids.items()}
    reports = {name: read(on_machines.finish(one, timeout_s).output) for name, one in started.items()}
    for name, report in reports.items():
        for component in sorted(c for c in CONTROL_PLANE if _UNKNOWN_FLAG.search("\n".join(_words_of(report, c)))):
            usage = on_machines.run(pids[name], [component, "--help"], timeout_s).output
            reports[name] = _with_program(reports[name], component, tuple(re.findall(r"--([a-z][a-z0-9-]+)", usage)))
    return reports


def _with_program(report: Report, component: str, flags: tuple[str, ...]) -> Report:
    programs = {**report.programs, component: flags}
    return Report(report.units, report.journals, report.containers, report.command_lines, programs, report.etcd)


def _words_of(report: Report, component: str) -> tuple[str, ...]:
    return (*report.journals.get(component, ()), *(line for c in report.containers if c.name == component for line in c.log))


def read(output: str) -> Report:
    """The script's output, section by section."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in output.splitlines():
        if line.startswith(_MARK):
            current = sections.setdefault(line.removeprefix(_MARK), [])
        else:
            current.append(line)
    units = [dict(pair.partition("=")[::2] for pair in block.splitlines()) for block in "\n".join(sections.get("units", [])).split("\n\n")]
    return Report(
        units={unit["Id"].removesuffix(".service"): unit for unit in units if unit.get("Id")},
        journals={name.removeprefix("journal "): tuple(lines) for name, lines in sections.items() if name.startswith("journal ")},
        containers=_containers(sections),
        etcd=_etcd(sections) if "members" in sections else None,
    )


def _json(lines: list[str]) -> Any:
    try:
        return json.loads("\n".join(lines))
    except ValueError:
        return None


def _containers(sections: Mapping[str, list[str]]) -> tuple[Container, ...]:
    """The newest attempt of each container, and what the last two attempts wrote (a new one has written nothing yet)."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for each in (_json(sections.get("containers", [])) or {}).get("containers") or []:
        labels = each["labels"]
        key = labels["io.kubernetes.pod.uid"], each["metadata"]["name"]
        if key not in newest or int(each["createdAt"]) > int(newest[key]["createdAt"]):
            newest[key] = each
    found = []
    for (uid, name), each in newest.items():
        labels = each["labels"]
        pod, namespace = labels["io.kubernetes.pod.name"], labels["io.kubernetes.pod.namespace"]
        log = sections.get(f"log /var/log/pods/{namespace}_{pod}_{uid}/{name}", [])
        found.append(Container(name, pod, namespace, each["state"], int(each["metadata"].get("attempt", 0)), tuple(map(_content, log))))
    # A static pod that was edited is a new pod: the newest of its name counts.
    found.sort(
        key=lambda c: -max(int(e["createdAt"]) for (_, n), e in newest.items() if n == c.name and e["labels"]["io.kubernetes.pod.name"] == c.pod)
    )
    return tuple({(c.namespace, c.pod, c.name): c for c in reversed(found)}.values())


def _content(line: str) -> str:
    """A line of the CRI log format without its time, stream and tag."""
    matched = re.match(r"\S+ (?:stdout|stderr) [FP] (.*)", line)
    return matched[1] if matched else line


def _etcd(sections: Mapping[str, list[str]]) -> Etcd:
    members = _json(sections["members"])
    if not isinstance(members, dict):
        lines = [line for line in sections["members"] if line.strip()]
        return Etcd(error=lines[-1].strip() if lines else "no answer")
    statuses = _json(sections.get("statuses", [])) or []
    return Etcd(tuple(members.get("members") or ()), tuple(statuses), tuple(line for line in sections.get("alarms", []) if "alarm:" in line))
