"""kubeadm's command line: the table of its commands; each is a function of one of the modules here, imported when it is asked for."""

import importlib
import sys
from collections.abc import Sequence

from kubette.component_base import version
from kubette.component_base.flags import FlagError, FlagSet, HelpRequested
from kubette.kubeadm import release_words
from kubette.kubeadm.config import ConfigError

_TOP = {
    "certs": "Commands related to handling Kubernetes certificates",
    "config": "Manage configuration for a kubeadm cluster persisted in a ConfigMap in the cluster",
    "init": "Run this command in order to set up the Kubernetes control plane",
    "join": "Run this on any machine you wish to join an existing cluster",
    "kubeconfig": "Kubeconfig file utilities",
    "reset": "Performs a best effort revert of changes made to this host by 'kubeadm init' or 'kubeadm join'",
    "token": "Manage bootstrap tokens",
    "upgrade": "Upgrade your cluster smoothly to a newer version with this command",
    "version": "Print the version of kubeadm",
}
# command -> (module, function, what --help says)
_COMMANDS = {
    "certs certificate-key": ("certs", "certificate_key", "Generate certificate keys"),
    "certs check-expiration": ("certs", "check_expiration", "Check certificates expiration for a Kubernetes cluster"),
    "certs generate-csr": ("certs", "generate_csr", "Generate keys and certificate signing requests"),
    "certs renew": ("certs", "renew", "Renew certificates for a Kubernetes cluster"),
    "config images list": ("config", "images_list", "Print a list of images kubeadm will use"),
    "config images pull": ("config", "images_pull", "Pull images used by kubeadm"),
    "config migrate": (
        "config",
        "migrate",
        "Read an older version of the kubeadm configuration API types from a file, and output the similar config object",
    ),
    "config print init-defaults": ("config", "print_init_defaults", "Print default init configuration, that can be used for 'kubeadm init'"),
    "config print join-defaults": ("config", "print_join_defaults", "Print default join configuration, that can be used for 'kubeadm join'"),
    "config validate": ("config", "validate", "Read a file containing the kubeadm configuration API and report any warnings and errors"),
    "init": ("init_join", "init", _TOP["init"]),
    "init phase": ("init_join", "init_phase", 'Use this command to invoke single phase of the "init" workflow'),
    "join": ("init_join", "join", _TOP["join"]),
    "join phase": ("init_join", "join_phase", 'Use this command to invoke single phase of the "join" workflow'),
    "kubeconfig user": ("certs", "kubeconfig_user", "Output a kubeconfig file for an additional user"),
    "reset": ("reset", "reset", _TOP["reset"]),
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
    "version": ("version", "show", _TOP["version"]),
}
_TRACE_HINT = "To see the stack trace of this error execute with --v=5 or higher"


def main(argv: Sequence[str] | None = None) -> int:
    """kubeadm. Exit codes: 0, 1 for a failure, 2 for failed preflight checks."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help("kubeadm", _TOP))
        return 0
    command = _find(words)
    if command is None:
        return _unknown(words)
    try:
        return _run(command, words[len(command.split()) :])
    except FlagError as error:
        print(f"error: {error}", file=sys.stderr)
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
    return "error: " if version.major_minor()[1] >= release_words.SHORT_FAILURE_SINCE_MINOR else ""


def _find(words: list[str]) -> str | None:
    """The longest command that the words begin with."""
    return next((name for n in (3, 2, 1) if (name := " ".join(words[:n])) in _COMMANDS and len(words) >= n), None)


def _unknown(words: list[str]) -> int:
    """A group's own help, or the complaint about a word that is none of its commands."""
    group: list[str] = []
    for word in words:
        if not any(name.startswith(" ".join([*group, word]) + " ") for name in _COMMANDS):
            break
        group.append(word)
    rest = words[len(group) :]
    if group and (not rest or rest[0] in ("-h", "--help")):
        prefix = " ".join(group) + " "
        below = {name.removeprefix(prefix): text for name, (_, _, text) in _COMMANDS.items() if name.startswith(prefix)}
        print(_help(f"kubeadm {prefix}".strip(), below))
        return 0
    print(f'unknown command "{rest[0]}" for "{" ".join(["kubeadm", *group])}"', file=sys.stderr)
    print(_TRACE_HINT, file=sys.stderr)
    return 1


def _run(command: str, words: list[str]) -> int:
    module, function, text = _COMMANDS[command]
    flag_set = FlagSet(f"kubeadm {command}", text, positional=True)
    try:
        return int(getattr(importlib.import_module(f"{__name__}.{module}"), function)(flag_set, words))
    except HelpRequested:
        print(flag_set.usage())
        return 0


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _help(program: str, commands: dict[str, str]) -> str:
    lines = ["kubeadm: easily bootstrap a secure Kubernetes cluster", "", "Usage:", f"  {program} [command]", "", "Available Commands:"]
    return "\n".join([*lines, *(f"  {name:<18} {text}" for name, text in sorted(commands.items()))])
