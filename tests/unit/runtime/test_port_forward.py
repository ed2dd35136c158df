"""The limit on half of a port-forward's pair, in compressed time."""

from typing import Any

import pytest

from kubette.runtime import port_forward


class Stream:
    def __init__(self) -> None:
        self.was_reset = False

    async def reset(self) -> None:
        self.was_reset = True


@pytest.mark.looptime
@pytest.mark.parametrize("joined", [False, True])
async def test_half_of_a_pair_is_given_up_and_a_joined_one_is_left_alone(joined: bool) -> None:
    stream: Any = Stream()
    waiting = {} if joined else {"1": stream}
    await port_forward._expire(waiting, "1", stream)
    assert stream.was_reset is not joined
    assert waiting == {}
