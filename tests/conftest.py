"""What every test lives under: markers that ask for something this machine may not have.

`@pytest.mark.needs("etcd", "etcdctl")` names outside judges. Without one the test is skipped with the reason, and with CI=true it fails: a judge that is
silently absent judges nothing. `@pytest.mark.root` skips for an ordinary user.
"""

import os

import hypothesis
import pytest

from harness import judges

# The same examples in every run (scripts/simulate and --hypothesis-seed explore), and no judgement of speed: the machine may be busy.
hypothesis.settings.register_profile("kubette", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("kubette")


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = judges.missing(*(name for marker in item.iter_markers("needs") for name in marker.args))
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
