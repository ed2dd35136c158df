"""`kubette versions [LINE]`: the releases a cluster can be of: the newest of every line, or all of one line, alpha and beta releases too."""

import json
from typing import Any

from kubette.api import releases
from kubette.api.releases import Release
from kubette.cli.errors import CommandError
from kubette.cli.status import table
from kubette.component_base.flags import FlagError, FlagSet


def flags() -> FlagSet:
    flag_set = FlagSet("kubette versions", "List the releases of Kubernetes that clusters can be of: kubette versions [LINE]", positional=True)
    flag_set.string("output", "", "Output format: json.", shorthand="o")
    return flag_set


def run(options: Any) -> int:
    if options.output not in ("", "json"):
        raise FlagError(f'unable to match a printer suitable for the output format "{options.output}", allowed formats are: json')
    if len(options.args) > 1:
        raise FlagError("expected at most one line, such as v1.36")
    shown = _of_line(options.args[0]) if options.args else _newest_of_lines()
    rows = [_row(release) for release in shown]
    if options.output == "json":
        print(json.dumps(rows, indent=2))
    else:
        print(table([("VERSION", "STAGE", "SUPPORT", "END-OF-LIFE", "ETCD", "COREDNS", "PAUSE"), *(tuple(row.values()) for row in rows)]))
    return 0


def _newest_of_lines() -> list[Release]:
    return [releases.latest(f"v1.{minor}") for minor in range(releases.NEWEST_MINOR, releases.OLDEST_MINOR - 1, -1)]


def _of_line(text: str) -> list[Release]:
    try:
        wanted = releases.parse(text)
    except ValueError as error:
        raise CommandError(str(error)) from None
    found = [release for release in (*releases.RELEASES, *releases.PRERELEASES) if release[:2] == wanted[:2]]
    if not found:
        raise CommandError(f"no release of {wanted.line} is known: there are v1.{releases.OLDEST_MINOR} to v1.{releases.NEWEST_MINOR}")
    return sorted(found, reverse=True)


def _row(release: Release) -> dict[str, str]:
    """Support is a line's: the newest three get patches. A pre-release is for trying out only."""
    companions = releases.companions(release.minor)
    supported = "none" if release.stage != releases.STABLE else "supported" if releases.is_supported(release) else "ended"
    return {
        "version": str(release),
        "stage": release.stage,
        "support": supported,
        "endOfLife": releases.end_of_life(release.minor),
        "etcd": companions.etcd,
        "coredns": companions.coredns,
        "pause": companions.pause,
    }
