"""`kubeadm token …`."""

from pathlib import Path

from kubette.component_base.flags import FlagSet
from kubette.kubeadm import config
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import ConfigError


def create(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    flag_set.duration(
        "ttl", config.DEFAULT_TOKEN_TTL_S, "The duration before the token is automatically deleted. If set to '0', the token will never expire."
    )
    flag_set.string("description", "", "A human friendly description of how this token is used.")
    flag_set.bool("print-join-command", False, "Instead of printing only the token, print the full 'kubeadm join' flag needed to join the cluster.")
    flag_set.string(
        "certificate-key", "", "When used together with '--print-join-command', print the full 'kubeadm join' flag for a control-plane node."
    )
    options = command_line.parse(flag_set, words, arguments=1)
    from kubette.kubeadm import cluster_api, join_command, tokens

    token = options.args[0] if options.args else tokens.new()
    config.parse_token(token)

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            await tokens.create(client, token, options.ttl, options.description)
            say(await join_command.text(client, token, options.certificate_key) if options.print_join_command else token)

    command_line.run(run())
    return 0


def list_all(flag_set: FlagSet, words: list[str]) -> int:
    command_line.admin_flags(flag_set)
    options = command_line.parse(flag_set, words)
    from kubette.kubeadm import cluster_api, tokens

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            found = await tokens.list_tokens(client)
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
    options = command_line.parse(flag_set, words, arguments=16)
    if not options.args:
        raise ConfigError('missing argument; \'token delete\' is missing token of form "[a-z0-9]{6}" or "[a-z0-9]{6}.[a-z0-9]{16}"')
    from kubette.kubeadm import cluster_api, tokens

    async def run() -> None:
        async with cluster_api.connect(Path(options.kubeconfig)) as client:
            for each in options.args:
                token_id = each.split(".")[0]
                await tokens.delete(client, token_id)
                say(f'bootstrap token "{token_id}" deleted')

    command_line.run(run())
    return 0


def generate(flag_set: FlagSet, words: list[str]) -> int:
    command_line.parse(flag_set, words)
    from kubette.kubeadm import tokens

    say(tokens.new())
    return 0
