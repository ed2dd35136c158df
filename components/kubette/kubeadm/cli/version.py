"""`kubeadm version`."""

from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli.command_line import say


def show(flag_set: FlagSet, words: list[str]) -> int:
    flag_set.string("output", "", "Output format; available options are 'yaml', 'json' and 'short'.", shorthand="o")
    options = command_line.parse(flag_set, words)
    info = version.version_info()
    match options.output:
        case "short":
            say(info["gitVersion"])
        case "":
            fields = ", ".join(f'{key[0].upper()}{key[1:]}:"{value}"' for key, value in info.items())
            say(f"kubeadm version: &version.Info{{{fields}}}")
        case other:
            command_line.show({"clientVersion": info}, other)
    return 0
