"""Pure: what the doctor says: a condition is a kind of trouble, a finding is one case of it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from kubette.cli.doctor.facts import Facts

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Seen:
    """One case: where, what was seen (upstream's words where there are any), why that is so, and what to type."""

    where: str
    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the doctor's table. `id` is stable: scripts and tests name it."""

    id: str
    severity: str
    title: str
    find: Callable[[Facts], Iterable[Seen]]


@dataclass(frozen=True, slots=True)
class Finding:
    id: str
    severity: str
    where: str
    what: str
    why: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine(facts: Facts, conditions: Iterable[Condition]) -> list[Finding]:
    """Every case of every condition, in the table's order, which goes from causes to effects; errors before warnings."""
    found = [
        Finding(condition.id, condition.severity, seen.where, seen.what, seen.why, seen.remedy)
        for condition in conditions
        for seen in condition.find(facts)
    ]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.severity != ERROR)
