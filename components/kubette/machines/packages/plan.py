"""Pure: what `install` and `upgrade` are going to do, and apt's words about it."""

import fnmatch
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubette.machines.packages import debian_version
from kubette.machines.packages.catalog import Catalog, Offer

SCREEN_WIDTH = 80


class PlanError(Exception):
    """Nothing can be done: what apt says on standard output, and its errors."""

    def __init__(self, notes: Sequence[str], errors: Sequence[str]) -> None:
        super().__init__(errors[0])
        self.notes, self.errors = list(notes), list(errors)


@dataclass(slots=True)
class Plan:
    """Versions to be installed, by what that is for the machine."""

    new: list[Offer] = field(default_factory=list)
    upgraded: list[Offer] = field(default_factory=list)
    downgraded: list[Offer] = field(default_factory=list)
    held: list[str] = field(default_factory=list)  # changed although they are on hold
    kept_back: list[str] = field(default_factory=list)
    unchanged: list[Offer] = field(default_factory=list)
    not_upgraded: int = 0

    @property
    def changes(self) -> list[Offer]:
        """In the order of installation."""
        return sorted([*self.new, *self.upgraded, *self.downgraded], key=lambda offer: offer.stanza["Package"])

    def summary(self) -> list[str]:
        """The lists, and the line that counts."""
        lines = [f"{offer.stanza['Package']} is already the newest version ({offer.version})." for offer in self.unchanged]
        lists = (
            ("The following packages have been kept back:", self.kept_back),
            ("The following NEW packages will be installed:", _names(self.new)),
            ("The following held packages will be changed:", self.held),
            ("The following packages will be upgraded:", _names(self.upgraded)),
            ("The following packages will be DOWNGRADED:", _names(self.downgraded)),
        )
        for title, names in lists:
            if names:
                text = textwrap.wrap(" ".join(sorted(names)), SCREEN_WIDTH - 2, break_on_hyphens=False)
                lines += [title, *(f"  {line}" for line in text)]
        downgraded = f"{len(self.downgraded)} downgraded, " if self.downgraded else ""
        lines.append(f"{len(self.upgraded)} upgraded, {len(self.new)} newly installed, {downgraded}0 to remove and {self.not_upgraded} not upgraded.")
        return lines


def _names(offers: list[Offer]) -> list[str]:
    return [offer.stanza["Package"] for offer in offers]


def install(catalog: Catalog, words: Sequence[str]) -> Plan:
    """`apt-get install`: words are `NAME`, or `NAME=VERSION` with shell wildcards. Raises PlanError."""
    chosen: dict[str, Offer] = {}
    unavailable: set[str] = set()
    errors: list[str] = []
    for word in words:
        name, _, wanted = word.partition("=")
        name, _, release = name.partition("/")
        if not catalog.offers(name):
            errors.append(f"Unable to locate package {name}")
            continue
        matching = [offer for offer in catalog.offers(name) if not wanted or fnmatch.fnmatchcase(offer.version, wanted)]
        if release:
            errors.append(f"Release '{release}' for '{name}' was not found")
        elif not matching:
            errors.append(f"Version '{wanted}' for '{name}' was not found")
        else:
            chosen[name] = matching[0]
            continue
        unavailable.add(name)
    if errors:
        raise PlanError([_not_available(name) for name in sorted(unavailable)], errors)
    return _plan(catalog, chosen)


def _not_available(name: str) -> str:
    return (
        f"Package {name} is not available, but is referred to by another package.\n"
        "This may mean that the package is missing, has been obsoleted, or\n"
        "is only available from another source\n"
    )


def upgrade(catalog: Catalog) -> Plan:
    """`apt-get upgrade`: the newest of everything that is not on hold."""
    upgradable = catalog.upgradable()
    plan = _plan(catalog, {name: catalog.candidate(name) for name in upgradable if not catalog.is_held(name)})
    plan.kept_back = [name for name in upgradable if catalog.is_held(name)]
    return plan


def _plan(catalog: Catalog, chosen: dict[str, Offer]) -> Plan:
    plan = Plan()
    for name, offer in chosen.items():
        before = catalog.installed_version(name)
        if not before:
            plan.new.append(offer)
        elif before == offer.version:
            plan.unchanged.append(offer)
            continue
        elif debian_version.key(before) < debian_version.key(offer.version):
            plan.upgraded.append(offer)
        else:
            plan.downgraded.append(offer)
        if catalog.is_held(name):
            plan.held.append(name)
    plan.not_upgraded = sum(name not in chosen for name in catalog.upgradable())
    return plan
