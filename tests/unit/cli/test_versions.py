"""`kubette versions`: what the table says of stages and support."""

import json

import pytest

from kubette.cli import __main__ as cli


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    assert cli.main(["versions", *words, "-o", "json"]) == 0
    rows: list[dict[str, str]] = json.loads(capsys.readouterr().out)
    return rows


def test_three_lines_are_supported_and_every_line_has_companions(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys)
    assert [row["version"].rpartition(".")[0] for row in rows if row["support"] == "supported"] == ["v1.37", "v1.36", "v1.35"]
    assert rows[-1]["version"].startswith("v1.30.")
    assert rows[-1]["support"] == "ended"
    assert all(row["etcd"] and row["coredns"] and row["pause"] for row in rows)


def test_a_line_has_alpha_beta_and_stable_releases_the_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "v1.31")
    versions = [row["version"] for row in rows]
    assert versions[-1] == "v1.31.0-alpha.1"
    assert versions.index("v1.31.0") < versions.index("v1.31.0-beta.0")
    assert {row["stage"] for row in rows} == {"alpha", "beta", "rc", "stable"}
    assert {row["support"] for row in rows if row["stage"] != "stable"} == {"none"}


@pytest.mark.parametrize(
    ("line", "said"), [("v1.99", "no release of v1.99 is known: there are v1.30 to v1.37"), ("latest", "cannot parse version 'latest'")]
)
def test_a_line_that_does_not_exist_is_an_error(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["versions", line]) == 1
    assert said in capsys.readouterr().err
