"""Pure: the control plane's manifests and what became of them: texts nobody can read, misspelt fields, images and flags; files that are not there."""

import re
from collections.abc import Iterator

from kubette.cli.doctor import reading
from kubette.cli.doctor.facts import CONTROL_PLANE, MANIFESTS, Container, Facts, Machine
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

_UNKNOWN_FLAG = re.compile(r"(?:unknown flag: --?|flag provided but not defined: --?)([\w-]+)")
_BAD_VALUE = re.compile(r"invalid argument .*? for \"?--([\w-]+)")
# Flags whose value is a file that must exist when the component starts.
_FILE_FLAG = re.compile(
    r"-(file|cafile|certfile|keyfile|certificate|authority|key)$|^(kubeconfig|config|authentication-kubeconfig|authorization-kubeconfig)$"
)
_DANGEROUS_PLUGINS = {
    "NamespaceLifecycle": "objects can be made in namespaces that do not exist or are being deleted",
    "ServiceAccount": "pods get no service account and no token: what talks to the API from a pod fails",
    "MutatingAdmissionWebhook": "no mutating webhook is asked",
    "ValidatingAdmissionWebhook": "no validating webhook is asked",
    "DefaultTolerationSeconds": "pods on a lost node are not replaced after 300 s",
    "Priority": "pods with a priority class are refused or have no priority",
}


def _kubeadm_control_planes(facts: Facts) -> Iterator[Machine]:
    return (machine for machine in facts.control_planes if facts.style == "kubeadm" and "/etc/kubernetes/kubelet.conf" in machine.files)


def unparsable(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        for manifest in machine.manifests:
            if manifest.error:
                what = f'"Could not process manifest file" err="{manifest.error}" path="{manifest.path}"'
                why = "the kubelet cannot read this file: a pod it described before runs on as it was, a new one is not started"
                yield Seen(machine.name, what, why, f"vi {manifest.path}; the kubelet reads it again by itself within 20 s")


def unknown_field(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        for manifest in machine.manifests:
            for path in manifest.unknown:
                why = f"{manifest.path} has a field that a Pod does not have: it is misspelt or indented wrongly, and is dropped without a word"
                yield Seen(machine.name, f'unknown field "{path}"', why, f"kubectl explain pod.spec, then: vi {manifest.path}")


def missing(facts: Facts) -> Iterator[Seen]:
    for machine in _kubeadm_control_planes(facts):
        external = "etcd" not in machine.commands and "127.0.0.1" not in machine.flags("kube-apiserver").get("etcd-servers", "127.0.0.1")
        present = {m.name.removesuffix(f"-{machine.name}") for m in machine.manifests} | {
            m.path.rpartition("/")[2].removesuffix(".yaml") for m in machine.manifests
        }
        for component in CONTROL_PLANE:
            if component not in present and not (component == "etcd" and external):
                what = f"{MANIFESTS}/{component}.yaml: no such file or directory"
                why = f"the kubelet runs what is in this folder: {component} was stopped when its file went away"
                phase = "etcd local" if component == "etcd" else f"control-plane {component.removeprefix('kube-')}"
                yield Seen(machine.name, what, why, f"move the file back, or write it anew: kubeadm init phase {phase}")


def _broken(machine: Machine) -> Iterator[Container]:
    """Containers of the control plane that ended and were not asked to."""
    for component in CONTROL_PLANE:
        container = machine.container(component)
        if container and machine.state == "running" and (container.state == "CONTAINER_EXITED" or container.attempt >= 3):
            yield container


def wrong_flag(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        ended = [(c.name, c.log) for c in _broken(machine)]
        ended += [
            (n, machine.journals.get(n, ())) for n in CONTROL_PLANE if (machine.units.get(n) or {}).get("SubState") in ("auto-restart", "failed")
        ]
        for component, log in ended:
            found = next((m for line in reversed(log) for m in (_UNKNOWN_FLAG.search(line) or _BAD_VALUE.search(line),) if m), None)
            # An old attempt's words: the flag has been repaired since.
            if found and found[1] in machine.flags(component):
                why = f"{component} does not start with --{found[1]}{reading.near(found[1], machine.programs.get(component, ()))}"
                path = f"{MANIFESTS}/{component}.yaml" if facts.style == "kubeadm" else f"/etc/systemd/system/{component}.service"
                yield Seen(machine.name, found.string.strip().removeprefix("Error: "), why, f"vi {path}")


def crash_loop(facts: Facts) -> Iterator[Seen]:
    flags = {(seen.where, seen.why.split(" ")[0]) for find in (wrong_flag, file_missing) for seen in find(facts)}
    for machine in facts.machines:
        for container in _broken(machine):
            if (machine.name, container.name) not in flags and container.state == "CONTAINER_EXITED":
                told = reading.last_error(container.log) or (container.log[-1] if container.log else "it wrote nothing")
                what = f"{container.name}: {told}"
                why = f"the container of {container.name} ends after each start (attempt {container.attempt}) and is started again later and later"
                yield Seen(machine.name, what, why, f"crictl ps -a --name {container.name}; crictl logs ID; vi {MANIFESTS}/{container.name}.yaml")


def image(facts: Facts) -> Iterator[Seen]:
    for machine in facts.powered:
        used = {c.get("image", "") for m in facts.machines for c in (each.container for each in m.manifests)}
        for manifest in machine.manifests:
            wanted = str(manifest.container.get("image") or "")
            told = [
                line
                for line in machine.journals.get("kubelet", ())
                if wanted and f'"{wanted}"' in line.replace("\\", "") and "ailed" in line and "ull" in line
            ]
            name = str(manifest.container.get("name") or manifest.name)
            container = machine.container(name)
            if manifest.error or not told or (container and container.state == "CONTAINER_RUNNING"):
                continue
            component = wanted.rpartition("/")[2].partition(":")[0]
            near = reading.near(component, [*CONTROL_PLANE, *(str(i).rpartition("/")[2].partition(":")[0] for i in used if i != wanted)])
            why = f"{manifest.path} names an image that cannot be pulled{near}"
            yield Seen(machine.name, f'Failed to pull image "{wanted}"', why, f"kubeadm config images list; vi {manifest.path}")


def file_missing(facts: Facts) -> Iterator[Seen]:
    """A flag names a file that is not there; paths in other places than the machine's own files are not judged."""
    for machine in facts.control_planes:
        for component in CONTROL_PLANE:
            for flag, value in machine.flags(component).items():
                folder = value.rpartition("/")[0]
                known = any(path.rpartition("/")[0] == folder for path in machine.files)
                if _FILE_FLAG.search(flag) and value.startswith("/") and known and value not in machine.files:
                    near = reading.near(value, (p for p in machine.files if p.rpartition("/")[0] == folder))
                    what = f"open {value}: no such file or directory"
                    why = f"{component} is started with --{flag}={value}{near}"
                    path = f"{MANIFESTS}/{component}.yaml" if facts.style == "kubeadm" else f"/etc/systemd/system/{component}.service"
                    yield Seen(machine.name, what, why, f"ls {folder}; vi {path}")


def host_path_missing(facts: Facts) -> Iterator[Seen]:
    """A flag's folder that no volume of the pod brings into the container."""
    for machine in _kubeadm_control_planes(facts):
        for manifest in machine.manifests:
            component = manifest.path.rpartition("/")[2].removesuffix(".yaml")
            if component not in CONTROL_PLANE or manifest.error or not isinstance(manifest.document, dict):
                continue
            volumes = {v.get("name") for v in (manifest.document.get("spec") or {}).get("volumes") or []}
            for mount in manifest.container.get("volumeMounts") or []:
                if mount.get("name") not in volumes:
                    what = f'spec.containers[0].volumeMounts: Not found: "{mount.get("name")}"'
                    yield Seen(machine.name, what, f"{manifest.path} mounts a volume that it does not define", f"vi {manifest.path}")
            mounted = [str(mount.get("mountPath", "")).rstrip("/") for mount in manifest.container.get("volumeMounts") or []]
            for flag, value in machine.flags(component).items():
                if value in machine.files and not any(value == path or value.startswith(f"{path}/") for path in mounted):
                    what = f"open {value}: no such file or directory"
                    why = f"--{flag} names a file of the machine, but no hostPath volume of {manifest.path} mounts its folder into the container"
                    yield Seen(machine.name, what, why, f"add a hostPath volume and a volumeMount for {value.rpartition('/')[0]} to {manifest.path}")


def etcd_endpoint(facts: Facts) -> Iterator[Seen]:
    """kube-apiserver looks for etcd where none listens."""
    listening: set[str] = set()
    for machine in facts.control_planes:
        listening.update(url for url in machine.flags("etcd").get("listen-client-urls", "").split(",") if url)
    if not listening:
        return  # etcd is not ours
    for machine in facts.control_planes:
        own = set(machine.flags("etcd").get("listen-client-urls", "").split(","))
        for url in filter(None, machine.flags("kube-apiserver").get("etcd-servers", "").split(",")):
            is_local = "//127." in url or "//localhost" in url
            if url.replace("//localhost:", "//127.0.0.1:").rstrip("/") in (own if is_local else listening):
                continue
            scheme = url.replace("http://", "https://") in listening
            why = (
                "etcd speaks TLS there: the address must begin with https://" if scheme else f"etcd listens at {', '.join(sorted(own or listening))}"
            )
            path = f"{MANIFESTS}/kube-apiserver.yaml" if facts.style == "kubeadm" else "/etc/systemd/system/kube-apiserver.service"
            yield Seen(machine.name, f"kube-apiserver: --etcd-servers={url}", f"nothing listens there; {why}", f"vi {path}")


def plugin_disabled(facts: Facts) -> Iterator[Seen]:
    for machine in facts.control_planes:
        for plugin in machine.flags("kube-apiserver").get("disable-admission-plugins", "").split(","):
            if plugin in _DANGEROUS_PLUGINS:
                yield Seen(
                    machine.name, f"kube-apiserver: --disable-admission-plugins={plugin}", _DANGEROUS_PLUGINS[plugin], "take it out of the flag"
                )


def authorization(facts: Facts) -> Iterator[Seen]:
    for machine in facts.control_planes:
        modes = machine.flags("kube-apiserver").get("authorization-mode")
        if modes is None or (machine.manifest("kube-apiserver") and machine.manifest("kube-apiserver").error):  # type: ignore[union-attr]
            continue
        what = f"kube-apiserver: --authorization-mode={modes}"
        if "AlwaysAllow" in modes.split(","):
            yield Seen(machine.name, what, "everybody who can log in may do everything", "--authorization-mode=Node,RBAC")
        elif "RBAC" not in modes.split(","):
            yield Seen(
                machine.name,
                what,
                "without RBAC the rights of users, controllers and nodes are gone: they are told Forbidden",
                "--authorization-mode=Node,RBAC",
            )
        elif "Node" not in modes.split(","):
            yield Seen(machine.name, what, "without the Node authorizer kubelets may not read what their pods need", "--authorization-mode=Node,RBAC")


def controllers_disabled(facts: Facts) -> Iterator[Seen]:
    for machine in facts.control_planes:
        value = machine.flags("kube-controller-manager").get("controllers")
        off = [name for name in (value or "").split(",") if name.startswith("-")]
        if off or (value and "*" not in value.split(",")):
            why = f"switched off: {', '.join(name[1:] for name in off)}" if off else "without * only those that are named run"
            yield Seen(machine.name, f"kube-controller-manager: --controllers={value}", why, "--controllers=*,bootstrapsigner,tokencleaner")


CONDITIONS = (
    Condition("manifest-unparsable", ERROR, "a static pod's manifest is no valid YAML, or no Pod", unparsable),
    Condition("manifest-unknown-field", ERROR, "a static pod's manifest has a misspelt field", unknown_field),
    Condition("manifest-missing", ERROR, "a control plane component has no manifest", missing),
    Condition("static-pod-image-not-found", ERROR, "a static pod's image cannot be pulled", image),
    Condition("component-flag-invalid", ERROR, "a component refuses a flag", wrong_flag),
    Condition("component-file-missing", ERROR, "a flag names a file that is not there", file_missing),
    Condition("component-volume-missing", ERROR, "a file a component needs is not mounted into its container", host_path_missing),
    Condition("static-pod-crash-loop", ERROR, "a control plane container ends after each start", crash_loop),
    Condition("apiserver-etcd-endpoint-wrong", ERROR, "kube-apiserver looks for etcd where none listens", etcd_endpoint),
    Condition("admission-plugin-disabled", WARNING, "an admission plugin everybody relies on is off", plugin_disabled),
    Condition("authorization-mode-wrong", ERROR, "kube-apiserver's authorization modes open or lock the cluster", authorization),
    Condition("controllers-disabled", WARNING, "kube-controller-manager runs without some controllers", controllers_disabled),
)
