"""The article's table: what counts as a row that has passed."""

import pytest

from harness import article_table


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "skipped"], "passed, but for --long"),
        (["skipped"], "skipped"),
        (["passed", "failed", "skipped"], "failed"),
    ],
)
def test_the_outcome_of_a_row(outcomes: list[str], said: str) -> None:
    assert article_table.outcome([(one, 1.0) for one in outcomes]) == said
