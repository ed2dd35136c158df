"""`kubette lab list|start|hint|check|solve|reset [NAME]`: exercises on a running cluster.

Each builds its situation in seconds, grades what the learner did and says what is missing. Without NAME the one that is under way is meant.
"""

from typing import TYPE_CHECKING, Any

from kubette.cli import common_flags
from kubette.cli.errors import CommandError
from kubette.component_base.flags import FlagError, FlagSet

if TYPE_CHECKING:
    from kubette.cli.lab.exercise import Exercise
    from kubette.cli.lab.session import Session

VERBS = ("list", "start", "hint", "check", "solve", "reset")
USAGE = f"kubette lab {'|'.join(VERBS)} [NAME]"
SOLVED_WITHIN_S = 90.0
SITUATION_WITHIN_S = 30.0


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("lab", f"Exercises on a running cluster: {USAGE}", positional=True)
    flag_set.duration("wait", 0.0, "How long check waits for the cluster to follow what was typed.")
    return flag_set


def run(options: Any) -> int:
    from kubette.cli.lab import exercise, library, session
    from kubette.machines import layout, spec

    verb, *rest = common_flags.arguments(options, USAGE, 1, 2)
    if verb not in VERBS:
        raise FlagError(f'unknown command "{verb}" for "kubette lab"')
    if "wait" in options.changed and verb != "check":
        raise FlagError(f"--wait has no meaning for {verb}")
    spec.check_name(options.name)
    known = library.load()
    place = session.Session(layout.of(options.name))
    if verb == "list":
        return _list(place, known)
    active = place.state()["active"]
    if not rest and (verb == "start" or not active):
        raise CommandError("no exercise is under way; kubette lab list shows them, kubette lab start NAME begins one")
    name = rest[0] if rest else active
    if name not in known:
        raise CommandError(exercise.unknown(name, known))
    if verb == "start":
        return _start(place, known[name], active)
    if active and name != active:
        raise CommandError(f'exercise "{active}" is under way, not "{name}"; kubette lab reset {active} gives it up')
    if verb != "reset" and not active:
        raise CommandError(f'exercise "{name}" was not started; kubette lab start {name}')
    verbs = {"hint": _hint, "check": lambda p, e: _check(p, e, options.wait), "solve": _solve, "reset": _reset}
    return verbs[verb](place, known[name])


def _list(place: "Session", known: "dict[str, Exercise]") -> int:
    from kubette.cli.status import table

    active = place.state()["active"]
    rows = [("NAME", "ROWS", "STATE", "TITLE")]
    for name, one in known.items():
        state = "under way" if name == active else "not here" if place.refusal(one) else "-"
        rows.append((name, ",".join(one.rows), state, one.title))
    print(table(rows))
    return 0


def _start(place: "Session", one: "Exercise", active: str) -> int:
    if active:
        raise CommandError(f'exercise "{active}" is under way; kubette lab check {active} grades it, kubette lab reset {active} gives it up')
    if refusal := place.refusal(one):
        raise CommandError(f'exercise "{one.name}" is not for this cluster: {refusal}')
    place.save(one.name)
    place.run(one, "setup")
    if not place.wait(one, bool, SITUATION_WITHIN_S):
        raise CommandError(f'the situation of "{one.name}" did not come about; kubette lab reset {one.name}')
    print(f"{one.title}\n\n{one.task}\n\nkubette lab hint: a hint ({len(one.hints)} there are); kubette lab check: what is still missing.")
    return 0


def _hint(place: "Session", one: "Exercise") -> int:
    given = place.state()["hints"]
    index = min(given, len(one.hints) - 1)
    place.save(one.name, min(given + 1, len(one.hints)))
    print(f"hint {index + 1} of {len(one.hints)}: {one.hints[index]}")
    return 0


def _check(place: "Session", one: "Exercise", wait_s: float) -> int:
    return _grade(one, place.wait(one, lambda seen: not seen, wait_s))


def _grade(one: "Exercise", missing: list[str]) -> int:
    if missing:
        print(
            f"{one.name}: {len(one.checks) - len(missing)} of {len(one.checks)} done; still missing:", *(f"  - {text}" for text in missing), sep="\n"
        )
        return 1
    print(f"{one.name}: done ({len(one.checks)} of {len(one.checks)}). kubette lab reset {one.name} cleans up.")
    return 0


def _solve(place: "Session", one: "Exercise") -> int:
    place.run(one, "solve", lambda text: print(text, end="", flush=True))
    return _grade(one, place.wait(one, lambda seen: not seen, SOLVED_WITHIN_S))


def _reset(place: "Session", one: "Exercise") -> int:
    place.run(one, "reset")
    if place.state()["active"] == one.name:
        place.save("")
    print(f"{one.name}: reset")
    return 0
