"""The program `containerd`: kubette's embedded runtime under the name, socket and flags of the one it stands in for."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubette.component_base import flags, init_client, logs, run
from kubette.runtime import config

FLAGS = flags.FlagSet("containerd", "kubette's container runtime: CRI on containerd's socket, containers as units of init.")
FLAGS.string("address", "/run/containerd/containerd.sock", "Address for containerd's GRPC server", shorthand="a")
FLAGS.string("root", "/var/lib/containerd", "containerd root directory")
FLAGS.string("state", "/run/containerd", "containerd state directory")
FLAGS.string("log-level", "info", "Set the logging level [trace, debug, info, warn, error, fatal, panic]", shorthand="l")
FLAGS.string("init-socket", init_client.SOCKET_PATH, "Control socket of the machine's init")
FLAGS.string("cni-conf-dir", "/etc/cni/net.d", "Directory of CNI network configurations")
FLAGS.string("cni-state-dir", "/var/lib/cni/networks", "Directory of address reservations")
FLAGS.string("netns-dir", "/run/netns", "Directory where network namespaces are pinned")
FLAGS.int("v", 0, "number for the log level verbosity", shorthand="v")

_LEVELS = {"trace": 6, "debug": 4, "info": 0, "warn": 0, "error": 0, "fatal": 0, "panic": 0}
VERSION_LINE = f"containerd (kubette) v{config.RUNTIME_VERSION}"


async def serve(options: Any) -> None:
    """Validate once, then run."""
    if options.log_level not in _LEVELS:
        raise run.StartupError(f'not a valid logrus Level: "{options.log_level}"')
    logs.set_verbosity(max(options.v, _LEVELS[options.log_level]))
    from kubette.runtime import app

    await app.serve(
        config.Settings(
            address=options.address.removeprefix("unix://"),
            root=Path(options.root),
            state=Path(options.state),
            init_socket=options.init_socket,
            cni_configuration=Path(options.cni_conf_dir),
            cni_state=Path(options.cni_state_dir),
            network_namespaces=Path(options.netns_dir),
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    return run.run(FLAGS, argv, serve, VERSION_LINE)


if __name__ == "__main__":
    sys.exit(main())
