"""Pure: one probe of one container as a state machine: outcomes in, a steady result out (the inner half of prober's worker).

A result changes only after `successThreshold` or `failureThreshold` equal outcomes in a row. Until the first change it is the
probe's initial result: readiness begins unready, liveness alive, startup unknown. A startup or liveness probe that has
failed is on hold until the container is replaced; a startup probe that has succeeded is over.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Upstream's names, as events print them with a capital."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"

    @property
    def field(self) -> str:
        return f"{self.value.lower()}Probe"


class Result(StrEnum):
    UNKNOWN = "Unknown"
    SUCCESS = "Success"
    FAILURE = "Failure"


INITIAL = {Kind.STARTUP: Result.UNKNOWN, Kind.LIVENESS: Result.SUCCESS, Kind.READINESS: Result.FAILURE}


@dataclass(slots=True)
class ProbeState:
    """The state of one probe of one container id."""

    kind: Kind
    success_threshold: int = 1
    failure_threshold: int = 3
    result: Result = Result.UNKNOWN
    run: int = 0
    last: Result = Result.UNKNOWN
    on_hold: bool = False

    @classmethod
    def begin(cls, kind: Kind, spec: dict[str, Any]) -> "ProbeState":
        return cls(kind, int(spec.get("successThreshold") or 1), int(spec.get("failureThreshold") or 3), INITIAL[kind])

    def observe(self, outcome: Result) -> bool:
        """Count an outcome; answers whether `result` changed."""
        if outcome is self.last:
            self.run += 1
        else:
            self.last, self.run = outcome, 1
        threshold = self.success_threshold if outcome is Result.SUCCESS else self.failure_threshold
        if self.run < threshold:
            return False
        changed = self.result is not outcome
        self.result = outcome
        if self.kind in (Kind.LIVENESS, Kind.STARTUP) and outcome is Result.FAILURE:
            # The container is about to be killed: probing on would count failures of the next one.
            self.on_hold, self.run = True, 0
        return changed

    def due(self, running_s: float, spec: dict[str, Any]) -> bool:
        """Whether the container runs long enough to be probed and the probe still matters."""
        if self.on_hold or (self.kind is Kind.STARTUP and self.result is Result.SUCCESS):
            return False
        return running_s >= int(spec.get("initialDelaySeconds") or 0)
