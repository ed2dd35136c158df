"""`kubette doctor`: what is wrong with a cluster, why, and what to do; it works on a cluster whose API server is away, or that is stopped.

Facts are gathered first (`gather`), all judgement is pure (`conditions/`). Exit code 1 when anything was found.
"""

import json
from typing import Any

from kubette.cli import common_flags
from kubette.component_base.flags import FlagError, FlagSet


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("doctor", "Find what is wrong with a cluster, the reason, and what to do about it.")
    flag_set.string("output", "", "Output format: json.", shorthand="o")
    flag_set.bool("list", False, "List the conditions that are looked for.")
    return flag_set


def run(options: Any) -> int:
    from kubette.cli.doctor import conditions, finding, gather, report
    from kubette.cli.status import table
    from kubette.machines import layout, spec

    if options.output not in ("", "json"):
        raise FlagError(f'unable to match a printer suitable for the output format "{options.output}", allowed formats are: json')
    if options.list:
        print(table(report.known(conditions.TABLE)))
        return 0
    spec.check_name(options.name)
    place = layout.of(options.name)
    findings = finding.examine(gather.gather(place, place.load()), conditions.TABLE)
    if options.output == "json":
        print(json.dumps(report.document(options.name, findings), indent=2))
    else:
        print(report.text(options.name, findings, len(conditions.TABLE)))
    return 1 if findings else 0
