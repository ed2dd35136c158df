"""The scheduler's metrics, with upstream's names."""

from kubette.component_base.metrics import Registry


class Metrics:
    def __init__(self, registry: Registry) -> None:
        labels = ("result", "profile")
        self.attempts = registry.counter("scheduler_schedule_attempts_total", "Number of attempts to schedule pods, by the result.", labels)
        self.attempt_duration = registry.histogram("scheduler_scheduling_attempt_duration_seconds", "Scheduling attempt latency in seconds.", labels)
        self.algorithm_duration = registry.histogram("scheduler_scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds.")
        self.preemption_victims = registry.histogram(
            "scheduler_preemption_victims", "Number of selected preemption victims.", (), (1, 2, 4, 8, 16, 32, 64)
        )
        self.pending = registry.gauge("scheduler_pending_pods", "Number of pending pods, by the queue type.", ("queue",))
