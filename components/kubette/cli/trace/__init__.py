"""`kubette trace pod/web`: the way of one pod through the cluster as it happened, from the request to the kubelet's report, with times."""

from typing import Any

from kubette.cli import common_flags
from kubette.component_base.flags import FlagError, FlagSet

USAGE = "kubette trace KIND/NAME"


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("trace", f"What happened to a pod, step by step: {USAGE}", positional=True)
    flag_set.string("namespace", "default", "The namespace of the pod.", shorthand="n")
    flag_set.string("output", "", "Output format: json.", shorthand="o")
    return flag_set


def run(options: Any) -> int:
    import json

    from kubette.cli.errors import CommandError
    from kubette.cli.trace import gather, story
    from kubette.machines import layout, spec

    if options.output not in ("", "json"):
        raise FlagError(f'unable to match a printer suitable for the output format "{options.output}", allowed formats are: json')
    (target,) = common_flags.arguments(options, USAGE, 1, 1)
    spec.check_name(options.name)
    kind, name = gather.parse_target(target)
    place = layout.of(options.name)
    cluster = place.load()
    if not place.is_running():
        raise CommandError(f'cluster "{options.name}" is stopped; kubette up --name {options.name} starts it')
    records = gather.records(place, cluster, kind, options.namespace, name)
    try:
        steps = story.tell(records)
    except story.MissingRecords as error:
        raise CommandError(str(error)) from None
    print(json.dumps(story.as_json(records.pod, steps), indent=2) if options.output else story.render(records.pod, steps))
    return 0
