"""The stages of one request, and a log that cannot be written."""

import json
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from kubette.apimachinery.status import ApiError
from kubette.component_base.metrics import Registry
from kubette.kube_apiserver.audit import options, policy
from kubette.kube_apiserver.audit.auditor import Auditor, Trail
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo
from kubette.kube_apiserver.filters.answer import Answer
from kubette.stdx.clock import SYSTEM_CLOCK

EVERYTHING = policy.load({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]})[0]
WATCH = AuthzAttributes(UserInfo("ann"), "watch", "", "v1", "pods")


class Memory:
    def __init__(self, is_full: bool = False) -> None:
        self.lines: list[dict[str, Any]] = []
        self.is_full = is_full

    def write(self, lines: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.lines += [json.loads(line) for line in lines.splitlines()]

    def stages(self) -> list[str]:
        return [line["stage"] for line in self.lines]


def auditor(output: Memory, mode: str = options.BLOCKING, registry: Registry | None = None) -> Auditor:
    return Auditor(EVERYTHING, output, mode, "json", SYSTEM_CLOCK, registry or Registry())


def begin(made: Auditor, is_long_running: bool = False) -> Trail:
    trail = made.begin(make_mocked_request("GET", "/api/v1/pods?watch=1"), WATCH, "an-id", 1_700_000_000.0, is_long_running)
    assert trail is not None
    return trail


def test_an_answer_has_two_stages_and_a_stream_three() -> None:
    output = Memory()
    trail = begin(auditor(output))
    trail.answered(Answer(b"{}"))
    trail.completed()
    assert output.stages() == ["RequestReceived", "ResponseComplete"]
    output = Memory()
    trail = begin(auditor(output), is_long_running=True)
    trail.started(200)
    trail.completed()
    assert output.stages() == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert output.lines[1]["responseStatus"] == {"metadata": {}, "code": 200}


def test_a_panic_is_the_last_stage() -> None:
    output = Memory()
    trail = begin(auditor(output))
    trail.panicked(ZeroDivisionError("division by zero"))
    trail.answered(Answer(b"{}", 500))
    trail.completed()
    assert output.stages() == ["RequestReceived", "Panic"]
    assert output.lines[-1]["responseStatus"]["message"] == "APIServer panic'd: division by zero"


def test_a_client_that_left_before_any_answer() -> None:
    output = Memory()
    begin(auditor(output)).completed()
    assert output.lines[-1]["responseStatus"] == {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}


def test_a_full_disk_stops_requests_in_the_strict_mode_alone() -> None:
    registry = Registry()
    begin(auditor(Memory(is_full=True), registry=registry))
    assert 'apiserver_audit_error_total{plugin="log"} 1' in registry.render()
    registry = Registry()
    with pytest.raises(ApiError, match="failed to store audit event") as refused:
        begin(auditor(Memory(is_full=True), options.BLOCKING_STRICT, registry))
    assert refused.value.code == 500
    assert "apiserver_audit_requests_rejected_total 1" in registry.render()
