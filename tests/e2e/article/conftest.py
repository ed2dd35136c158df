"""The article, row by row: one test per row, whose name begins with the row's id (`test_e02_…`), typed as in the article on the machine where it types it.

- `cluster` is a control plane and two workers; a test that takes it (or `kubectl`) runs in both styles, kubeadm and systemd, one cluster after the other.
  `@pytest.mark.style("kubeadm")` keeps a test to the style its row is about. Each test leaves the cluster as it found it.
- A file that needs another shape (three control planes, an old release, a cluster to break) makes it with `new_cluster` in a module fixture and removes it there.
- `cluster.typed("node01", "systemctl status kubelet")` is a line typed in a shell of that machine; kubectl is the real one, on the host.
- Rows with real minutes in them run with shortened flags, and in full with `scripts/test --long`: `is_long` says which, and `@pytest.mark.long` marks a test for --long only.

At the end the table is printed: row, style, passed or not, seconds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.article_rows import ROWS, STYLES, rows_of
from harness.cluster import Cluster

HERE = Path(__file__).parent
UP_FLAGS = {"kubeadm": ("--style=kubeadm",), "systemd": ("--style=systemd",)}
Outcome = tuple[str, float]
OUTCOMES = pytest.StashKey[dict[tuple[str, str], list[Outcome]]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "style" in metafunc.fixturenames and metafunc.definition.get_closest_marker("parametrize") is None:
        marker = metafunc.definition.get_closest_marker("style")
        metafunc.parametrize("style", marker.args if marker else STYLES, indirect=True, scope="session")


@pytest.fixture(scope="session")
def style(request: pytest.FixtureRequest) -> str:
    """kubeadm or systemd."""
    return str(request.param)


@pytest.fixture(scope="session")
def cluster(style: str, new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """controlplane, node01, node02, set up in the style of the test."""
    made = new_cluster(f"article-{style}")
    made.up(*UP_FLAGS[style])
    made.kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=60s", timeout_s=70)
    yield made
    made.remove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if HERE in item.path.parents and (report.when == "call" or not report.passed):
        outcomes = item.config.stash.setdefault(OUTCOMES, defaultdict(list))
        style = getattr(item, "callspec", None) and item.callspec.params.get("style", "")  # type: ignore[attr-defined]
        for row in rows_of(item.name):
            outcomes[row, style or ""].append((report.outcome, report.duration))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash.get(OUTCOMES, None)
    if not outcomes:
        return
    terminalreporter.section("the article, row by row")
    for (row, style), seen in sorted(outcomes.items(), key=lambda item: (ROWS.index(item[0][0]), item[0][1])):
        worst = next((outcome for outcome in ("failed", "skipped") if outcome in {one for one, _ in seen}), "passed")
        terminalreporter.write_line(f"{row}  {style or '-':8} {worst:8} {sum(seconds for _, seconds in seen):6.1f} s")
    passed = {row for row, _ in outcomes} - {row for (row, _), seen in outcomes.items() if any(outcome != "passed" for outcome, _ in seen)}
    terminalreporter.write_line(
        f"{len(passed)} of {len(ROWS)} rows passed; not run: {' '.join(row for row in ROWS if row not in {r for r, _ in outcomes}) or 'none'}"
    )
