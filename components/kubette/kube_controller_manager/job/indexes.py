"""Pure: completion indexes of Indexed jobs, written as `0-3,5,7-9`."""

from collections.abc import Iterable
from typing import Any

from kubette.apimachinery import meta

Object = dict[str, Any]

ANNOTATION = "batch.kubernetes.io/job-completion-index"


def parse(text: str, completions: int) -> set[int]:
    """Indexes beyond the completions (the job was made smaller) do not count."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return {i for i in found if i < completions}


def show(indexes: Iterable[int]) -> str:
    """Runs of three and more as a range, as upstream writes them."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(indexes), -1]:
        if run and index == run[-1] + 1:
            run.append(index)
            continue
        if run:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}{'-' if len(run) > 2 else ','}{run[-1]}")
        run = [index]
    return ",".join(parts)


def of(pod: Object) -> int | None:
    value = meta.annotations(pod).get(ANNOTATION, "")
    return int(value) if value.isdigit() else None


def missing(completions: int, succeeded: set[int], active: Iterable[int | None], count: int) -> list[int]:
    """The first `count` indexes nobody works on."""
    busy = {i for i in active if i is not None} | succeeded
    found: list[int] = []
    for index in range(completions):
        if len(found) >= count:
            break
        if index not in busy:
            found.append(index)
    return found
