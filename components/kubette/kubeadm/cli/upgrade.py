"""`kubeadm upgrade plan|apply|diff|node`."""

import difflib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubette.api import releases
from kubette.api.releases import Release
from kubette.component_base import version
from kubette.component_base.flags import FlagError, FlagSet
from kubette.kubeadm import upgrade_policy, upgrade_report
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import Cluster, ConfigError
from kubette.kubeadm.upgrade_policy import Allowed, State

if TYPE_CHECKING:
    from kubette.client.rest import Client

# Since this minor an upgrade is a list of phases, and says so at its end.
_PHASES_SINCE_MINOR = 32


def _flags(flag_set: FlagSet) -> None:
    command_line.admin_flags(flag_set)
    flag_set.bool("allow-experimental-upgrades", False, "Show unstable versions of Kubernetes as an upgrade alternative and allow upgrading to them.")
    flag_set.bool("allow-release-candidate-upgrades", False, "Show release candidate versions as an upgrade alternative and allow upgrading to them.")
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")


def _allowed(options: Any) -> Allowed:
    return Allowed(options.allow_experimental_upgrades, options.allow_release_candidate_upgrades)


def _version(text: str) -> Release:
    from kubette.kubeadm import documents

    try:
        return releases.parse(documents.resolve_version(text))
    except ValueError:
        raise ConfigError(f'version "{text}" doesn\'t match patterns for neither semantic version nor labels (stable, latest, ...)') from None


def _preflight(findings: list[tuple[str, str]], options: Any) -> None:
    """Raises PhaseError that lists what is not ignored."""
    from kubette.kubeadm.phases import preflight

    preflight.judge(findings, frozenset(check.lower() for check in options.ignore_preflight_errors), say)


def _root() -> list[tuple[str, str]]:
    return [("IsPrivilegedUser", "user is not running as root")] if os.geteuid() != 0 else []


async def _requirements(client: "Client", options: Any) -> tuple[Cluster, State]:
    """The cluster's configuration and versions, once it is fit to be upgraded. Raises PhaseError."""
    from kubette.kubeadm import cluster_api, cluster_config, cluster_state

    _preflight(_root(), options)
    await cluster_api.reachable(client)
    cluster = await cluster_config.fetch(client, "upgrade/config", say)
    say("[upgrade/preflight] Running preflight checks")
    say("[upgrade] Running cluster health checks")
    _preflight(await cluster_state.unhealthy(client), options)
    return cluster, await cluster_state.read(client)


def plan(flag_set: FlagSet, words: list[str]) -> int:
    _flags(flag_set)
    options = command_line.parse(flag_set, words, arguments=1)
    wanted = _version(options.args[0]) if options.args else None

    async def run() -> None:
        from kubette.kubeadm import cluster_api, cluster_state

        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            _, state = await _requirements(client, options)
            target, newest = upgrade_policy.stable(state.kubeadm)
            say("[upgrade] Fetching available versions to upgrade to")
            say(f"[upgrade/versions] Cluster version: {state.cluster}")
            say(f"[upgrade/versions] kubeadm version: {state.kubeadm}")
            if wanted:
                target = wanted
            elif target != newest:
                say(f"I remote version is much newer: {newest}; falling back to: stable-{target.line.removeprefix('v')}")
            say(f"[upgrade/versions] Target version: {target}")
            if target >= state.cluster:
                say(f"[upgrade/versions] Latest version in the {state.cluster.line} series: {releases.latest(state.cluster.line)}")
            for skew in upgrade_policy.skews(state):
                say(f"[upgrade/versions] WARNING: {skew}")
            say("")
            upgrades = upgrade_policy.possible(state, target, _allowed(options))
            say(upgrade_report.render(state, upgrades, await cluster_state.config_versions(client)))

    command_line.run(run())
    return 0


def apply(flag_set: FlagSet, words: list[str]) -> int:
    _flags(flag_set)
    flag_set.bool("yes", False, "Perform the upgrade and do not prompt for confirmation (non-interactive mode).", shorthand="y")
    flag_set.bool(
        "force", False, "Force upgrading although some requirements might not be met. This also implies non-interactive mode.", shorthand="f"
    )
    flag_set.bool("certificate-renewal", True, "Perform the renewal of certificates used by component changed during upgrades.")
    flag_set.bool("etcd-upgrade", True, "Perform the upgrade of etcd.")
    options = command_line.parse(flag_set, words, arguments=1)
    if not options.args:
        raise FlagError("missing one or more required arguments. Required arguments: [version]")
    command_line.run(_apply(_version(options.args[0]), options))
    return 0


async def _apply(wanted: Release, options: Any) -> None:
    from kubette.kubeadm import cluster_api, static_pods
    from kubette.kubeadm.phases import upgrade
    from kubette.kubeadm.phases.context import PhaseError

    async with cluster_api.connect(Path(options.kubeconfig)) as client:
        cluster, state = await _requirements(client, options)
        say(f'[upgrade/preflight] You have chosen to upgrade the cluster version to "{wanted}"')
        say(f"[upgrade/versions] Cluster version: {state.cluster}")
        say(f"[upgrade/versions] kubeadm version: {state.kubeadm}")
        found = upgrade_policy.objections(wanted, state.cluster, state.kubeadm, state.kubelets, _allowed(options))
        refusal = upgrade_policy.refusal(found, options.force)
        if refusal:
            raise ConfigError(f"[upgrade/version] FATAL: {refusal}")
        if found.skippable:
            say(
                f"[upgrade/version] Found {len(found.skippable)} potential version compatibility errors but skipping "
                f"since the --force flag is set: \n\n{upgrade_policy.bullets(found.skippable)}"
            )
        if not (options.yes or options.force):
            _confirm()
        context = await upgrade.context_of(client, replace(cluster, kubernetes_version=str(wanted)), say)
        if not context.control_plane:
            raise PhaseError("preflight", "this machine runs no control plane; use 'kubeadm upgrade node' on it")
        await upgrade.pull_images(context)
        run = static_pods.Run(context, client, renew=options.certificate_renewal, with_etcd=options.etcd_upgrade)
        await upgrade.control_plane(run)
        await upgrade.in_cluster(context, client)
    say("")
    if releases.parse(version.git_version()).minor >= _PHASES_SINCE_MINOR:
        say(f'[upgrade] SUCCESS! A control plane node of your cluster was upgraded to "{wanted}".\n')
        say("[upgrade] Now please proceed with upgrading the rest of the nodes by following the right order.")
    else:
        say(f'[upgrade/successful] SUCCESS! Your cluster was upgraded to "{wanted}". Enjoy!\n')
        say("[upgrade/kubelet] Now that your control plane is upgraded, please proceed with upgrading your kubelets if you haven't already done so.")


def _confirm() -> None:
    print("[upgrade] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
    if sys.stdin.readline().strip().lower() != "y":
        raise ConfigError("won't proceed; the user didn't answer (Y|y) in order to continue")


def _node_flags(flag_set: FlagSet) -> None:
    flag_set.bool("certificate-renewal", True, "Perform the renewal of certificates used by component changed during upgrades.")
    flag_set.bool("etcd-upgrade", True, "Perform the upgrade of etcd.")
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")


def node(flag_set: FlagSet, words: list[str]) -> int:
    _node_flags(flag_set)
    options = command_line.parse(flag_set, words)
    _preflight(_root(), options)
    from kubette.kubeadm.phases import upgrade

    command_line.run(upgrade.node(say, renew=options.certificate_renewal, with_etcd=options.etcd_upgrade))
    return 0


def node_config(flag_set: FlagSet, words: list[str]) -> int:
    """The spelling before v1.15: the kubelet's configuration alone."""
    flag_set.string("kubelet-version", "", "The *desired* version for the kubelet config after the upgrade.")
    options = command_line.parse(flag_set, words)
    command_line.required(options, "kubelet-version")
    wanted = str(_version(options.kubelet_version))
    from kubette.kubeadm.phases import upgrade

    command_line.run(upgrade.node(say, renew=False, with_etcd=False, only_kubelet=True, kubelet_version=wanted))
    return 0


def diff(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    flag_set.int("context-lines", 3, "How many lines of context in the diff.", shorthand="c")
    options = command_line.parse(flag_set, words, arguments=1)
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
