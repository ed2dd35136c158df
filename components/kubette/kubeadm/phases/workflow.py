"""Named phases: what `init` and `join` run in order, what `--skip-phases` leaves out, what `phase NAME` runs alone (upstream: cmd/phases/workflow)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kubette.kubeadm.config import ConfigError
from kubette.kubeadm.phases.context import PhaseError

C = TypeVar("C")  # what the phases of a workflow share

ALL = "all"  # `phase certs all`


@dataclass(frozen=True, slots=True)
class Phase(Generic[C]):
    """`run` is given the names of the chosen children, all of them unless some are skipped; a phase without children gets none."""

    name: str
    short: str
    run: Callable[[C, Sequence[str]], Awaitable[None]]
    children: tuple[str, ...] = ()
    beside: bool = False  # may run at the same time as the phase before it: neither needs the other


def names(phases: Sequence[Phase[Any]]) -> list[str]:
    """Every name that --skip-phases knows: `certs`, `certs/ca`, …"""
    return [name for phase in phases for name in (phase.name, *(f"{phase.name}/{child}" for child in phase.children))]


async def run(phases: Sequence[Phase[C]], context: C, skipped: Sequence[str] = ()) -> None:
    """All phases in order but those skipped. Raises ConfigError for a name that is none, PhaseError naming the phase that failed."""
    for name in skipped:
        if name not in names(phases):
            raise ConfigError(f"invalid phase name: {name}")
    wanted: list[list[tuple[Phase[C], list[str]]]] = []
    for phase in phases:
        children = [child for child in phase.children if f"{phase.name}/{child}" not in skipped]
        if phase.name in skipped or (phase.children and not children):
            continue
        if phase.beside and wanted:
            wanted[-1].append((phase, children))
        else:
            wanted.append([(phase, children)])
    for together in wanted:
        if len(together) == 1:
            await _guarded(*together[0], context)
            continue
        try:
            async with asyncio.TaskGroup() as group:
                for phase, children in together:
                    group.create_task(_guarded(phase, children, context))
        except* PhaseError as failed:
            raise _first(failed) from None


async def run_one(phases: Sequence[Phase[C]], words: Sequence[str], context: C) -> None:
    """`phase certs apiserver`, `phase certs all`, `phase preflight`. Raises ConfigError, PhaseError."""
    phase, children = find(phases, words)
    await _guarded(phase, children, context)


def find(phases: Sequence[Phase[C]], words: Sequence[str]) -> tuple[Phase[C], tuple[str, ...]]:
    """Raises ConfigError for words that name no phase."""
    phase = next((phase for phase in phases if phase.name == words[0]), None)
    if phase is None:
        raise ConfigError(f'unknown phase "{words[0]}"; the phases are: {", ".join(phase.name for phase in phases)}')
    rest = words[1:]
    if not phase.children and not rest:
        return phase, ()
    if phase.children and list(rest) == [ALL]:
        return phase, phase.children
    if len(rest) == 1 and rest[0] in phase.children:
        return phase, (rest[0],)
    below = f"its phases are: {', '.join((ALL, *phase.children))}" if phase.children else "it has no phases of its own"
    raise ConfigError(f'phase "{phase.name}" cannot be run as "{" ".join(words)}"; {below}')


def split(phases: Sequence[Phase[Any]], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the words that name a phase, the arguments after them). Raises ConfigError."""
    children = {child for phase in phases for child in (*phase.children, ALL) if words and phase.name == words[0] and phase.children}
    count = 2 if len(words) > 1 and words[1] in children else 1
    find(phases, words[:count])
    return list(words[:count]), list(words[count:])


async def _guarded(phase: Phase[C], children: Sequence[str], context: C) -> None:
    try:
        await phase.run(context, children)
    except PhaseError:
        raise
    except Exception as error:
        failure = _first(error)
        if isinstance(failure, PhaseError):
            raise failure from None
        raise PhaseError(phase.name, str(failure) or type(failure).__name__) from failure


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
