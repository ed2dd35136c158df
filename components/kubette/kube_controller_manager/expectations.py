"""Pure: what a controller has asked for and not yet seen in its cache (controller_utils.go's ControllerExpectations).

A cache lags behind our own writes. Until every creation and deletion that a controller asked for has shown up, it must not count its
children again, or it would create too many. Expectations expire, so that a lost event only delays.
"""

from dataclasses import dataclass, field

TIMEOUT_S = 300.0  # upstream's ExpectationsTimeout


@dataclass(slots=True)
class _Expected:
    creations: int = 0
    deletions: set[str] = field(default_factory=set)
    since: float = 0.0


class Expectations:
    """Per controller key: creations by number, deletions by the child's key."""

    def __init__(self) -> None:
        self._expected: dict[str, _Expected] = {}

    def satisfied(self, key: str, now: float) -> bool:
        """Whether the cache can be trusted for this controller."""
        expected = self._expected.get(key)
        if expected is None:
            return True
        fulfilled = expected.creations <= 0 and not expected.deletions
        return fulfilled or now - expected.since > TIMEOUT_S

    def expect_creations(self, key: str, count: int, now: float) -> None:
        self._expected[key] = _Expected(creations=count, since=now)

    def expect_deletions(self, key: str, children: list[str], now: float) -> None:
        self._expected[key] = _Expected(deletions=set(children), since=now)

    def add(self, key: str, creations: int, deletions: list[str], now: float) -> None:
        """Both at once (a DaemonSet deletes and creates in one go)."""
        self._expected[key] = _Expected(creations, set(deletions), now)

    def creation_observed(self, key: str) -> None:
        """A child appeared, or will never: its creation failed."""
        expected = self._expected.get(key)
        if expected is not None and expected.creations > 0:
            expected.creations -= 1

    def deletion_observed(self, key: str, child: str) -> None:
        expected = self._expected.get(key)
        if expected is not None:
            expected.deletions.discard(child)

    def forget(self, key: str) -> None:
        """The controller object is gone."""
        self._expected.pop(key, None)


def slow_start_batches(count: int, initial: int = 1) -> list[int]:
    """1, 2, 4, …: if creation fails at all, it fails after few attempts instead of all."""
    batches, size = [], initial
    while count > 0:
        batches.append(min(size, count))
        count -= batches[-1]
        size *= 2
    return batches
