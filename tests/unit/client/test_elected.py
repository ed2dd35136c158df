"""Row R04: a component beside an API server of another release says so in its log, and works."""

from typing import Any

import pytest

from kubette.client import elected
from kubette.component_base import version


class ApiServer:
    """Answers /version."""

    def __init__(self, git_version: str) -> None:
        self.git_version = git_version

    async def request(self, method: str, path: str) -> Any:
        return {("GET", "/version"): {"gitVersion": self.git_version}}[method, path]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("v1.31.0", ""),
        ("v1.30.0", ""),
        ("v1.29.0", 'reason="may be at most one minor version older than kube-apiserver"'),
        ("v1.32.0", 'reason="must not be newer than kube-apiserver"'),
    ],
)
async def test_unsupported_skew_is_a_warning(own: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(version.VARIABLE, own)
    await elected.note_skew(ApiServer("v1.31.0"), "kube-scheduler")  # type: ignore[arg-type]
    logged = capsys.readouterr().err
    assert said in logged
    assert ("Version skew is not supported" in logged) == bool(said)


async def test_a_server_that_does_not_say_its_version_is_no_reason_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    await elected.note_skew(ApiServer("custom"), "kube-scheduler")  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
