"""`kubeadm reset`."""

import sys
from typing import TYPE_CHECKING, Any

from kubette.component_base.flags import FlagSet
from kubette.kubeadm import config
from kubette.kubeadm.cli import command_line
from kubette.kubeadm.cli import config as config_commands
from kubette.kubeadm.cli.command_line import say
from kubette.kubeadm.config import ConfigError

if TYPE_CHECKING:
    from kubette.kubeadm.phases.reset import Reset

_BESIDE_CONFIG = {"config", "dry-run", "force", "ignore-preflight-errors", "skip-phases", "v"}


def reset(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import reset as phases
    from kubette.kubeadm.phases import workflow

    run, options = _options(flag_set, words, arguments=0)
    command_line.run(workflow.run(phases.PHASES, run, options.skip_phases))
    if not run.dry_run:
        say(phases.EPILOGUE)
    return 0


def reset_phase(flag_set: FlagSet, words: list[str]) -> int:
    from kubette.kubeadm.phases import reset as phases
    from kubette.kubeadm.phases import workflow

    run, options = _options(flag_set, words, arguments=1)
    command_line.run(workflow.run_one(phases.PHASES, options.args, run))
    return 0


def _options(flag_set: FlagSet, words: list[str], arguments: int) -> "tuple[Reset, Any]":
    flag_set.string("cert-dir", config.PKI_DIR, "The path to the directory where the certificates are stored. If specified, clean this directory.")
    flag_set.bool("cleanup-tmp-dir", False, f'Cleanup the "{config.KUBERNETES_DIR}/tmp" directory')
    flag_set.string("config", "", "Path to a kubeadm configuration file.")
    flag_set.string("cri-socket", config.CRI_SOCKET, "Path to the CRI socket to connect.")
    flag_set.bool("dry-run", False, "Don't apply any changes; just output what would be done.")
    flag_set.bool("force", False, "Reset the node without prompting for confirmation.", shorthand="f")
    flag_set.strings("ignore-preflight-errors", (), "A list of checks whose errors will be shown as warnings.")
    if not flag_set.program.endswith("phase"):
        flag_set.strings("skip-phases", (), "List of phases to be skipped.")
    options = command_line.parse(flag_set, words, arguments)
    from kubette.kubeadm.phases.reset import Reset

    loaded = config_commands.load_beside(options, _BESIDE_CONFIG, "ResetConfiguration")
    document: dict[str, Any] = loaded.by_kind["ResetConfiguration"] if loaded else {}
    ignored = [*options.ignore_preflight_errors, *(document.get("ignorePreflightErrors") or ())]
    options.skip_phases = [*getattr(options, "skip_phases", ()), *(document.get("skipPhases") or ())]
    dry_run = options.dry_run or bool(document.get("dryRun"))
    run = Reset(
        say,
        (lambda: None) if options.force or document.get("force") or dry_run else _confirm,
        dry_run,
        document.get("certificatesDir") or options.cert_dir,
        document.get("criSocket") or options.cri_socket,
        options.cleanup_tmp_dir or bool(document.get("cleanupTmpDir")),
        frozenset(check.lower() for check in ignored),
    )
    return run, options


def _confirm() -> None:
    say("W [reset] WARNING: Changes made to this host by 'kubeadm init' or 'kubeadm join' will be reverted.")
    print("[reset] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("won't proceed; the user didn't answer (Y|y) in order to continue")
