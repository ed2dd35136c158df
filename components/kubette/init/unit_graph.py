"""Pure: which jobs a request means, and in what order (systemd's transactions).

`plan` turns "start kubelet.service" into a `Transaction`: one job a unit, pulled in along Requires/Wants/BindsTo (start) or against them
(stop), with conflicting units stopped; and for each job the jobs it must wait for, from After/Before. Requirement and order are independent, as in systemd:
`Requires` without `After` starts both at once. Order among jobs: a start waits for the starts and stops ordered before it; stops run in reverse order.
A cycle is broken by dropping jobs that are only wanted; a cycle of required jobs is refused.

Names are walked in sorted or declared order, never by a set's, so that one request always gives one plan.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kubette.init.service_spec import UnitSpec

START, STOP, RESTART, RELOAD = "start", "stop", "restart", "reload"

REQUIREMENTS = ("Requires", "Requisite", "BindsTo")
# When one of these stops, who named it in the setting stops as well.
STOP_FOLLOWS = ("Requires", "Requisite", "BindsTo", "PartOf")


class TransactionError(Exception):
    """The request is refused: systemd's D-Bus error name and the text systemctl prints after the unit's name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = "org.freedesktop.systemd1." + name
        self.message = message


@dataclass(slots=True)
class Transaction:
    """`jobs[unit]` is what happens to it; `waits[unit]` whose jobs come first; `needs[unit]` whose success it depends on."""

    anchor: str
    jobs: dict[str, str] = field(default_factory=dict)
    waits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """One line a job, for tests and for people."""
        lines = [f"{job} {name}" + (f" after {' '.join(self.waits[name])}" if self.waits.get(name) else "") for name, job in self.jobs.items()]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Graph:
    """The units that are loaded. `load` finds one by name: its spec, or None when there is no such unit."""

    load: Callable[[str], UnitSpec | None]
    loaded: Callable[[], Mapping[str, UnitSpec]]

    def before_it(self, name: str) -> set[str]:
        """Units ordered before `name`: its After, and all that name it in Before."""
        spec = self.load(name)
        found = set(spec.of("After")) if spec else set()
        found.update(other for other, other_spec in self.loaded().items() if name in other_spec.of("Before"))
        return found

    def that_name(self, name: str, keys: Iterable[str]) -> list[str]:
        """Loaded units that name `name` in one of the settings, sorted."""
        return sorted(other for other, spec in self.loaded().items() if any(name in spec.of(key) for key in keys))


def plan(graph: Graph, anchor: str, job: str, active: Callable[[str], bool]) -> Transaction:
    """The transaction for one request. `active` says whether a unit is up or on its way. Raises TransactionError."""
    transaction = Transaction(anchor)
    if job in (START, RESTART):
        spec = graph.load(anchor)
        if spec is None:
            raise TransactionError("NoSuchUnit", f"Unit {anchor} not found.")
    if job == STOP:
        _pull_stop(graph, transaction, anchor, active)
    elif job == RELOAD:
        transaction.jobs[anchor] = RELOAD
    else:
        _pull_start(graph, transaction, anchor, job, active)
        if job == RESTART:
            for follower in graph.that_name(anchor, STOP_FOLLOWS):
                if active(follower):
                    transaction.jobs.setdefault(follower, RESTART)
    _order(graph, transaction)
    return transaction


def plan_shutdown(graph: Graph, active: Iterable[str]) -> Transaction:
    """Stop everything that is up, in reverse order; cycles are dropped rather than refused."""
    transaction = Transaction("shutdown.target")
    transaction.jobs = dict.fromkeys(sorted(active), STOP)
    transaction.waits = _waits(graph, transaction.jobs)
    while (cycle := _find_cycle(transaction.jobs, transaction.waits)) is not None:
        head = cycle[0]
        transaction.waits[head] = tuple(name for name in transaction.waits[head] if name not in cycle)
    return transaction


def _pull_stop(graph: Graph, transaction: Transaction, name: str, active: Callable[[str], bool]) -> None:
    if name in transaction.jobs:
        return
    transaction.jobs[name] = STOP
    for follower in graph.that_name(name, STOP_FOLLOWS):
        if active(follower):
            _pull_stop(graph, transaction, follower, active)


def _pull_start(graph: Graph, transaction: Transaction, anchor: str, job: str, active: Callable[[str], bool]) -> None:
    """Breadth first, so that the plan reads as the request does: the anchor, what it names, what these name."""
    pending = [(anchor, job, "")]
    while pending:
        name, wanted, required_by = pending.pop(0)
        spec = graph.load(name)
        if spec is None:
            if required_by:
                raise TransactionError("NoSuchUnit", f"Unit {name} not found.")
            continue
        if transaction.jobs.get(name) == STOP:
            raise TransactionError("TransactionJobsConflicting", f"Transaction for {anchor}/{job} is destructive ({name} has 'stop' job queued).")
        if required_by:
            transaction.needs[required_by] = tuple(dict.fromkeys((*transaction.needs.get(required_by, ()), name)))
        if name in transaction.jobs or (active(name) and name != anchor):
            continue
        transaction.jobs[name] = wanted
        for key in REQUIREMENTS:
            pending.extend((other, START, name) for other in spec.of(key))
        pending.extend((other, START, "") for key in ("Wants", "Upholds") for other in spec.of(key))
        for other in dict.fromkeys((*spec.of("Conflicts"), *graph.that_name(name, ("Conflicts",)))):
            # Everything conflicts with shutdown.target; what is not up needs no stopping.
            if active(other) and other not in transaction.jobs:
                _pull_stop(graph, transaction, other, active)


def _waits(graph: Graph, jobs: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    waits: dict[str, set[str]] = {name: set() for name in jobs}
    for name, job in jobs.items():
        for other in graph.before_it(name):
            if other not in jobs or other == name:
                continue
            if job == STOP and jobs[other] == STOP:
                waits[other].add(name)  # reverse order when going down
            elif jobs[other] == STOP or job != STOP:
                waits[name].add(other)
            else:
                waits[other].add(name)  # a stop goes before a start, whichever is ordered first
    return {name: tuple(sorted(others)) for name, others in waits.items()}


def _find_cycle(jobs: Mapping[str, str], waits: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """One cycle of the order, as a list of names, or None."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return None
        for other in waits.get(name, ()):
            if other in jobs:
                found = visit(other, [*path, name])
                if found:
                    return found
        done.add(name)
        return None

    for name in jobs:
        found = visit(name, [])
        if found:
            return found
    return None


def _order(graph: Graph, transaction: Transaction) -> None:
    """Fill in `waits`; break cycles by deleting jobs nothing requires (the last one mentioned goes first)."""
    while True:
        transaction.waits = _waits(graph, transaction.jobs)
        cycle = _find_cycle(transaction.jobs, transaction.waits)
        if cycle is None:
            return
        required = _required(transaction)
        droppable = [name for name in transaction.jobs if name in cycle and name not in required]
        if not droppable:
            raise TransactionError(
                "TransactionOrderIsCyclic", f"Transaction order is cyclic. See system logs for details. ({' → '.join([*cycle, cycle[0]])})"
            )
        victim = droppable[-1]
        transaction.messages.append(f"{cycle[0]}: Found ordering cycle on {cycle[-1]}/start")
        transaction.messages.append(f"{cycle[0]}: Job {victim}/start deleted to break ordering cycle starting with {cycle[0]}/start")
        del transaction.jobs[victim]


def _required(transaction: Transaction) -> set[str]:
    """The anchor and all that it needs, directly or not."""
    found, pending = {transaction.anchor}, [transaction.anchor]
    while pending:
        for other in transaction.needs.get(pending.pop(), ()):
            if other not in found:
                found.add(other)
                pending.append(other)
    return found
