"""A unit that init has in memory: what was loaded, what runs, since when."""

from dataclasses import dataclass, field

from kubette.init import unit_state
from kubette.init.loader import LoadedUnit
from kubette.init.service_runner import ServiceRunner


@dataclass(slots=True)
class Timestamps:
    """Unix seconds; 0 when it has not happened."""

    state_change: float = 0.0
    active_enter: float = 0.0
    active_exit: float = 0.0
    inactive_enter: float = 0.0
    inactive_exit: float = 0.0


@dataclass(slots=True)
class Unit:
    """Services have a runner; targets and slices are active or not, and that is all there is to them."""

    name: str
    loaded: LoadedUnit
    runner: ServiceRunner | None = None
    reached: bool = False
    transient: bool = False
    condition_result: bool = True
    times: Timestamps = field(default_factory=Timestamps)
    shown_active_state: str = "inactive"

    @property
    def active_state(self) -> str:
        if self.runner is not None:
            return self.runner.machine.active_state
        return "active" if self.reached else "inactive"

    @property
    def sub_state(self) -> str:
        if self.runner is not None:
            return self.runner.machine.state.value
        return "active" if self.reached else "dead"

    @property
    def is_up(self) -> bool:
        """Active or on its way there: what a start job need not do again."""
        return self.active_state in ("active", "reloading", "activating")

    def note_change(self, now: float) -> bool:
        """Keep the timestamps of ActiveState; answers whether it changed."""
        before, after = self.shown_active_state, self.active_state
        if before == after:
            return False
        self.shown_active_state = after
        times = self.times
        times.state_change = now
        down = ("inactive", "failed")
        if before in down and after not in down:
            times.inactive_exit = now
        if before not in down and after in down:
            times.inactive_enter = now
        if after in ("active", "reloading") and before not in ("active", "reloading"):
            times.active_enter = now
        if before in ("active", "reloading") and after not in ("active", "reloading"):
            times.active_exit = now
        return True

    def job_outcome(self, job: str) -> str:
        """What the state says of a job that is under way: done, failed, or empty while it is."""
        state = self.active_state
        if self.runner is None:
            return "done"
        machine = self.runner.machine
        if job == "stop":
            return "done" if state in ("inactive", "failed") else ""
        if job == "reload":
            return "" if state == "reloading" else "done" if machine.reload_result == "success" else "failed"
        if state in ("active", "reloading"):
            return "done"
        if machine.state is unit_state.SubState.AUTO_RESTART or state in ("inactive", "failed"):
            return "done" if machine.started and machine.result == "success" else "failed"
        return ""
