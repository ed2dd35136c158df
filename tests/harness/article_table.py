"""The table of the article's rows that a run of the tests ends with: row, style, passed or not, seconds."""

import re
from collections import defaultdict

import pytest

from harness.article_rows import ROWS, STYLES, rows_of

HERE = "tests/e2e/article/"
STYLE = re.compile(rf"\[(?:.*-)?({'|'.join(STYLES)})(?:-.*)?\]")


class Table:
    """Listens to reports, wherever the tests ran."""

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.nodeid.startswith(HERE) or (report.when != "call" and report.passed):
            return
        name = report.nodeid.partition("::")[2]
        style = STYLE.search(name)
        for row in rows_of(name):
            self._outcomes[row, style[1] if style else "-"].append((report.outcome, report.duration))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._outcomes:
            return
        terminalreporter.section("the article, row by row")
        for (row, style), seen in sorted(self._outcomes.items(), key=lambda item: (ROWS.index(item[0][0]), item[0][1])):
            terminalreporter.write_line(f"{row}  {style:8} {outcome(seen):22} {sum(seconds for _, seconds in seen):6.1f} s")
        ran = {row for row, _ in self._outcomes}
        passed = ran - {row for (row, _), seen in self._outcomes.items() if not outcome(seen).startswith("passed")}
        terminalreporter.write_line(f"{len(passed)} of {len(ROWS)} rows passed; not run: {' '.join(row for row in ROWS if row not in ran) or 'none'}")


def outcome(seen: list[tuple[str, float]]) -> str:
    """A row with parts that only `--long` runs has passed when its other parts have; it says so."""
    outcomes = {one for one, _ in seen}
    if "failed" in outcomes:
        return "failed"
    if "passed" not in outcomes:
        return "skipped"
    return "passed, but for --long" if "skipped" in outcomes else "passed"
