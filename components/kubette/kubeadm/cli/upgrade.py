"""`kubeadm upgrade plan|apply|diff|node`."""

import difflib
import sys
import textwrap
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubette.api import releases
from kubette.api.releases import Release
from kubette.component_base import version
from kubette.component_base.flags import FlagError, FlagSet
from kubette.kubeadm import release_words, upgrade_policy, upgrade_report
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import Cluster, ConfigError
from kubette.kubeadm.upgrade_policy import Allowed

if TYPE_CHECKING:
    from kubette.client.rest import Client
    from kubette.kubeadm.phases.context import Context
    from kubette.kubeadm.phases.upgrade import Upgrade


def _common_flags(flag_set: FlagSet) -> None:
    command_line.admin_flags(flag_set)
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")


def _policy_flags(flag_set: FlagSet) -> None:
    flag_set.bool("allow-experimental-upgrades", False, "Show unstable versions of Kubernetes as an upgrade alternative and allow upgrading to them.")
    flag_set.bool("allow-release-candidate-upgrades", False, "Show release candidate versions as an upgrade alternative and allow upgrading to them.")


def _config_flag(flag_set: FlagSet) -> None:
    flag_set.string("config", "", "Path to a kubeadm configuration file.")


def _work_flags(flag_set: FlagSet) -> None:
    flag_set.string("patches", "", 'Path to a directory that contains files named "target[suffix][+patchtype].extension".')
    flag_set.bool("certificate-renewal", True, "Perform the renewal of certificates used by component changed during upgrades.")
    flag_set.bool("dry-run", False, "Do not change any state, just output what actions would be performed.")
    flag_set.bool("etcd-upgrade", True, "Perform the upgrade of etcd.")
    if not flag_set.program.endswith("phase"):
        flag_set.strings("skip-phases", (), "List of phases to be skipped.")


# What may stand beside --config, and the fields of the configuration that say the same as a flag.
_BESIDE_CONFIG = {"config", "kubeconfig", "ignore-preflight-errors", "dry-run", "skip-phases", "yes", "v"}
_FIELDS = {
    "allowExperimentalUpgrades": "allow_experimental_upgrades",
    "allowRCUpgrades": "allow_release_candidate_upgrades",
    "certificateRenewal": "certificate_renewal",
    "contextLines": "context_lines",
    "dryRun": "dry_run",
    "etcdUpgrade": "etcd_upgrade",
    "forceUpgrade": "force",
    "printConfig": "print_config",
}


def _configure(options: Any, part: str) -> None:
    """Put the file of --config where the flags would be: its part for this command and its timeouts. Raises ConfigError."""
    from kubette.kubeadm import timeouts

    options.timeouts = timeouts.seconds()
    from kubette.kubeadm.cli import config as config_commands

    loaded = config_commands.load_beside(options, _BESIDE_CONFIG, "UpgradeConfiguration")
    if loaded is None:
        return
    document = loaded.by_kind["UpgradeConfiguration"]
    options.timeouts = timeouts.seconds(document.get("timeouts"))
    wanted = document.get(part) or {}
    for name, destination in _FIELDS.items():
        if wanted.get(name) is not None and destination.replace("_", "-") not in options.changed:
            setattr(options, destination, wanted[name])
    for name, destination in (("ignorePreflightErrors", "ignore_preflight_errors"), ("skipPhases", "skip_phases")):
        if wanted.get(name):
            setattr(options, destination, [*getattr(options, destination, ()), *wanted[name]])
    if (wanted.get("patches") or {}).get("directory"):
        options.patches = wanted["patches"]["directory"]
    if wanted.get("kubernetesVersion") and not options.args:
        options.args = [wanted["kubernetesVersion"]]


def _allowed(options: Any) -> Allowed:
    return Allowed(options.allow_experimental_upgrades, options.allow_release_candidate_upgrades)


def _ignored(options: Any) -> frozenset[str]:
    return frozenset(check.lower() for check in options.ignore_preflight_errors)


def _version(text: str) -> Release:
    from kubette.kubeadm import documents

    try:
        return releases.parse(documents.resolve_version(text))
    except ValueError:
        raise ConfigError(f'version "{text}" doesn\'t match patterns for neither semantic version nor labels (stable, latest, ...)') from None


def plan(flag_set: FlagSet, words: list[str]) -> int:
    _common_flags(flag_set)
    _policy_flags(flag_set)
    _config_flag(flag_set)
    flag_set.bool("print-config", False, "Specifies whether the configuration file that will be used in the upgrade should be printed or not.")
    command_line.output_flag(flag_set)
    options = command_line.parse(flag_set, words, arguments=1)
    if options.output not in command_line.FORMS:
        raise ConfigError(f"invalid output format: {options.output}")
    _configure(options, "plan")
    command_line.run(_plan(_version(options.args[0]) if options.args else None, options))
    return 0


async def _plan(wanted: Release | None, options: Any) -> None:
    from kubette.kubeadm import cluster_api, cluster_state
    from kubette.kubeadm.phases import preflight, upgrade

    # A program that reads the plan gets the plan and nothing else.
    tell = say if options.output == "text" else lambda _: None
    async with cluster_api.connect(Path(options.kubeconfig)) as client:
        tell("[preflight] Running pre-flight checks.")
        preflight.judge(preflight.root(), _ignored(options), tell)
        await cluster_api.reachable(client)
        cluster = await _fetch(client, "upgrade/config", tell)
        _print_config(cluster, options)
        await upgrade.check_cluster(client, cluster, _ignored(options), tell)
        state = await cluster_state.read(client)
        target, newest = upgrade_policy.stable(state.kubeadm)
        tell("[upgrade] Fetching available versions to upgrade to")
        tell(f"[upgrade/versions] Cluster version: {str(state.cluster)[1:]}")
        tell(f"[upgrade/versions] kubeadm version: {state.kubeadm}")
        if wanted is None and target != newest:
            tell(f"I remote version is much newer: {newest}; falling back to: stable-{target.line.removeprefix('v')}")
        target = wanted or target
        tell(f"[upgrade/versions] Target version: {target}")
        # Whoever names a version is taken to know what there is, as a machine without a network has to.
        in_series = wanted or releases.latest(state.cluster.line)
        if target >= state.cluster:
            tell(f"[upgrade/versions] Latest version in the {state.cluster.line} series: {in_series}")
        for skew in upgrade_policy.skews(state):
            tell(f"[upgrade/versions] WARNING: {skew}")
        tell("")
        upgrades = upgrade_policy.possible(state, target, in_series, _allowed(options))
        configs = await cluster_state.config_versions(client)
        command_line.print_as(
            options,
            upgrade_report.render(state, upgrades, configs),
            lambda: command_line.output("UpgradePlan", **upgrade_report.document(state, upgrades, configs)),
        )


def apply(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import upgrade, workflow

    async def work(run: "Upgrade") -> None:
        await workflow.run(upgrade.APPLY, run, options.skip_phases)

    options = _apply_options(flag_set, words, arguments=1)
    _apply(options, options.args[0] if options.args else "", work)
    if options.dry_run:
        say("[upgrade/successful] Finished dryrunning successfully!")
    else:
        say(release_words.success(version.major_minor()[1], str(_version(options.args[0]))))
    return 0


def apply_phase(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import upgrade, workflow

    options = _apply_options(flag_set, words, arguments=3)
    phase, rest = workflow.split(upgrade.APPLY, options.args)

    async def work(run: "Upgrade") -> None:
        await workflow.run_one(upgrade.APPLY, phase, run)

    _apply(options, rest[0] if rest else "", work)
    return 0


def _apply_options(flag_set: FlagSet, words: list[str], arguments: int) -> Any:
    _common_flags(flag_set)
    _policy_flags(flag_set)
    _config_flag(flag_set)
    _work_flags(flag_set)
    flag_set.bool("print-config", False, "Specifies whether the configuration file that will be used in the upgrade should be printed or not.")
    flag_set.bool("yes", False, "Perform the upgrade and do not prompt for confirmation (non-interactive mode).", shorthand="y")
    flag_set.bool(
        "force", False, "Force upgrading although some requirements might not be met. This also implies non-interactive mode.", shorthand="f"
    )
    options = command_line.parse(flag_set, words, arguments)
    _configure(options, "apply")
    return options


def _apply(options: Any, text: str, work: "Callable[[Upgrade], Awaitable[None]]") -> None:
    from kubette.kubeadm import cluster_api
    from kubette.kubeadm.phases import preflight, upgrade

    if not text:
        raise FlagError("missing one or more required arguments. Required arguments: [version]")
    wanted, minor = str(_version(text)), version.major_minor()[1]
    chosen = upgrade.Options(_allowed(options), options.force, options.certificate_renewal, options.etcd_upgrade, _ignored(options))

    async def run() -> None:
        words = release_words.of(minor)
        if not words.phased:
            say("[preflight] Running pre-flight checks.")
        preflight.judge(preflight.root(), chosen.ignored, say)
        async with cluster_api.connect(Path(options.kubeconfig), say if options.dry_run else None) as client:
            await cluster_api.reachable(client)
            cluster = await _fetch(client, words.config_prefix)
            _print_config(cluster, options)
            context = await upgrade.context_of(client, replace(cluster, kubernetes_version=wanted), say)
            _equip(context, options)
            asks = not (options.yes or options.force or options.dry_run)
            confirm = _confirm if asks else lambda: None
            await work(upgrade.Upgrade(client, context, releases.parse(version.git_version()), chosen, words, confirm))

    command_line.run(run())


def _equip(context: "Context", options: Any) -> None:
    from kubette.kubeadm import patches

    context.dry_run, context.timeouts = options.dry_run, options.timeouts
    context.patches = patches.load(options.patches, say)


def _print_config(cluster: Cluster, options: Any) -> None:
    if options.print_config:
        from kubette.kubeadm import cluster_api

        say("[upgrade/config] Configuration used:\n" + textwrap.indent(cluster_api.dump(cluster.to_dict()).rstrip("\n"), "\t"))


async def _fetch(client: "Client", prefix: str, tell: Callable[[str], None] = say) -> Cluster:
    """Raises ConfigError for a cluster that this kubeadm is too new for."""
    from kubette.kubeadm import cluster_config

    try:
        return await cluster_config.fetch(client, prefix, tell)
    except ConfigError as error:
        part = "upgrade/init config" if release_words.of(version.major_minor()[1]).phased else "upgrade/config"
        raise ConfigError(f"[{part}] FATAL: {error}") from error


def _confirm() -> None:
    print("[upgrade] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("won't proceed; the user didn't answer (Y|y) in order to continue")


def node(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import upgrade, workflow

    async def work(run: "Upgrade") -> None:
        await workflow.run(upgrade.NODE, run, options.skip_phases)

    options = _node_options(flag_set, words, arguments=0)
    _node(options, work)
    if options.dry_run:
        say("[upgrade/successful] Finished dryrunning successfully!")
    elif not release_words.of(version.major_minor()[1]).phased:
        say("[upgrade] The configuration for this node was successfully updated!")
        say("[upgrade] Now you should go ahead and upgrade the kubelet package using your package manager.")
    return 0


def node_phase(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import upgrade, workflow

    options = _node_options(flag_set, words, arguments=2)
    workflow.find(upgrade.NODE, options.args)

    async def work(run: "Upgrade") -> None:
        await workflow.run_one(upgrade.NODE, options.args, run)

    _node(options, work)
    return 0


def _node_options(flag_set: FlagSet, words: list[str], arguments: int) -> Any:
    flag_set.string("kubeconfig", "", "The kubeconfig file to use when talking to the cluster.")
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")
    _config_flag(flag_set)
    _work_flags(flag_set)
    options = command_line.parse(flag_set, words, arguments)
    _configure(options, "node")
    return options


def node_config(flag_set: FlagSet, words: list[str]) -> int:
    """The spelling before v1.15: the kubelet's configuration alone, for a kubelet of the version that is named."""
    from kubette.kubeadm.phases import upgrade, workflow

    flag_set.string("kubelet-version", "", "The *desired* version for the kubelet config after the upgrade.")
    options = _node_options(flag_set, words, arguments=0)
    command_line.required(options, "kubelet-version")

    async def work(run: "Upgrade") -> None:
        await workflow.run_one(upgrade.NODE, ["kubelet-config"], run)

    _node(options, work, str(_version(options.kubelet_version)))
    say("[upgrade] The configuration for this node was successfully updated!")
    say("[upgrade] Now you should go ahead and upgrade the kubelet package using your package manager.")
    return 0


def _node(options: Any, work: "Callable[[Upgrade], Awaitable[None]]", kubelet_version: str = "") -> None:
    """Raises ConfigError on a machine that is of no cluster."""
    from kubette.kubeadm import cluster_api, cluster_config, config
    from kubette.kubeadm.phases import preflight, upgrade

    default = f"{config.KUBERNETES_DIR}/{'admin.conf' if upgrade.is_control_plane() else 'kubelet.conf'}"
    kubeconfig = Path(options.kubeconfig or default)
    if not kubeconfig.exists():
        reason = f"failed to load admin kubeconfig: open {kubeconfig}: no such file or directory"
        raise ConfigError(f'couldn\'t create a Kubernetes client from file "{kubeconfig}": {reason}')
    chosen = upgrade.Options(renew=options.certificate_renewal, with_etcd=options.etcd_upgrade, ignored=_ignored(options))

    async def run() -> None:
        preflight.judge(preflight.root(), chosen.ignored, say)
        async with cluster_api.connect(kubeconfig, say if options.dry_run else None) as client:
            await cluster_api.reachable(client)
            cluster = await cluster_config.fetch(client, "upgrade", say)
            if kubelet_version:
                cluster = replace(cluster, kubernetes_version=kubelet_version)
            context = await upgrade.context_of(client, cluster, say)
            _equip(context, options)
            own = releases.parse(version.git_version())
            await work(upgrade.Upgrade(client, context, own, chosen, release_words.of(own.minor), instance=True))

    command_line.run(run())


def diff(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    _config_flag(flag_set)
    flag_set.int("context-lines", 3, "How many lines of context in the diff.", shorthand="c")
    options = command_line.parse(flag_set, words, arguments=1)
    _configure(options, "diff")
    command_line.run(_diff(options))
    return 0


async def _diff(options: Any) -> None:
    import yaml

    from kubette.kubeadm import cluster_api, cluster_config, static_pods
    from kubette.kubeadm.phases import control_plane, upgrade

    async with cluster_api.connect(Path(options.kubeconfig)) as client:
        cluster = await cluster_config.fetch(client, "upgrade/diff", say)
        wanted = _version(options.args[0] if options.args else cluster.kubernetes_version)
        context = await upgrade.context_of(client, replace(cluster, kubernetes_version=str(wanted)), say)
    for component in control_plane.PHASES.values():
        path = static_pods.manifest_path(component)
        old = path.read_text().splitlines()
        new = yaml.safe_dump(static_pods.wanted(context, component), sort_keys=False, default_flow_style=False, width=1000).splitlines()
        for line in difflib.unified_diff(old, new, str(path), "new manifest", n=options.context_lines, lineterm=""):
            say(line)
