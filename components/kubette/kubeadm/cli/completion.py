"""`kubeadm completion bash|zsh`: scripts that ask kubeadm itself what could stand next."""

from kubette.component_base import shell_scripts
from kubette.component_base.flags import FlagError, FlagSet
from kubette.kubeadm.cli import command_line

SHELLS = ("bash", "zsh")


def show(flag_set: FlagSet, words: list[str]) -> int:
    options = command_line.parse(flag_set, words, arguments=len(words))
    if not options.args:
        raise FlagError("shell not specified")
    if len(options.args) > 1:
        raise FlagError("too many arguments; expected only the shell type")
    if options.args[0] not in SHELLS:
        raise FlagError(f'unsupported shell type "{options.args[0]}"')
    print(shell_scripts.script(options.args[0], "kubeadm", "__complete"), end="")
    return 0
