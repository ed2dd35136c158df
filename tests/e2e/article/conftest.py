"""The article, row by row: one test per row, whose name begins with the row's id (`test_e02_…`), typed as in the article on the machine where it types it.

- `cluster` is a control plane and two workers; a test that takes it (or `kubectl`) runs in both styles, kubeadm and systemd, one cluster after the other.
  `@pytest.mark.style("kubeadm")` keeps a test to the style its row is about. Each test leaves the cluster as it found it.
- A file that needs another shape (three control planes, an old release, a cluster to break) makes it with `new_cluster` in a module fixture and removes it there.
- `cluster.typed("node01", "systemctl status kubelet")` is a line typed in a shell of that machine; kubectl is the real one, on the host.
- Rows with real minutes in them run with shortened flags, and in full with `scripts/test --long`: `is_long` says which, and `@pytest.mark.long` marks a test for --long only.

At the end the table is printed: row, style, passed or not, seconds (harness.article_table).
"""

from collections.abc import Callable, Iterator

import pytest

from harness.article_rows import STYLES
from harness.cluster import Cluster

UP_FLAGS = {"kubeadm": ("--style=kubeadm",), "systemd": ("--style=systemd",)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = ",".join(str(marker.args[0]) for marker in metafunc.definition.iter_markers("parametrize")).split(",")
    if "style" in metafunc.fixturenames and "style" not in chosen:
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
