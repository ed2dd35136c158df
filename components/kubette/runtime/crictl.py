"""`crictl`: the node's tool for looking at pods, containers and images through CRI, with upstream's commands, flags and tables.

    crictl [--runtime-endpoint unix:///run/containerd/containerd.sock] [-t 2s] ps|pods|images|inspect|inspectp|inspecti|logs|exec|pull|rmi|stop|rm|stopp|rmp|stats|info|version

`exec` runs synchronously; an interactive session is kubectl's business.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from kubette.component_base import flags, version
from kubette.cri import api_pb2, services
from kubette.runtime import image_reference

ID_DIGITS = 13
USAGE = """NAME:
   crictl - client for CRI

USAGE:
   crictl [global options] command [command options] [arguments...]

COMMANDS:
"""


class Failure(Exception):
    """What is printed after FATA."""


class Client:
    """The two services, with a timeout on every call."""

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        import grpc

        self._errors = grpc.RpcError
        self._timeout_s = timeout_s
        channel = grpc.insecure_channel(endpoint if "://" in endpoint else f"unix://{endpoint}")
        self._stubs = [services.Stub(channel, name) for name in (services.RUNTIME_SERVICE, services.IMAGE_SERVICE)]
        self._channel = channel

    def call(self, method: str, request: Any, timeout_s: float = 0.0) -> Any:
        stub = self._stubs[1] if "Image" in method else self._stubs[0]
        try:
            return getattr(stub, method)(request, timeout=timeout_s or self._timeout_s)
        except self._errors as error:
            raise Failure(f"rpc error: code = {error.code().name.title().replace('_', '')} desc = {error.details()}") from error

    def container(self, prefix: str) -> api_pb2.Container:
        found: api_pb2.Container = _one(self.call("ListContainers", api_pb2.ListContainersRequest()).containers, prefix, "container")
        return found

    def sandbox(self, prefix: str) -> api_pb2.PodSandbox:
        found: api_pb2.PodSandbox = _one(self.call("ListPodSandbox", api_pb2.ListPodSandboxRequest()).items, prefix, "pod sandbox")
        return found


def _one(items: Sequence[Any], prefix: str, what: str) -> Any:
    found = [item for item in items if item.id.startswith(prefix)]
    if len(found) != 1:
        raise Failure(f'could not find {what} "{prefix}": ' + ("ID is not unique" if found else "not found"))
    return found[0]


def age(created_ns: int, now_ns: int) -> str:
    """units.HumanDuration's words: `About a minute ago`."""
    seconds = max(0, (now_ns - created_ns) // 10**9)
    if seconds < 1:
        text = "Less than a second"
    elif seconds == 1:
        text = "1 second"
    elif seconds < 60:
        text = f"{seconds} seconds"
    elif seconds < 120:
        text = "About a minute"
    elif seconds < 3600:
        text = f"{seconds // 60} minutes"
    elif seconds < 7200:
        text = "About an hour"
    elif seconds < 48 * 3600:
        text = f"{seconds // 3600} hours"
    elif seconds < 14 * 86400:
        text = f"{seconds // 86400} days"
    elif seconds < 60 * 86400:
        text = f"{seconds // 604800} weeks"
    else:
        text = f"{seconds // (30 * 86400)} months"
    return text + " ago"


def size(number: int) -> str:
    """units.HumanSizeWithPrecision(…, 3): decimal units, three digits."""
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g}{units[0]}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Go's tabwriter as crictl sets it: columns as wide as their widest cell, and at least 20."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    widths = [max(width + 5, 20) for width in widths]
    return "\n".join("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)) + row[-1] for row in (header, *rows))


def _show(options: Any, message: Any, otherwise: Callable[[], str]) -> str:
    if options.output in ("json", "yaml"):
        document = json_format.MessageToDict(message, preserving_proto_field_name=False, always_print_fields_with_no_presence=True)
        if options.output == "json":
            return json.dumps(document, indent=2)
        import yaml

        return yaml.safe_dump(document, sort_keys=False).rstrip()
    return otherwise()


def _ps(client: Client, options: Any) -> str:
    everything = client.call("ListContainers", api_pb2.ListContainersRequest())
    wanted = [
        c
        for c in everything.containers
        if (options.all or options.state or c.state == api_pb2.CONTAINER_RUNNING)
        and options.name in c.metadata.name
        and c.pod_sandbox_id.startswith(options.pod)
        and (not options.state or api_pb2.ContainerState.Name(c.state).endswith(options.state.upper()))
    ]
    wanted.sort(key=lambda c: -c.created_at)
    wanted = wanted[: 1 if options.latest else options.last or None]
    if options.quiet:
        return "\n".join(c.id for c in wanted)
    pods = {s.id: s for s in client.call("ListPodSandbox", api_pb2.ListPodSandboxRequest()).items}
    now = time.time_ns()  # one reading for every row

    def row(c: api_pb2.Container) -> list[str]:
        pod = pods.get(c.pod_sandbox_id, api_pb2.PodSandbox())
        state = api_pb2.ContainerState.Name(c.state).removeprefix("CONTAINER_").title()
        image = c.image_id.removeprefix("sha256:")[:ID_DIGITS]
        place = [c.pod_sandbox_id[:ID_DIGITS], pod.metadata.name, pod.metadata.namespace]
        return [c.id[:ID_DIGITS], image, age(c.created_at, now), state, c.metadata.name, str(c.metadata.attempt), *place]

    header = ["CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"]
    return _show(options, api_pb2.ListContainersResponse(containers=wanted), lambda: table(header, [row(c) for c in wanted]))


def _pods(client: Client, options: Any) -> str:
    wanted = [
        s
        for s in client.call("ListPodSandbox", api_pb2.ListPodSandboxRequest()).items
        if options.name in s.metadata.name
        and (not options.namespace or s.metadata.namespace == options.namespace)
        and (not options.state or api_pb2.PodSandboxState.Name(s.state) == f"SANDBOX_{options.state.upper()}")
    ]
    wanted.sort(key=lambda s: -s.created_at)
    wanted = wanted[: 1 if options.latest else options.last or None]
    if options.quiet:
        return "\n".join(s.id for s in wanted)
    now = time.time_ns()  # one reading for every row
    header = ["POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"]

    def row(s: api_pb2.PodSandbox) -> list[str]:
        state = "Ready" if s.state == api_pb2.SANDBOX_READY else "NotReady"
        return [
            s.id[:ID_DIGITS],
            age(s.created_at, now),
            state,
            s.metadata.name,
            s.metadata.namespace,
            str(s.metadata.attempt),
            s.runtime_handler or "(default)",
        ]

    return _show(options, api_pb2.ListPodSandboxResponse(items=wanted), lambda: table(header, [row(s) for s in wanted]))


def _images(client: Client, options: Any) -> str:
    wanted = list(client.call("ListImages", api_pb2.ListImagesRequest()).images)
    if options.args:
        repository = image_reference.parse(options.args[0]).repository
        wanted = [i for i in wanted if any(tag.rpartition(":")[0] == repository for tag in i.repo_tags)]
    if options.quiet:
        return "\n".join(i.id for i in wanted)
    rows = []
    for image in sorted(wanted, key=lambda i: list(i.repo_tags)):
        digest = next(iter(image.repo_digests), "@<none>").rpartition("@")[2]
        for tag in image.repo_tags:
            name, _, label = tag.rpartition(":")
            shown = [digest.removeprefix("sha256:")[:ID_DIGITS]] if options.digests else []
            rows.append([name, label, *shown, image.id.removeprefix("sha256:")[:ID_DIGITS], size(image.size)])
    header = ["IMAGE", "TAG", *(["DIGEST"] if options.digests else []), "IMAGE ID", "SIZE"]
    return _show(options, api_pb2.ListImagesResponse(images=wanted), lambda: table(header, rows))


def _document(response: Any) -> str:
    document = json_format.MessageToDict(response, always_print_fields_with_no_presence=True)
    document["info"] = {key: _parsed(value) for key, value in document.get("info", {}).items()}
    document["info"] = document["info"].get("info", document["info"])
    return json.dumps(document, indent=2)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _each(options: Any, what: Callable[[str], str]) -> str:
    if not options.args:
        raise Failure("ID cannot be empty")
    return "\n".join(filter(None, [what(name) for name in options.args]))


def _inspect(client: Client, options: Any) -> str:
    return _each(
        options,
        lambda i: _document(client.call("ContainerStatus", api_pb2.ContainerStatusRequest(container_id=client.container(i).id, verbose=True))),
    )


def _inspectp(client: Client, options: Any) -> str:
    return _each(
        options,
        lambda i: _document(client.call("PodSandboxStatus", api_pb2.PodSandboxStatusRequest(pod_sandbox_id=client.sandbox(i).id, verbose=True))),
    )


def _inspecti(client: Client, options: Any) -> str:
    def one(name: str) -> str:
        response = client.call("ImageStatus", api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=name), verbose=True))
        if not response.HasField("image"):
            raise Failure(f'no such image "{name}" present')
        return _document(response)

    return _each(options, one)


def _logs(client: Client, options: Any) -> str:
    def one(prefix: str) -> str:
        path = client.call("ContainerStatus", api_pb2.ContainerStatusRequest(container_id=client.container(prefix).id)).status.log_path
        try:
            lines = Path(path).read_bytes().decode(errors="replace").splitlines()
        except OSError as error:
            raise Failure(f'failed to try resolving symlinks in path "{path}": {error.strerror}') from error
        text = ""
        for line in lines[-options.tail :] if options.tail >= 0 else lines:
            stamp, stream, flag, content = [*line.split(" ", 3), ""][:4]
            target = sys.stdout if stream == "stdout" else sys.stderr
            text = (f"{stamp} " if options.timestamps else "") + content + ("\n" if flag.startswith("F") else "")
            target.write(text)
        return ""

    return _each(options, one)


def _exec(client: Client, options: Any) -> str:
    if len(options.args) < 2:
        raise Failure("ID and command are required")
    if not options.sync:
        raise Failure("interactive sessions are not supported: use kubectl exec")
    request = api_pb2.ExecSyncRequest(container_id=client.container(options.args[0]).id, cmd=options.args[1:], timeout=int(options.timeout))
    done = client.call("ExecSync", request, timeout_s=options.timeout + 3600)
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    sys.stdout.flush()
    if done.exit_code:
        raise Failure(f"execing command in container synchronously: command terminated with exit code {done.exit_code}")
    return ""


def _pull(client: Client, options: Any) -> str:
    def one(name: str) -> str:
        reference = client.call("PullImage", api_pb2.PullImageRequest(image=api_pb2.ImageSpec(image=name)), timeout_s=60)
        return f"Image is up to date for {reference.image_ref}"

    return _each(options, one)


def _rmi(client: Client, options: Any) -> str:
    def one(name: str) -> str:
        image = client.call("ImageStatus", api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=name))).image
        if not image.id:
            raise Failure(f'no such image "{name}"')
        client.call("RemoveImage", api_pb2.RemoveImageRequest(image=api_pb2.ImageSpec(image=image.id)))
        return "\n".join(f"Deleted: {tag}" for tag in image.repo_tags)

    return _each(options, one)


def _stop(client: Client, options: Any) -> str:
    def one(prefix: str) -> str:
        request = api_pb2.StopContainerRequest(container_id=client.container(prefix).id, timeout=int(options.timeout))
        client.call("StopContainer", request, timeout_s=options.timeout + 60)
        return prefix

    return _each(options, one)


def _rm(client: Client, options: Any) -> str:
    def one(prefix: str) -> str:
        container = client.container(prefix)
        if container.state == api_pb2.CONTAINER_RUNNING and not options.force:
            raise Failure(f'removing container "{prefix}": container is running, please stop it first')
        client.call("RemoveContainer", api_pb2.RemoveContainerRequest(container_id=container.id), timeout_s=60)
        return prefix

    return _each(options, one)


def _stopp(client: Client, options: Any) -> str:
    def one(prefix: str) -> str:
        client.call("StopPodSandbox", api_pb2.StopPodSandboxRequest(pod_sandbox_id=client.sandbox(prefix).id), timeout_s=60)
        return f"Stopped sandbox {prefix}"

    return _each(options, one)


def _rmp(client: Client, options: Any) -> str:
    def one(prefix: str) -> str:
        sandbox = client.sandbox(prefix)
        if sandbox.state == api_pb2.SANDBOX_READY and not options.force:
            raise Failure(f'removing the pod sandbox "{prefix}": pod sandbox is still running, please stop it first')
        client.call("RemovePodSandbox", api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id), timeout_s=60)
        return f"Removed sandbox {prefix}"

    return _each(options, one)


def _stats(client: Client, options: Any) -> str:
    client.call("ListContainerStats", api_pb2.ListContainerStatsRequest())
    time.sleep(1)  # upstream's default sampling duration: a rate needs two samples
    response = client.call("ListContainerStats", api_pb2.ListContainerStatsRequest())
    rows = [
        [
            s.attributes.id[:ID_DIGITS],
            s.attributes.metadata.name,
            f"{s.cpu.usage_nano_cores.value / 1e7:.2f}",
            size(s.memory.working_set_bytes.value),
            size(s.writable_layer.used_bytes.value),
            str(s.writable_layer.inodes_used.value),
        ]
        for s in response.stats
    ]
    return _show(options, response, lambda: table(["CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES"], rows))


def _info(client: Client, options: Any) -> str:
    return _document(client.call("Status", api_pb2.StatusRequest(verbose=True)))


def _version(client: Client, options: Any) -> str:
    found = client.call("Version", api_pb2.VersionRequest(version="v1"))
    names = ("Version", "RuntimeName", "RuntimeVersion", "RuntimeApiVersion")
    values = (found.version, found.runtime_name, found.runtime_version, found.runtime_api_version)
    return "\n".join(f"{name}:  {value}" for name, value in zip(names, values, strict=True))


# Command: function, and which flags it has beside the global ones.
COMMANDS: dict[str, tuple[Callable[[Client, Any], str], str]] = {
    "ps": (_ps, "all quiet name state pod last latest output"),
    "pods": (_pods, "quiet name namespace state last latest output"),
    "images": (_images, "quiet digests output"),
    "inspect": (_inspect, ""),
    "inspectp": (_inspectp, ""),
    "inspecti": (_inspecti, ""),
    "logs": (_logs, "tail timestamps"),
    "exec": (_exec, "sync timeout"),
    "pull": (_pull, ""),
    "rmi": (_rmi, ""),
    "stop": (_stop, "timeout"),
    "rm": (_rm, "force"),
    "stopp": (_stopp, ""),
    "rmp": (_rmp, "force"),
    "stats": (_stats, "output"),
    "info": (_info, ""),
    "version": (_version, ""),
}
ALIASES = {"img": "images", "image": "images", "p": "pods"}


def _flag_set(name: str, wanted: str) -> flags.FlagSet:
    made = flags.FlagSet(f"crictl {name}", positional=True)
    makers: dict[str, Callable[[], None]] = {
        "all": lambda: made.bool("all", help="Show all containers", shorthand="a"),
        "quiet": lambda: made.bool("quiet", help="Only display IDs", shorthand="q"),
        "name": lambda: made.string("name", help="Filter by name"),
        "namespace": lambda: made.string("namespace", help="Filter by pod namespace"),
        "state": lambda: made.string("state", help="Filter by state", shorthand="s"),
        "pod": lambda: made.string("pod", help="Filter by pod id", shorthand="p"),
        "last": lambda: made.int("last", help="Show last n recently created", shorthand="n"),
        "latest": lambda: made.bool("latest", help="Show the most recently created", shorthand="l"),
        "output": lambda: made.string("output", "table", "Output format: json, yaml, table", shorthand="o"),
        "digests": lambda: made.bool("digests", help="Show digests"),
        "tail": lambda: made.int("tail", -1, "Number of lines to show from the end of the logs"),
        "timestamps": lambda: made.bool("timestamps", help="Show timestamps", shorthand="t"),
        "sync": lambda: made.bool("sync", True, "Run the command synchronously: the only way here", shorthand="s"),
        "timeout": lambda: made.int("timeout", 0, "Seconds until the command or container is killed", shorthand="t"),
        "force": lambda: made.bool("force", help="Force removal", shorthand="f"),
    }
    for flag in wanted.split():
        makers[flag]()
    return made


def _split(words: list[str]) -> tuple[list[str], str, list[str]]:
    """Global flags, command, the rest."""
    taking = {"-r", "--runtime-endpoint", "-i", "--image-endpoint", "-t", "--timeout", "-c", "--config"}
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in taking else 1
    return words[:at], words[at] if at < len(words) else "", words[at + 1 :]


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    before, command, rest = _split(list(sys.argv[1:] if argv is None else argv))
    command = ALIASES.get(command, command)
    options = flags.FlagSet("crictl")
    options.string("runtime-endpoint", services.SOCKET, "Endpoint of CRI container runtime service", shorthand="r")
    options.string("image-endpoint", "", "Endpoint of CRI image manager service", shorthand="i")
    options.duration("timeout", 2.0, "Timeout of connecting to the server")
    try:
        chosen = options.parse(before)
        if command not in COMMANDS:
            print(USAGE + "".join(f"   {name}\n" for name in sorted(COMMANDS)), end="")
            return 0 if command in ("", "help") else 1
        function, wanted = COMMANDS[command]
        parsed = _flag_set(command, wanted).parse(rest if command != "exec" else _after_id(rest))
        text = function(Client(chosen.runtime_endpoint, chosen.timeout), parsed)
    except flags.VersionRequested:
        print(f"crictl version {version.git_version()}")
        return 0
    except flags.HelpRequested:
        print(USAGE + "".join(f"   {name}\n" for name in sorted(COMMANDS)), end="")
        return 0
    except (flags.FlagError, Failure, image_reference.InvalidReference) as error:
        print(f"FATA[0000] {error}", file=sys.stderr)
        return 1
    if text:
        print(text)
    return 0


def _after_id(words: list[str]) -> list[str]:
    """What follows the container's id is the command's, flags included."""
    for at, word in enumerate(words):
        if not word.startswith("-"):
            return [*words[: at + 1], "--", *words[at + 1 :]]
    return words


if __name__ == "__main__":
    sys.exit(main())
