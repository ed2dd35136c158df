"""What every test lives under: markers that ask for something this machine may not have.

`@pytest.mark.needs("etcd", "etcdctl")` names outside judges. Without one the test is skipped with the reason, and with CI=true it fails: a judge that is
silently absent judges nothing. `@pytest.mark.root` skips for an ordinary user. `@pytest.mark.long` runs with `--long` only.
"""

import os
from typing import Any

import hypothesis
import pytest

from harness import isolation, judges
from harness.article_table import Table

# The same examples in every run (scripts/simulate and --hypothesis-seed explore), and no judgement of speed: the machine may be busy.
hypothesis.settings.register_profile("kubette", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("kubette")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what takes real minutes: full grace periods, every release")
    parser.addoption("--rewrite", action="store_true", help="put what stories with golden text answer into their files")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table())
    if hasattr(config, "workerinput"):
        isolation.own_network()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> isolation.Scheduler:
    return isolation.Scheduler(config, log)


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether timings are upstream's defaults, not shortened ones."""
    return bool(request.config.getoption("--long"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = judges.missing(*(name for marker in item.iter_markers("needs") for name in marker.args))
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        pytest.skip("takes minutes: runs with --long")
