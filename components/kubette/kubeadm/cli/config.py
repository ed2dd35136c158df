"""`kubeadm config images …|print …|validate|migrate`."""

import platform
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.kubeadm import config, documents, images
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import Cluster, ConfigError
from kubette.stdx import files


def _images(flag_set: FlagSet, words: list[str]) -> tuple[list[str], str, Any]:
    """(the images of the release that was asked for, the CRI socket, all options)."""
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.string("kubernetes-version", version.git_version(), "Choose a specific Kubernetes version for the control plane.")
    flag_set.string("image-repository", images.REPOSITORY, "Choose a container registry to pull control plane images from.")
    if flag_set.program.endswith("pull"):
        flag_set.string("cri-socket", config.CRI_SOCKET, "Path to the CRI socket to connect.")
    options = command_line.parse(flag_set, words)
    if options.config:
        loaded = load(options.config)
        cluster, init = loaded.cluster(), loaded.by_kind.get("InitConfiguration") or {}
        socket = (init.get("nodeRegistration") or {}).get("criSocket", "")
    else:
        cluster = Cluster(documents.resolve_version(options.kubernetes_version), image_repository=options.image_repository)
        cluster.validate()
        socket = getattr(options, "cri_socket", "")
    return images.required(cluster.kubernetes_version, cluster.image_repository, not cluster.etcd_external), socket or config.CRI_SOCKET, options


def load(path: str) -> documents.Documents:
    """The file of `--config`; its warnings are printed."""
    loaded = documents.load(command_line.read_text(path))
    for warning in loaded.warnings:
        say(f"W {warning}")
    return loaded


def load_beside(options: Any, allowed: Collection[str], kind: str = "") -> documents.Documents | None:
    """The file of --config, if there is one. Raises ConfigError for a flag beside it that is not `allowed` there, or a file without `kind`."""
    if not options.config:
        return None
    mixed = sorted(options.changed - set(allowed))
    if mixed:
        raise ConfigError(f"can not mix '--config' with arguments [{' '.join(mixed)}]")
    loaded = load(options.config)
    if kind and kind not in loaded.by_kind:
        raise ConfigError(f'no {kind} found in config file "{options.config}"')
    return loaded


def images_list(flag_set: FlagSet, words: list[str]) -> int:
    command_line.output_flag(flag_set)
    wanted, _, options = _images(flag_set, words)
    command_line.print_as(options, "\n".join(wanted), lambda: command_line.output("Images", images=wanted))
    return 0


def images_pull(flag_set: FlagSet, words: list[str]) -> int:
    wanted, socket, _ = _images(flag_set, words)
    from kubette.kubeadm import container_runtime

    async def pull() -> None:
        for image in wanted:
            await container_runtime.pull(socket, image)
            say(f"[config/images] Pulled {image}")

    command_line.run(pull())
    return 0


def print_init_defaults(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.strings("component-configs", (), "A comma-separated list for component config API objects to print the default values for.")
    options = command_line.parse(flag_set, words)
    found = documents.init_defaults(version.git_version())
    for kind in options.component_configs:
        found.append(_component_default(kind))
    say(documents.dump(found).rstrip())
    return 0


def _component_default(kind: str) -> dict[str, object]:
    from kubette.kubeadm import kubelet_config

    cluster = Cluster(version.git_version())
    match kind:
        case "KubeletConfiguration":
            return kubelet_config.kubelet_configuration(cluster)
        case "KubeProxyConfiguration":
            from kubette.kubeadm import addons

            return addons.proxy_configuration(cluster)
    raise config.ConfigError(f'--component-configs needs to contain some of ["KubeProxyConfiguration" "KubeletConfiguration"], not "{kind}"')


def print_join_defaults(flag_set: FlagSet, words: list[str]) -> int:
    command_line.parse(flag_set, words)
    say(documents.dump(documents.join_defaults(platform.node().lower())).rstrip())
    return 0


def print_reset_defaults(flag_set: FlagSet, words: list[str]) -> int:
    command_line.parse(flag_set, words)
    say(documents.dump(documents.reset_defaults()).rstrip())
    return 0


def print_upgrade_defaults(flag_set: FlagSet, words: list[str]) -> int:
    command_line.parse(flag_set, words)
    say(documents.dump(documents.upgrade_defaults()).rstrip())
    return 0


def validate(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    options = command_line.parse(flag_set, words)
    command_line.required(options, "config")
    loaded = load(options.config)
    if "ClusterConfiguration" in loaded.by_kind:
        loaded.cluster()
    say("ok")
    return 0


def migrate(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.string("old-config", "", "Path to the kubeadm config file that is using an old API version and should be converted.")
    flag_set.string(
        "new-config", "", "Path to the resulting equivalent kubeadm config file using the new API version. If not specified, stdout is used."
    )
    options = command_line.parse(flag_set, words)
    command_line.required(options, "old-config")
    loaded = documents.load(command_line.read_text(options.old_config))
    text = documents.dump(list(loaded.by_kind.values()))
    if options.new_config:
        files.write_atomic(Path(options.new_config), text)
    else:
        say(text.rstrip())
    return 0
