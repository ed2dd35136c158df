"""Pure: how many requests may be worked on at once (upstream's WithMaxInFlightLimit).

Reading and mutating requests are counted apart, long-running ones (watch, exec, log --follow, proxy) not at all, and the privileged group is
never refused: an overloaded server must still take orders from its administrator.
"""

from kubette.apimachinery import status

RETRY_AFTER_S = 1
MESSAGE = "Too many requests, please try again later."


class InFlight:
    """Counts; `enter` and `leave` come in pairs. A limit of 0 is no limit."""

    def __init__(self, read_limit: int, mutate_limit: int) -> None:
        self._limits = {False: read_limit, True: mutate_limit}
        self.current = {False: 0, True: 0}
        self.dropped = {False: 0, True: 0}

    def enter(self, mutating: bool, privileged: bool) -> None:
        """Raises TooManyRequests."""
        limit = self._limits[mutating]
        if limit and self.current[mutating] >= limit and not privileged:
            self.dropped[mutating] += 1
            raise status.too_many_requests(MESSAGE, RETRY_AFTER_S)
        self.current[mutating] += 1

    def leave(self, mutating: bool) -> None:
        self.current[mutating] -= 1
