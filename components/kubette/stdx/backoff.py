"""Pure: delay sequences."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays in seconds: `base_s * factor**n`, never above `cap_s`, plus up to `jitter` of itself."""

    base_s: float
    cap_s: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay(self, failures: int, rng: random.Random | None = None) -> float:
        """The delay after `failures` consecutive failures (0 gives the base)."""
        # The exponent is bounded so that a component failing for days does not overflow a float.
        delay = min(self.cap_s, self.base_s * self.factor ** min(failures, 64))
        return delay * (1 + self.jitter * rng.random()) if rng is not None and self.jitter else delay
