"""Pure: the CRI messages that describe a pod's sandbox and its containers (kuberuntime's generatePodSandboxConfig and generateContainerConfig).

Labels and annotations on them are all that survives a kubelet's death: they must let a new kubelet recognise, count and end a
container whose pod it has never seen.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import quantity
from kubette.cri import api_pb2
from kubette.kubelet import network_files, pod_spec
from kubette.kubelet import quality_of_service as qos
from kubette.kubelet.pod_spec import Pod
from kubette.kubelet.runtime_state import Container

Object = dict[str, Any]

MASKED_PATHS: tuple[str, ...] = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_PROTOCOLS = {"TCP": api_pb2.TCP, "UDP": api_pb2.UDP, "SCTP": api_pb2.SCTP}
_PROPAGATION = {
    "HostToContainer": api_pb2.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": api_pb2.PROPAGATION_BIDIRECTIONAL,
}


class InvalidContainer(Exception):
    """The container cannot be configured as its security context demands (CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node adds to every configuration."""

    cluster_domain: str = "cluster.local"
    pod_logs_dir: str = "/var/log/pods"
    hostname: str = ""
    memory_capacity: int = 0
    cgroup_driver: str = ""  # empty: the runtime has no cgroups
    cgroup_root: str = ""


@dataclass(frozen=True, slots=True)
class BindMount:
    """One mount of a container; `propagation` in the API's words."""

    host_path: str
    container_path: str
    read_only: bool = False
    propagation: str = "None"


@dataclass(frozen=True, slots=True)
class ContainerInputs:
    """What beside the spec goes into a container."""

    image_ref: str
    restart_count: int
    environment: dict[str, str]
    mounts: list[BindMount] = field(default_factory=list)
    image_uid: int | None = None
    image_user: str = ""
    target_id: str = ""  # ephemeral containers: whose processes to see


def pod_log_directory(pod: Pod, root: str) -> str:
    return f"{root}/{pod_spec.namespace(pod)}_{pod_spec.name(pod)}_{pod_spec.uid(pod)}"


def cgroup_parent(pod: Pod, driver: str, root: str = "") -> str:
    """`/kubepods/burstable/pod<uid>` or systemd's slice of the same meaning."""
    if not driver:
        return ""
    cls = qos.qos_class(pod)
    levels = ["kubepods"] + ([cls.lower()] if cls != qos.GUARANTEED else [])
    if driver == "cgroupfs":
        return f"{root.rstrip('/')}/" + "/".join([*levels, f"pod{pod_spec.uid(pod)}"])
    return "-".join([*levels, f"pod{pod_spec.uid(pod).replace('-', '_')}"]) + ".slice"


def sandbox_config(pod: Pod, attempt: int, dns: network_files.Dns, node: NodeFacts) -> api_pb2.PodSandboxConfig:
    """The sandbox of one attempt."""
    spec = pod["spec"]
    hostname, _ = network_files.hostname_and_domain(pod, node.cluster_domain)
    config = api_pb2.PodSandboxConfig(
        metadata=api_pb2.PodSandboxMetadata(name=pod_spec.name(pod), namespace=pod_spec.namespace(pod), uid=pod_spec.uid(pod), attempt=attempt),
        hostname="" if pod_spec.host_network(pod) else hostname,
        log_directory=pod_log_directory(pod, node.pod_logs_dir),
        dns_config=api_pb2.DNSConfig(servers=dns.servers, searches=dns.searches, options=dns.options),
        labels={
            **{k: str(v) for k, v in (pod["metadata"].get("labels") or {}).items()},
            "io.kubernetes.pod.name": pod_spec.name(pod),
            "io.kubernetes.pod.namespace": pod_spec.namespace(pod),
            "io.kubernetes.pod.uid": pod_spec.uid(pod),
        },
        annotations={k: str(v) for k, v in pod_spec.annotations(pod).items()},
    )
    if not pod_spec.host_network(pod):
        for container in pod_spec.all_containers(pod):
            for port in container.get("ports") or []:
                config.port_mappings.add(
                    protocol=_PROTOCOLS[port.get("protocol") or "TCP"],
                    container_port=int(port["containerPort"]),
                    host_port=int(port.get("hostPort") or 0),
                    host_ip=port.get("hostIP") or "",
                )
    context = spec.get("securityContext") or {}
    linux = config.linux
    linux.cgroup_parent = cgroup_parent(pod, node.cgroup_driver, node.cgroup_root)
    for sysctl in context.get("sysctls") or []:
        linux.sysctls[sysctl["name"]] = str(sysctl["value"])
    security = linux.security_context
    security.namespace_options.CopyFrom(_namespaces(pod))
    security.privileged = any((c.get("securityContext") or {}).get("privileged") for c in pod_spec.all_containers(pod))
    for name, target in (("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group)):
        if context.get(name) is not None and (name == "runAsUser" or context.get("runAsUser") is not None):
            target.value = int(context[name])
    security.supplemental_groups.extend(_groups(context))
    security.seccomp.CopyFrom(_profile(context.get("seccompProfile")))
    return config


def _groups(context: Object) -> list[int]:
    groups = [int(g) for g in context.get("supplementalGroups") or []]
    return groups + ([int(context["fsGroup"])] if context.get("fsGroup") is not None else [])


def _namespaces(pod: Pod, target_id: str = "") -> api_pb2.NamespaceOption:
    spec = pod["spec"]
    options = api_pb2.NamespaceOption(
        network=api_pb2.NODE if spec.get("hostNetwork") else api_pb2.POD,
        pid=api_pb2.NODE if spec.get("hostPID") else api_pb2.POD if spec.get("shareProcessNamespace") else api_pb2.CONTAINER,
        ipc=api_pb2.NODE if spec.get("hostIPC") else api_pb2.POD,
    )
    if target_id:
        options.pid, options.target_id = api_pb2.TARGET, target_id
    return options


def _profile(profile: Object | None) -> api_pb2.SecurityProfile:
    kind = (profile or {}).get("type")
    if kind == "RuntimeDefault":
        return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.RuntimeDefault)
    if kind == "Localhost":
        reference = f"/var/lib/kubelet/seccomp/{(profile or {}).get('localhostProfile', '')}"
        return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Localhost, localhost_ref=reference)
    return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Unconfined)


def effective_security_context(pod: Pod, container: Object) -> Object:
    """The container's security context over the pod's."""
    shared = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "appArmorProfile", "seLinuxOptions", "procMount")
    pod_context = pod["spec"].get("securityContext") or {}
    return {**{k: pod_context[k] for k in shared if pod_context.get(k) is not None}, **(container.get("securityContext") or {})}


def verify_run_as_non_root(pod: Pod, container: Object, image_uid: int | None, image_user: str) -> None:
    """Raises InvalidContainer in upstream's words."""
    context = effective_security_context(pod, container)
    if not context.get("runAsNonRoot"):
        return
    described = f'pod: "{pod_spec.described(pod)}", container: {container["name"]}'
    if context.get("runAsUser") is not None:
        if int(context["runAsUser"]) == 0:
            raise InvalidContainer(f"container's runAsUser breaks non-root policy ({described})")
        return
    if image_uid == 0 or (image_uid is None and not image_user):
        raise InvalidContainer(f"container has runAsNonRoot and image will run as root ({described})")
    if image_uid is None:
        raise InvalidContainer(
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root ({described})"
        )


def container_config(pod: Pod, container: Object, inputs: ContainerInputs, node: NodeFacts) -> api_pb2.ContainerConfig:
    """One attempt of one container."""
    from kubette.kubelet import environment

    def expand(text: str) -> str:
        return environment.expand(str(text), inputs.environment.get)

    name = container["name"]
    config = api_pb2.ContainerConfig(
        metadata=api_pb2.ContainerMetadata(name=name, attempt=inputs.restart_count),
        image=api_pb2.ImageSpec(image=inputs.image_ref, user_specified_image=container["image"]),
        command=[expand(word) for word in container.get("command") or []],
        args=[expand(word) for word in container.get("args") or []],
        working_dir=container.get("workingDir") or "",
        labels={
            "io.kubernetes.pod.name": pod_spec.name(pod),
            "io.kubernetes.pod.namespace": pod_spec.namespace(pod),
            "io.kubernetes.pod.uid": pod_spec.uid(pod),
            "io.kubernetes.container.name": name,
        },
        annotations=_annotations(pod, container, inputs.restart_count),
        log_path=f"{name}/{inputs.restart_count}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
    )
    for key, value in inputs.environment.items():
        config.envs.add(key=key, value=value.encode(errors="surrogateescape"))
    for mount in inputs.mounts:
        config.mounts.add(
            container_path=mount.container_path,
            host_path=mount.host_path,
            readonly=mount.read_only,
            propagation=_PROPAGATION.get(mount.propagation, api_pb2.PROPAGATION_PRIVATE),
        )
    config.linux.resources.CopyFrom(linux_resources(pod, container, node))
    config.linux.security_context.CopyFrom(_security(pod, container, inputs))
    return config


def _annotations(pod: Pod, container: Object, restart_count: int) -> dict[str, str]:
    annotations = {
        "io.kubernetes.container.hash": pod_spec.container_hash(container),
        "io.kubernetes.container.restartCount": str(restart_count),
        "io.kubernetes.container.terminationMessagePath": container.get("terminationMessagePath") or "",
        "io.kubernetes.container.terminationMessagePolicy": container.get("terminationMessagePolicy") or "File",
    }
    if pod["metadata"].get("deletionGracePeriodSeconds") is not None:
        annotations["io.kubernetes.pod.deletionGracePeriod"] = str(pod["metadata"]["deletionGracePeriodSeconds"])
    if pod["spec"].get("terminationGracePeriodSeconds") is not None:
        annotations["io.kubernetes.pod.terminationGracePeriod"] = str(pod["spec"]["terminationGracePeriodSeconds"])
    if pre_stop := (container.get("lifecycle") or {}).get("preStop"):
        annotations["io.kubernetes.container.preStopHandler"] = json.dumps(pre_stop)
    if container.get("ports"):
        annotations["io.kubernetes.container.ports"] = json.dumps(container["ports"])
    return annotations


def restore_container(container: Container) -> Object:
    """As much of a container's spec as its annotations kept: enough to end it as its pod wished."""
    spec: Object = {"name": container.name, "image": container.image}
    if pre_stop := container.annotations.get("io.kubernetes.container.preStopHandler"):
        spec["lifecycle"] = {"preStop": json.loads(pre_stop)}
    if ports := container.annotations.get("io.kubernetes.container.ports"):
        spec["ports"] = json.loads(ports)
    return spec


def linux_resources(pod: Pod, container: Object, node: NodeFacts) -> api_pb2.LinuxContainerResources:
    """CPU shares from requests, quota and memory limit from limits."""
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    cpu_limit = quantity.parse(limits.get("cpu", "0")).milli_value
    cpu_request = quantity.parse(requests.get("cpu", "0")).milli_value or cpu_limit
    return api_pb2.LinuxContainerResources(
        cpu_shares=qos.cpu_shares(cpu_request),
        cpu_period=qos.CPU_PERIOD_US,
        cpu_quota=qos.cpu_quota_us(cpu_limit),
        memory_limit_in_bytes=quantity.parse(limits.get("memory", "0")).value,
        oom_score_adj=qos.oom_score_adj(pod, container, node.memory_capacity),
    )


def _security(pod: Pod, container: Object, inputs: ContainerInputs) -> api_pb2.LinuxContainerSecurityContext:
    context = effective_security_context(pod, container)
    privileged = bool(context.get("privileged"))
    security = api_pb2.LinuxContainerSecurityContext(
        privileged=privileged,
        namespace_options=_namespaces(pod, inputs.target_id),
        readonly_rootfs=bool(context.get("readOnlyRootFilesystem")),
        no_new_privs=context.get("allowPrivilegeEscalation") is False,
        supplemental_groups=_groups(pod["spec"].get("securityContext") or {}),
        seccomp=_profile(context.get("seccompProfile")),
    )
    capabilities = context.get("capabilities") or {}
    security.capabilities.add_capabilities.extend(capabilities.get("add") or [])
    security.capabilities.drop_capabilities.extend(capabilities.get("drop") or [])
    if not privileged and context.get("procMount") != "Unmasked":
        security.masked_paths.extend(MASKED_PATHS)
        security.readonly_paths.extend(READONLY_PATHS)
    if context.get("runAsUser") is not None:
        security.run_as_user.value = int(context["runAsUser"])
    elif inputs.image_uid is not None:
        security.run_as_user.value = inputs.image_uid
    elif inputs.image_user:
        security.run_as_username = inputs.image_user
    if context.get("runAsGroup") is not None:
        security.run_as_group.value = int(context["runAsGroup"])
    return security
