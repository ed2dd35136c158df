"""`kubeadm token …`."""

import re
from pathlib import Path
from typing import Any

from kubette.component_base.flags import FlagSet
from kubette.kubeadm import config, rbac, tokens
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli import config as config_commands
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import ConfigError

_GROUP = r"\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\Z"


def create(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    flag_set.duration(
        "ttl", config.DEFAULT_TOKEN_TTL_S, "The duration before the token is automatically deleted. If set to '0', the token will never expire."
    )
    flag_set.strings(
        "groups", (rbac.BOOTSTRAP_GROUP,), f'Extra groups that this token will authenticate as when used for authentication. Must match "{_GROUP}"'
    )
    flag_set.strings("usages", tokens.USAGES, "Describes the ways in which this token can be used.")
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.bool("dry-run", False, "Whether to enable dry-run mode or not.")
    flag_set.string("description", "", "A human friendly description of how this token is used.")
    flag_set.bool("print-join-command", False, "Instead of printing only the token, print the full 'kubeadm join' flag needed to join the cluster.")
    flag_set.string(
        "certificate-key", "", "When used together with '--print-join-command', print the full 'kubeadm join' flag for a control-plane node."
    )
    options = command_line.parse(flag_set, words, arguments=1)
    from kubette.kubeadm import cluster_api, join_command

    wishes = _wishes(options)
    bodies = [tokens.from_wish(wish, options.ttl, command_line.now()) for wish in wishes]

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig), say if options.dry_run else None) as client:
            for wish, body in zip(wishes, bodies, strict=True):
                await cluster_api.ensure(client, body)
                token = wish["token"]
                say(await join_command.text(client, token, options.certificate_key) if options.print_join_command else token)

    command_line.run(run())
    return 0


def _wishes(options: Any) -> list[dict[str, Any]]:
    """The tokens of --config's InitConfiguration, or the one of the flags. Raises ConfigError."""
    loaded = config_commands.load_beside(options, {"config", "dry-run", "kubeconfig", "print-join-command", "v"}, "InitConfiguration")
    if loaded is not None:
        found = [dict(wish) for wish in loaded.by_kind["InitConfiguration"].get("bootstrapTokens") or [{}]]
        for wish in found:
            wish["token"] = wish.get("token") or tokens.new()
        return found
    for group in options.groups:
        if not re.fullmatch(_GROUP, group):
            raise ConfigError(f'groups: Invalid value: "{group}": bootstrap group "{group}" is invalid (must match {_GROUP})')
    for usage in options.usages:
        if usage not in tokens.USAGES:
            raise ConfigError(f'usages: Invalid value: "{usage}": valid bootstrap token usages: [{" ".join(tokens.USAGES)}]')
    token = options.args[0] if options.args else tokens.new()
    config.parse_token(token)
    return [{"token": token, "description": options.description, "groups": options.groups, "usages": options.usages}]


def list_all(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    command_line.output_flag(flag_set)
    options = command_line.parse(flag_set, words)
    if options.output not in command_line.FORMS:
        raise ConfigError(f"invalid output format: {options.output}")
    from kubette.kubeadm import cluster_api

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            found = await tokens.list_tokens(client)
        if options.output != "text":
            for each in found:
                command_line.show(command_line.output("BootstrapToken", **each.document()), options.output)
            return
        if not found:
            return
        now = command_line.now()
        rows = [("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")]
        for each in found:
            ttl = _short_duration((each.expires - now).total_seconds()) if each.expires else "<forever>"
            expires = each.expires.strftime("%Y-%m-%dT%H:%M:%SZ") if each.expires else "<never>"
            rows.append((each.token, ttl, expires, ",".join(each.usages), each.description or "<none>", ",".join(each.groups)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            say("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    command_line.run(run())
    return 0


def _short_duration(seconds: float) -> str:
    if seconds <= 0:
        return "<invalid>"
    return f"{seconds / 3600:.0f}h" if seconds >= 7200 else f"{seconds / 60:.0f}m"


def delete(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    flag_set.bool("dry-run", False, "Whether to enable dry-run mode or not.")
    options = command_line.parse(flag_set, words, arguments=len(words))
    if not options.args:
        raise ConfigError('missing argument; \'token delete\' is missing token of form "[a-z0-9]{6}" or "[a-z0-9]{6}.[a-z0-9]{16}"')
    from kubette.kubeadm import cluster_api

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig), say if options.dry_run else None) as client:
            for each in options.args:
                token_id = each.split(".")[0]
                await tokens.delete(client, token_id)
                say(f'bootstrap token "{token_id}" deleted')

    command_line.run(run())
    return 0


def generate(flag_set: FlagSet, words: list[str]) -> int:
    command_line.parse(flag_set, words)
    say(tokens.new())
    return 0
