"""Pure: what the launcher is told: a CRI configuration and an image in, one JSON-able dict out (the OCI runtime specification's place).

Kept apart from the runtime's rim so that every rule about namespaces, users, capabilities and paths is a plain function of its input.
"""

from typing import Any

from kubette.cri import api_pb2
from kubette.runtime import capabilities, image_catalogue
from kubette.runtime.errors import CriError

# containerd's own lists, used when the kubelet gives none (proc mount type Default gives them).
MASKED_PATHS = [
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
    "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
# containerd 2's enable_unprivileged_ports and enable_unprivileged_icmp.
POD_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
PAUSE_OOM_SCORE = -998

_PASSWD = """root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nginx:x:101:101:nginx user:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
www-data:x:33:
nginx:x:101:
nogroup:x:65534:
"""
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
DIRECTORIES = {
    "/etc": 0o755, "/home": 0o755, "/media": 0o755, "/mnt": 0o755, "/opt": 0o755, "/root": 0o700, "/run": 0o755, "/srv": 0o755, "/tmp": 0o1777, "/var": 0o755,
    "/var/cache": 0o755, "/var/lib": 0o755, "/var/log": 0o755, "/var/tmp": 0o1777,
}  # fmt: skip


def resolv_conf(dns: api_pb2.DNSConfig) -> str:
    """The sandbox's /etc/resolv.conf; empty when the machine's is to be used."""
    lines = []
    if dns.searches:
        lines.append("search " + " ".join(dns.searches))
    lines += [f"nameserver {server}" for server in dns.servers]
    if dns.options:
        lines.append("options " + " ".join(dns.options))
    return "\n".join(lines) + "\n" if lines else ""


def hosts_file(hostname: str, address: str) -> str:
    """/etc/hosts of a sandbox, for containers to which the kubelet gives none."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    return "\n".join([*lines, *([f"{address}\t{hostname}"] if address else [])]) + "\n"


def sandbox(config: api_pb2.PodSandboxConfig, network_namespace: str | None, hostname: str, files: dict[str, str]) -> dict[str, Any]:
    """The pause process: it holds ipc, uts and, when shared, pid. `files` names pid_file, error_file and pause."""
    options = config.linux.security_context.namespace_options
    own_network = options.network != api_pb2.NODE
    return {
        "kind": "sandbox",
        "hostname": hostname if own_network else "",
        "namespaces": {
            "net": network_namespace,
            "ipc": "new" if options.ipc != api_pb2.NODE else None,
            "uts": "new" if own_network else None,
            "pid": "new" if options.pid == api_pb2.POD else None,
        },
        "default_sysctls": POD_SYSCTLS if own_network else {},
        "sysctls": dict(config.linux.sysctls),
        "cgroups": [],
        "process": {"tty": False, "oom_score_adj": PAUSE_OOM_SCORE, "env": {"PATH": image_catalogue.PATH}},
        **files,
    }


def argv(config: api_pb2.ContainerConfig, image: image_catalogue.Image) -> list[str]:
    """Docker's table of entrypoint, cmd and Kubernetes' command, args: a command replaces both, args alone replace the image's command."""
    entrypoint = list(config.command) or list(image.entrypoint)
    arguments = list(config.args)
    if not arguments and not config.command:
        arguments = list(image.command)
    if not entrypoint and not arguments:
        raise CriError("UNKNOWN", "failed to generate container spec: no command specified")
    return [*entrypoint, *arguments]


def environment(config: api_pb2.ContainerConfig, image: image_catalogue.Image, tag: str, hostname: str) -> dict[str, str]:
    """The image's, HOSTNAME, then the pod's; a later one wins."""
    values = {**image.environment(tag), "HOSTNAME": hostname}
    if config.tty:
        values["TERM"] = "xterm"
    values.update({pair.key: pair.value.decode(errors="surrogateescape") for pair in config.envs})
    values.setdefault("PATH", image_catalogue.PATH)
    return values


def process(config: api_pb2.ContainerConfig, image: image_catalogue.Image) -> dict[str, Any]:
    """Who the container's processes are: shared by its first process and by exec."""
    context = config.linux.security_context
    user = context.run_as_username or (str(context.run_as_user.value) if context.HasField("run_as_user") else image.user.partition(":")[0] or "0")
    try:
        kept = capabilities.effective(context.capabilities.add_capabilities, context.capabilities.drop_capabilities, context.privileged)
    except capabilities.UnknownCapability as error:
        raise CriError("UNKNOWN", f"failed to generate container spec: failed to generate spec: {error}") from error
    return {
        "user": user,
        "gid": context.run_as_group.value if context.HasField("run_as_group") else None,
        "groups": list(context.supplemental_groups),
        "capabilities": kept,
        "no_new_privs": context.no_new_privs and not context.privileged,
        "oom_score_adj": config.linux.resources.oom_score_adj if config.linux.HasField("resources") else None,
        "cwd": config.working_dir or image.working_dir or "/",
    }


def check_supported(config: api_pb2.ContainerConfig) -> None:
    """Refuse what would otherwise be silently missing."""
    context = config.linux.security_context
    if context.seccomp.profile_type == api_pb2.SecurityProfile.Localhost:
        raise CriError(
            "UNKNOWN",
            f'failed to generate seccomp spec opts: cannot load seccomp profile "{context.seccomp.localhost_ref}": this runtime has no seccomp',
        )
    if context.apparmor.profile_type == api_pb2.SecurityProfile.Localhost:
        raise CriError("UNKNOWN", "failed to generate apparmor spec opts: apparmor is not supported")
    if context.HasField("run_as_group") and not (context.HasField("run_as_user") or context.run_as_username):
        raise CriError("INVALID_ARGUMENT", "run as user is required when run as group is specified")
    if context.namespace_options.userns_options.mode == api_pb2.POD and context.namespace_options.HasField("userns_options"):
        raise CriError("UNKNOWN", "user namespaces are not supported by this runtime (the pod's hostUsers: false)")
    if config.devices or config.CDI_devices:
        raise CriError("UNKNOWN", "devices are not supported by this runtime")


def _mount(mount: api_pb2.Mount) -> dict[str, Any]:
    if mount.HasField("image") and mount.image.image:
        raise CriError("UNKNOWN", "image volumes are not supported by this runtime")
    kinds = {api_pb2.PROPAGATION_HOST_TO_CONTAINER: "rslave", api_pb2.PROPAGATION_BIDIRECTIONAL: "rshared"}
    return {
        "source": mount.host_path,
        "target": mount.container_path,
        "readonly": mount.readonly,
        "propagation": kinds.get(mount.propagation, "rprivate"),
    }


def program_files(image: image_catalogue.Image, interpreter: str, entry_points: dict[str, str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The files that stand for an image's programs, and which of them can be started warm (path -> module:function)."""
    files: dict[str, dict[str, Any]] = {}
    warm: dict[str, str] = {}
    for path, program in image.programs:
        target = entry_points.get(program.removeprefix("ours:"), "") if program.startswith("ours:") else program
        if not target:
            raise CriError("UNKNOWN", f"the catalogue names the program {program}, which is not installed on this machine")
        module, _, function = target.partition(":")
        script = f"#!{interpreter}\nimport sys\nfrom {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())\n"
        files[path] = {"content": script, "mode": 0o755}
        warm[path] = target
    return files, warm


def image_files(image: image_catalogue.Image) -> dict[str, dict[str, Any]]:
    """What every image has in /etc, and the entry's own files."""
    files: dict[str, dict[str, Any]] = {
        "/etc/passwd": {"content": _PASSWD},
        "/etc/group": {"content": _GROUP},
        "/etc/nsswitch.conf": {"content": _NSSWITCH},
        "/etc/mtab": {"link": "/proc/mounts"},
        "/var/run": {"link": "/run"},
        "/var/lock": {"link": "/run/lock"},
    }
    for path, content in image.files:
        if path.endswith("/"):
            files[path.rstrip("/")] = {"directory": True}
        else:
            files[path] = {"content": content, "mode": 0o755 if content.startswith("#!") else 0o644}
    return files


def container(
    config: api_pb2.ContainerConfig,
    image: image_catalogue.Image,
    tag: str,
    hostname: str,
    namespaces: dict[str, str | None],
    places: dict[str, Any],
    interpreter: str,
    binds: list[str],
    entry_points: dict[str, str],
) -> dict[str, Any]:
    """A container's specification. `places` carries layer, fallback_layer, rootfs, shm, pid_file, error_file and the sandbox's files in /etc."""
    context = config.linux.security_context
    program, warm = program_files(image, interpreter, entry_points)
    mounts = [_mount(m) for m in config.mounts]
    taken = {m["target"].rstrip("/") for m in mounts}
    for target, source in places["etc"].items():
        if target not in taken:
            mounts.insert(0, {"source": source, "target": target, "readonly": context.readonly_rootfs, "propagation": "rprivate"})
    directories = dict(DIRECTORIES)
    if any(path.startswith("/root/") for path in binds):
        directories["/root"] = 0o711  # the interpreter lies below it: other users must pass
    return {
        "kind": "container",
        "hostname": "",
        "namespaces": namespaces,
        "default_sysctls": {},
        "sysctls": {},
        "cgroups": [],
        "privileged": context.privileged,
        "shm": places["shm"],
        "masked": [] if context.privileged else list(context.masked_paths) or MASKED_PATHS,
        "readonly_paths": [] if context.privileged else list(context.readonly_paths) or READONLY_PATHS,
        "mounts": mounts,
        "root": {
            "layer": places["layer"],
            "fallback_layer": places["fallback_layer"],
            "rootfs": places["rootfs"],
            "readonly": context.readonly_rootfs,
            "directories": directories,
            "binds": binds,
            "files": {**image_files(image), **program},
        },
        "programs": warm,
        "process": {
            **process(config, image),
            "argv": argv(config, image),
            "env": environment(config, image, tag, hostname),
            "tty": config.tty,
        },
        "pid_file": places["pid_file"],
        "error_file": places["error_file"],
    }
