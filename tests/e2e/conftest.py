"""One cluster for most of the tests here (a control plane and two workers), brought up by `kubette up` and removed at the end.

Each test gets a namespace of its own. When a test fails its report ends with the state of the cluster.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import judges
from harness.cluster import Cluster
from harness.kubectl import Kubectl

HERE = Path(__file__).parent
RUNNING = pytest.StashKey[list[Cluster]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUNNING] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and HERE in item.path.parents:
        for cluster in item.config.stash[RUNNING]:
            try:
                report.sections.append((f"cluster {cluster.name}", cluster.diagnostics()))
            except OSError as error:  # its user, and the kubectl in its home, may be gone already
                report.sections.append((f"cluster {cluster.name}", str(error)))
    return report


@pytest.fixture(scope="session")
def new_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters (without starting them) and removes each at the end of the session, whatever became of it."""
    made: list[Cluster] = []
    # A short path: a unix socket's name has 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="kubette-e2e-"))

    def make(name: str, place: Path | None = None, **options: Any) -> Cluster:
        if place is None:
            place = directory / name
            place.mkdir()
        cluster = Cluster(name, place, **options)
        made.append(cluster)
        request.config.stash[RUNNING].append(cluster)
        return cluster

    try:
        yield make
    finally:
        for cluster in made:
            cluster.remove()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """The one that most tests share: controlplane, node01, node02."""
    shared = new_cluster("e2e")
    shared.up()
    # `up` ends with Ready nodes; pods that ask for names need the cluster's DNS too.
    shared.kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=60s", timeout_s=70)
    return shared


@pytest.fixture
def kubectl(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace of the test's own."""
    namespace = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    admin = cluster.kubectl
    admin("create", "namespace", namespace)
    inside = admin.in_namespace(namespace)
    # Pods need the service account that a controller makes in each namespace.
    inside.wait("create", "serviceaccount/default")
    yield inside
    admin("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def judge() -> Callable[[str], str]:
    """A program of the machine that nobody here wrote; the test is skipped without it, and fails where CI=true."""

    def find(name: str) -> str:
        path = judges.find(name)
        if path is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(judges.missing(name))
        return path

    return find
