"""`service NAME COMMAND`: the System V spelling of `systemctl` (service(8))."""

import sys
from collections.abc import Sequence

from kubette.init import systemctl
from kubette.init.bus import Bus, NotBooted

_VERBS = {
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "status": "status",
    "reload": "reload",
    "force-reload": "reload-or-restart",
    "try-restart": "try-restart",
    "condrestart": "try-restart",
}
_USAGE = "Usage: service < option > | --status-all | [ service_name [ command | --full-restart ] ]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words == ["--status-all"]:
        return _status_all()
    if len(words) < 2:
        print(_USAGE, file=sys.stderr)
        return 1
    name, verb = words[0], words[1]
    if verb == "--full-restart":
        systemctl.main(["stop", name])
        return systemctl.main(["start", name])
    if verb not in _VERBS:
        print(f"{name}: unrecognized command {verb}\n{_USAGE}", file=sys.stderr)
        return 1
    return systemctl.main([_VERBS[verb], name])


def _status_all() -> int:
    """` [ + ]  name` for what runs, ` [ - ]` for what does not."""
    try:
        bus = Bus()
    except NotBooted as error:
        print(f"service: cannot reach init: {error}", file=sys.stderr)
        return 1
    names = {file["name"] for file in bus.call("ListUnitFiles")} | {unit["Id"] for unit in bus.call("ListUnits")}
    for name in sorted(name for name in names if name.endswith(".service") and "@." not in name):
        active = bus.call("GetUnit", name=name)["ActiveState"] in ("active", "reloading")
        print(f" [ {'+' if active else '-'} ]  {name.removesuffix('.service')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
