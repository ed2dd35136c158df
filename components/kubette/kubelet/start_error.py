"""Pure: why a container or a pod could not be brought up: the reason and message of its waiting state."""


class StartError(Exception):
    """`reason` as `kubectl get pods` shows it; `retry_after_s` if the failure knows when trying again makes sense."""

    def __init__(self, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason, self.message, self.retry_after_s = reason, message, retry_after_s
