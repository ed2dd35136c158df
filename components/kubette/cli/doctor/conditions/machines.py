"""Pure: machines and their units: what has no power, what does not run, what runs with other settings than its files say."""

import re
from collections.abc import Iterator

from kubette.cli.doctor import reading
from kubette.cli.doctor.facts import CONTROL_PLANE, MANIFESTS, Facts, Machine
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

_CONFIG_ERROR = re.compile(r"(failed to load kubelet config file.*|failed to load Kubelet config file.*|.*KubeletConfiguration.*)")
_FLAG_ERROR = re.compile(r"(?:Error: )?((?:unknown flag: |invalid argument ).*|failed to parse kubelet flag.*)")


def cluster_stopped(facts: Facts) -> Iterator[Seen]:
    if not facts.is_running:
        yield Seen("cluster", "the cluster is stopped", "its supervisor does not run, so that no machine has power", "kubette up")


def machine_off(facts: Facts) -> Iterator[Seen]:
    if not facts.is_running:
        return
    for machine in facts.machines:
        if machine.state != "running":
            verb = "resume" if machine.state == "paused" else "start"
            reason = f" ({machine.reason})" if machine.reason else ""
            why = "nothing on it runs: its node becomes NotReady after 40 to 50 s, and its pods are replaced 5 minutes later"
            yield Seen(machine.name, f"the machine is {machine.state}{reason}", why, f"kubette machine {verb} {machine.name}")


def _units(facts: Facts, *names: str) -> Iterator[tuple[Machine, str, dict[str, str]]]:
    """Units that are there and do not run."""
    for machine in facts.powered:
        for name in names:
            unit = dict(machine.units.get(name) or {})
            if unit.get("LoadState") == "loaded" and (unit["ActiveState"] not in ("active", "reloading") or unit.get("SubState") == "auto-restart"):
                yield machine, name, unit


def _state(name: str, unit: dict[str, str]) -> str:
    state = f"Active: {unit['ActiveState']} ({unit.get('SubState', '')})"
    if unit.get("Result") not in ("", "success", None):
        state += f", Result: {unit['Result']}, status={unit.get('ExecMainStatus', '?')}"
    return f"{name}.service: {state}"


def _stopped(machine: Machine, name: str, unit: dict[str, str], effect: str) -> Seen:
    told = reading.last_error(machine.journals.get(name, ()))
    if unit["ActiveState"] == "inactive":
        return Seen(machine.name, _state(name, unit), f"it was stopped, or never started: {effect}", f"systemctl start {name}")
    why = f"it ends as soon as it is started: {told or 'its journal says why'}"
    return Seen(
        machine.name, _state(name, unit), f"{why}; {effect}", f"journalctl -u {name} -n 20, repair what it names, then: systemctl restart {name}"
    )


def kubelet_config(facts: Facts) -> Iterator[Seen]:
    for machine, name, _ in _units(facts, "kubelet"):
        told = reading.last_error(machine.journals.get(name, ()))
        found = _CONFIG_ERROR.search(told)
        # A machine that has no configuration yet has not joined: that is said elsewhere.
        if found and "no such file or directory" not in told:
            path = next((p for p in machine.flags("kubelet").values() if p.endswith(".yaml")), "/var/lib/kubelet/config.yaml")
            yield Seen(machine.name, found[1], f"the kubelet refuses {path} and ends, again and again", f"vi {path}, then: systemctl restart kubelet")


def kubelet_flags(facts: Facts) -> Iterator[Seen]:
    for machine, name, _ in _units(facts, "kubelet"):
        for line in reversed(machine.journals.get(name, ())):
            if found := _FLAG_ERROR.search(line):
                why = "the kubelet's command line has a flag it does not know: look into its unit, its drop-ins and kubeadm-flags.env"
                yield Seen(
                    machine.name,
                    found[1],
                    why,
                    "systemctl cat kubelet; cat /var/lib/kubelet/kubeadm-flags.env; systemctl daemon-reload; systemctl restart kubelet",
                )
                break


def kubelet_down(facts: Facts) -> Iterator[Seen]:
    known = {seen.where for find in (kubelet_config, kubelet_flags, not_joined) for seen in find(facts)}
    for machine, name, unit in _units(facts, "kubelet"):
        if machine.name not in known:
            yield _stopped(machine, name, unit, "no pod of this machine is started or watched, static pods included")


def runtime_down(facts: Facts) -> Iterator[Seen]:
    for machine, name, unit in _units(facts, "containerd"):
        yield _stopped(machine, name, unit, "the kubelet cannot start containers and reports the node as NotReady")


def unit_down(facts: Facts) -> Iterator[Seen]:
    """The components of a cluster set up by hand."""
    for machine, name, unit in _units(facts, *CONTROL_PLANE, "kube-proxy"):
        yield _stopped(machine, name, unit, "on this machine it is a unit, and nobody else starts it")


def unit_not_reloaded(facts: Facts) -> Iterator[Seen]:
    for machine in facts.powered:
        for name, unit in machine.units.items():
            if unit.get("NeedDaemonReload") == "yes":
                what = f"Warning: The unit file, source configuration file or drop-ins of {name}.service changed on disk."
                why = "systemd still has the old text: a restart alone starts the old command line"
                yield Seen(machine.name, what, why, f"systemctl daemon-reload && systemctl restart {name}")


def unit_disabled(facts: Facts) -> Iterator[Seen]:
    for machine in facts.powered:
        for name in ("kubelet", "containerd", *(CONTROL_PLANE if facts.style == "systemd" else ())):
            unit = machine.units.get(name) or {}
            if unit.get("LoadState") == "masked" or unit.get("UnitFileState") in ("disabled", "masked"):
                state = unit.get("UnitFileState") or "masked"
                remedy = f"systemctl unmask {name}; systemctl enable --now {name}" if state == "masked" else f"systemctl enable {name}"
                yield Seen(machine.name, f"{name}.service: {state}", "it will not be there after the next reboot of this machine", remedy)


def not_joined(facts: Facts) -> Iterator[Seen]:
    """Has power, but is no node."""
    for machine in facts.powered:
        if facts.style == "kubeadm" and "/etc/kubernetes/kubelet.conf" not in machine.files:
            token = "kubeadm token create --print-join-command"
            why = "kubeadm join has not succeeded on this machine: without kubelet.conf its kubelet has no identity, and no configuration either"
            if machine.is_control_plane:
                why, token = "kubeadm init has not succeeded on this machine, or kubeadm reset was", "kubeadm init"
            remedy = token if machine.is_control_plane else f"on a control plane: {token}; what it prints is typed on {machine.name}"
            yield Seen(machine.name, "open /etc/kubernetes/kubelet.conf: no such file or directory", why, remedy)


def static_pod_path(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        config = machine.files.get("/var/lib/kubelet/config.yaml")
        if facts.style != "kubeadm" or config is None or not machine.is_control_plane:
            continue
        found = re.search(r"^staticPodPath:\s*\"?([^\s\"]*)", config.text, re.MULTILINE)
        path = found[1].rstrip("/") if found else ""
        if path != MANIFESTS:
            what = f'staticPodPath: "{path}"' if path else "staticPodPath is not set"
            why = f"the control plane's manifests are in {MANIFESTS}: this kubelet does not look there, so that its pods are stopped"
            yield Seen(machine.name, what, why, f"staticPodPath: {MANIFESTS} in /var/lib/kubelet/config.yaml, then: systemctl restart kubelet")


def cluster_dns(facts: Facts) -> Iterator[Seen]:
    service = next((s for s in facts.listed("services") if reading.name(s) == "kube-system/kube-dns"), None)
    address = ((service or {}).get("spec") or {}).get("clusterIP")
    for machine in facts.machines:
        for path in ("/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubelet-config.yaml"):
            text = machine.files[path].text if path in machine.files else ""
            configured = re.findall(r"^clusterDNS:\s*\[?\s*(?:\n\s*- )?[\"']?([0-9a-fA-F.:]+)", text, re.MULTILINE)
            if text and address and configured != [address]:
                what = f"clusterDNS: {configured[0] if configured else '(not set)'}"
                why = f"the cluster's DNS is at {address} (Service kube-system/kube-dns): pods started here resolve no Service"
                remedy = (
                    f"clusterDNS: [{address}] in {path}, then: systemctl restart kubelet; pods that run keep the old address until they are made anew"
                )
                yield Seen(machine.name, what, why, remedy)


CONDITIONS = (
    Condition("cluster-stopped", ERROR, "the cluster is stopped", cluster_stopped),
    Condition("machine-off", ERROR, "a machine has no power or is paused", machine_off),
    Condition("node-not-joined", ERROR, "a machine never became a node, or was reset", not_joined),
    Condition("kubelet-config-invalid", ERROR, "the kubelet refuses its configuration file", kubelet_config),
    Condition("kubelet-flag-unknown", ERROR, "the kubelet is started with a flag it does not know", kubelet_flags),
    Condition("kubelet-not-running", ERROR, "the kubelet does not run", kubelet_down),
    Condition("container-runtime-not-running", ERROR, "the container runtime does not run", runtime_down),
    Condition("unit-not-running", ERROR, "a component that is a unit does not run", unit_down),
    Condition("unit-file-changed", WARNING, "a unit file was changed and systemd was not told", unit_not_reloaded),
    Condition("unit-disabled", WARNING, "a unit that must be there after a reboot is disabled or masked", unit_disabled),
    Condition("static-pod-path-wrong", ERROR, "the kubelet of a control plane looks for static pods elsewhere", static_pod_path),
    Condition("kubelet-cluster-dns-wrong", ERROR, "pods are given a DNS server that is not the cluster's", cluster_dns),
)
