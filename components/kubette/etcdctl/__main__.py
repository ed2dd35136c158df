"""etcdctl's command line. `ETCDCTL_API=2` makes it the client of the v2 API, as the releases up to 3.5 did."""

import os
import sys
from collections.abc import Sequence

DESCRIPTION = "A simple command line client for etcd3."


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    api = os.environ.get("ETCDCTL_API", "")
    if api == "2":
        from kubette.etcdctl.v2 import program

        return program.main(words)
    if api not in ("", "3"):
        print("unsupported API version:", api, file=sys.stderr)
        return 1
    return _main_v3(words)


def _main_v3(words: Sequence[str]) -> int:
    from kubette.etcdctl import (
        auth,
        checks,
        completion,
        concurrency,
        context,
        endpoints,
        keys,
        leases,
        members,
        migration,
        mirror,
        run,
        snapshots,
        txn,
        versions,
        watch,
    )
    from kubette.etcdctl.cobra import Program

    commands = (
        *(keys.GET, keys.PUT, keys.DEL, txn.TXN, keys.COMPACTION, endpoints.ALARM, endpoints.DEFRAG, endpoints.ENDPOINT),
        *(
            members.MOVE_LEADER,
            watch.WATCH,
            versions.ETCDCTL,
            leases.LEASE,
            members.MEMBER,
            snapshots.SNAPSHOT,
            mirror.MAKE_MIRROR,
            migration.MIGRATE,
        ),
        *(concurrency.LOCK, concurrency.ELECT, auth.AUTH, auth.USER, auth.ROLE, checks.CHECK, completion.command("etcdctl")),
    )
    return run.run(Program("etcdctl", DESCRIPTION, versions.release(), commands, context.global_flags), words)


if __name__ == "__main__":
    sys.exit(main())
