"""How a request ends that no answer can reach any more."""

import asyncio
import random
from typing import Any

import pytest
from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.test_utils import make_mocked_request

from kubette.kube_apiserver.core import Core
from kubette.kube_apiserver.server import Server
from kubette.stdx.clock import SYSTEM_CLOCK


class Writing(Server):
    """A server in the middle of a stream whose client has just hung up."""

    def __init__(self) -> None:
        core = object.__new__(Core)
        core.rng, core.clock, core.auditor = random.Random(1), SYSTEM_CLOCK, None
        self._core = core

    async def _serve(self, *_: Any) -> web.StreamResponse:
        raise ClientConnectionResetError("Cannot write to closing transport")


async def test_a_client_that_hung_up_is_no_failure_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await Writing().handle(make_mocked_request("GET", "/api/v1/pods?watch=1"))
    assert "Traceback" not in capsys.readouterr().err
