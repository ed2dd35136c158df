"""kubeadm's command line: the table of its commands; each is a function of one of the modules here, imported when it is asked for."""

import contextlib
import functools
import importlib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubette.component_base.flags import FlagError, FlagSet, HelpRequested
from kubette.component_base.version import major_minor
from kubette.kubeadm import release_words
from kubette.kubeadm.config import ConfigError

if TYPE_CHECKING:
    from kubette.kubeadm.cli import command_tree

_GROUPS = {
    "certs": "Commands related to handling Kubernetes certificates",
    "config": "Manage configuration for a kubeadm cluster persisted in a ConfigMap in the cluster",
    "config images": "Interact with container images used by kubeadm",
    "config print": "Print configuration",
    "kubeconfig": "Kubeconfig file utilities",
    "token": "Manage bootstrap tokens",
    "upgrade": "Upgrade your cluster smoothly to a newer version with this command",
}
# command -> (module, function, what --help says)
_COMMANDS = {
    "certs certificate-key": ("certs", "certificate_key", "Generate certificate keys"),
    "certs check-expiration": ("certs", "check_expiration", "Check certificates expiration for a Kubernetes cluster"),
    "certs generate-csr": ("certs", "generate_csr", "Generate keys and certificate signing requests"),
    "certs renew": ("certs", "renew", "Renew certificates for a Kubernetes cluster"),
    "completion": ("completion", "show", "Output shell completion code for the specified shell (bash or zsh)"),
    "config images list": ("config", "images_list", "Print a list of images kubeadm will use"),
    "config images pull": ("config", "images_pull", "Pull images used by kubeadm"),
    "config migrate": (
        "config",
        "migrate",
        "Read an older version of the kubeadm configuration API types from a file, and output the similar config object",
    ),
    "config print init-defaults": ("config", "print_init_defaults", "Print default init configuration, that can be used for 'kubeadm init'"),
    "config print join-defaults": ("config", "print_join_defaults", "Print default join configuration, that can be used for 'kubeadm join'"),
    "config print reset-defaults": ("config", "print_reset_defaults", "Print default reset configuration, that can be used for 'kubeadm reset'"),
    "config print upgrade-defaults": (
        "config",
        "print_upgrade_defaults",
        "Print default upgrade configuration, that can be used for 'kubeadm upgrade'",
    ),
    "config validate": ("config", "validate", "Read a file containing the kubeadm configuration API and report any warnings and errors"),
    "init": ("init_join", "init", "Run this command in order to set up the Kubernetes control plane"),
    "init phase": ("init_join", "init_phase", 'Use this command to invoke single phase of the "init" workflow'),
    "join": ("init_join", "join", "Run this on any machine you wish to join an existing cluster"),
    "join phase": ("init_join", "join_phase", 'Use this command to invoke single phase of the "join" workflow'),
    "kubeconfig user": ("certs", "kubeconfig_user", "Output a kubeconfig file for an additional user"),
    "reset": ("reset", "reset", "Performs a best effort revert of changes made to this host by 'kubeadm init' or 'kubeadm join'"),
    "reset phase": ("reset", "reset_phase", 'Use this command to invoke single phase of the "reset" workflow'),
    "token create": ("token", "create", "Create bootstrap tokens on the server"),
    "token delete": ("token", "delete", "Delete bootstrap tokens on the server"),
    "token generate": ("token", "generate", "Generate and print a bootstrap token, but do not create it on the server"),
    "token list": ("token", "list_all", "List bootstrap tokens on the server"),
    "upgrade apply": ("upgrade", "apply", "Upgrade your Kubernetes cluster to the specified version"),
    "upgrade apply phase": ("upgrade", "apply_phase", 'Use this command to invoke single phase of the "apply" workflow'),
    "upgrade diff": ("upgrade", "diff", "Show what differences would be applied to existing static pod manifests."),
    "upgrade node": ("upgrade", "node", "Upgrade commands for a node in the cluster"),
    "upgrade node phase": ("upgrade", "node_phase", 'Use this command to invoke single phase of the "node" workflow'),
    "upgrade node config": ("upgrade", "node_config", "Download the kubelet configuration from the cluster ConfigMap kubelet-config"),
    "upgrade plan": ("upgrade", "plan", "Check which versions are available to upgrade to and validate whether your current cluster is upgradeable."),
    "version": ("version", "show", "Print the version of kubeadm"),
}
_TRACE_HINT = "To see the stack trace of this error execute with --v=5 or higher"


def main(argv: Sequence[str] | None = None) -> int:
    """kubeadm. Exit codes: 0, 1 for a failure, 2 for failed preflight checks."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        return _help(words[1:])
    if words[0] in ("__complete", "__completeNoDesc"):
        return _complete(words)
    command = _find(words)
    try:
        if command is None:
            return _group(words)
        return _run(command, words[len(command.split()) :])
    except FlagError as error:
        print(f"{_prefix()}{error}", file=sys.stderr)
    except ConfigError as error:
        print(f"{_prefix()}{error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from kubette.kubeadm.phases.context import PhaseError

        failure = _innermost(error)
        if isinstance(failure, PhaseError):
            print(f"{failure.findings}\n{_prefix()}{failure.short}" if _prefix() and failure.findings else f"{_prefix()}{failure}", file=sys.stderr)
            print(_TRACE_HINT, file=sys.stderr)
            return 2 if failure.findings else 1
        print(f"error: {failure or type(failure).__name__}", file=sys.stderr)
    print(_TRACE_HINT, file=sys.stderr)
    return 1


def _prefix() -> str:
    """What stands before every failure since v1.34."""
    return "error: " if major_minor()[1] >= release_words.SHORT_FAILURE_SINCE_MINOR else ""


def _find(words: list[str]) -> str | None:
    """The longest command that the words begin with."""
    return next((name for n in (3, 2, 1) if (name := " ".join(words[:n])) in _COMMANDS and len(words) >= n), None)


def _group(words: list[str]) -> int:
    """A group of commands shows what it has; alone it fails, as upstream's does. Raises FlagError for a word that is none of them."""
    from kubette.kubeadm.cli import command_tree

    node, rest = command_tree.find(_tree(), words)
    if len(node.path) == 1:
        raise FlagError(f'unknown command "{words[0]}" for "kubeadm"')
    if rest and rest[0] not in ("-h", "--help"):
        if rest[0].startswith("-"):
            raise FlagError(f"unknown flag: {rest[0]}")
        raise FlagError(f"invalid subcommand {json.dumps(' '.join(rest))}\nSee '{' '.join(node.path)} -h' for help and examples")
    print(node.show(*_flags(node)))
    return 0 if rest else 1


def _run(command: str, words: list[str]) -> int:
    module, function, text = _COMMANDS[command]
    if command.endswith(("phase", "renew")):
        from kubette.kubeadm.cli import command_tree

        node, rest = command_tree.find(_tree(), [*command.split(), *words])
        if node.children and (not rest or rest[0] in ("-h", "--help")):
            return _group([*command.split(), *words])
    flag_set = FlagSet(f"kubeadm {command}", text, positional=True)
    try:
        return int(getattr(importlib.import_module(f"{__name__}.{module}"), function)(flag_set, words))
    except HelpRequested:
        return _help([*command.split(), *(word for word in words if not word.startswith("-"))])


@functools.cache
def _tree() -> "command_tree.Node":
    from kubette.kubeadm import expiration
    from kubette.kubeadm.cli import command_tree

    tree = command_tree.tree(_GROUPS, _COMMANDS)
    renew = tree.children["certs"].children["renew"]
    for name, text in (("all", "Renew all available certificates"), *((one.name, f"Renew the {one.long_name}") for one in expiration.MANAGED)):
        renew.children[name] = command_tree.Node((*renew.path, name), text, runs=True)
    renew.runs = False
    return tree


def _help(words: list[str]) -> int:
    from kubette.kubeadm.cli import command_tree

    node, rest = command_tree.find(_tree(), words)
    if rest and len(node.path) == 1 and not rest[0].startswith("-"):
        print(f"Unknown help topic [{' '.join(f'`{word}`' for word in rest)}]")
    print(node.show(*_flags(node)))
    return 0


def _flags(node: "command_tree.Node") -> tuple[FlagSet, FlagSet]:
    """(the command's own flags, those of every command)."""
    own, everywhere = FlagSet(" ".join(node.path), positional=True), FlagSet("kubeadm")
    command = _find(list(node.path[1:]))
    if node.runs and command is not None:
        module, function, _ = _COMMANDS[command]
        own.program = f"kubeadm {command}"
        words = list(node.path[1 + len(command.split()) :])
        with contextlib.suppress(HelpRequested):
            getattr(importlib.import_module(f"{__name__}.{module}"), function)(own, [*words, "--help"])
    verbosity = own.flags.pop("v", None)
    if verbosity is None:
        own.int("v", 0, "number for the log level verbosity", shorthand="v")
        verbosity = own.flags.pop("v")
    verbosity.kind = "Level"
    (own if len(node.path) == 1 else everywhere).flags["v"] = verbosity
    return own, everywhere


def _complete(words: list[str]) -> int:
    """What cobra's completion scripts ask a program: a candidate a line, then how they are to be used."""
    from kubette.kubeadm.cli import command_tree

    *before, begun = words[1:] or [""]
    for name, text in command_tree.candidates(_tree(), before, begun, lambda node: _flags(node)[0]):
        print(f"{name}\t{text}" if text and words[0] == "__complete" else name)
    print(":4" if command_tree.find(_tree(), before)[0].children or begun.startswith("-") else ":0")
    return 0


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
