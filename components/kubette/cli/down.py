"""`kubette down`: power off every machine and leave nothing on the host but the cluster's data (with --purge: nothing)."""

import os
import select
import shutil
from pathlib import Path
from typing import Any

from kubette.cli import common_flags, kubeconfig_file
from kubette.cli.errors import CommandError
from kubette.component_base import version
from kubette.component_base.flags import FlagSet
from kubette.machines import cgroups, client, layout, namespaces, power, spec

END_TIMEOUT_S = 10.0


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("down", "Stop a cluster. Its data stays, and kubette up brings the same cluster back.")
    flag_set.bool("purge", False, "Remove the cluster's data and its kubeconfig context as well.")
    return flag_set


def run(options: Any) -> int:
    spec.check_name(options.name)
    place = layout.of(options.name)
    if not place.exists() and not place.is_running():
        raise CommandError(f'no cluster "{options.name}" found')
    context = spec.plan(options.name, 1, 0, version.DEFAULT_VERSION).context
    was_running = stop(place)
    print(f'Cluster "{options.name}" {"stopped" if was_running else "was not running"}.')
    if options.purge:
        purge(place)
        kubeconfig_file.remove(kubeconfig_file.default_path(dict(os.environ)), context)
        print(f'Cluster "{options.name}" removed.')
    return 0


def stop(place: layout.Layout, timeout_s: float | None = None) -> bool:
    """Bring a cluster down, and wait until its supervisor is gone. Answers whether there was one."""
    was_running = place.is_running()
    if was_running:
        try:
            with client.Control(place) as control:
                pidfd = os.pidfd_open(control.status()["pid"])
                control.call("Shutdown", timeout=power.DOWN_TIMEOUT_S if timeout_s is None else timeout_s)
        except ProcessLookupError:
            return was_running
        ended, _, _ = select.select([pidfd], [], [], END_TIMEOUT_S)
        os.close(pidfd)
        if not ended:
            raise CommandError(f'the supervisor of cluster "{place.root.name}" did not end')
    place.control_socket.unlink(missing_ok=True)  # left behind by a supervisor that was killed
    cgroups.remove_leftovers(place.root.name)
    return was_running


def purge(place: layout.Layout) -> None:
    """Remove all data of a stopped cluster."""
    if os.geteuid() == 0:
        shutil.rmtree(place.root)
        return
    # Pods of an ordinary user may have left files of other (subordinate) users: only root of the user namespace can remove those.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            namespaces.enter_user_namespace()
            shutil.rmtree(place.root)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0 and Path(place.root).exists():
        raise CommandError(f"cannot remove {place.root}")
