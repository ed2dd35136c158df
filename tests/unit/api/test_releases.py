"""The list of releases: order, lines, support."""

import pytest

from kubette.api import releases
from kubette.api.releases import Release


def test_alpha_beta_and_candidates_come_before_the_release() -> None:
    texts = ["v1.36.2", "v1.37.0-alpha.1", "v1.37.0-alpha.3", "v1.37.0-beta.0", "v1.37.0-rc.0", "v1.37.0", "v1.37.1"]
    parsed = [releases.parse(text) for text in texts]
    assert sorted({*parsed}) == parsed
    assert [str(release) for release in parsed] == texts


def test_the_list_reaches_from_v1_30_to_v1_37_with_its_alpha_and_beta_releases() -> None:
    listed = {str(release) for release in releases.RELEASES}
    assert {"v1.30.0", "v1.30.6", *(f"v1.{minor}.0" for minor in range(30, 38))} <= listed
    assert {"v1.31.0-alpha.1", "v1.37.0-beta.0"} <= {str(release) for release in releases.PRERELEASES}
    assert releases.latest().line == "v1.37"
    assert releases.latest("v1.30").patch >= 6


def test_every_line_has_companions_of_its_own_versions() -> None:
    for minor in range(releases.OLDEST_MINOR, releases.NEWEST_MINOR + 1):
        assert all(releases.companions(minor))
    # As `kubeadm config images list` of these releases prints them.
    assert releases.companions(30)[:3] == ("3.5.12-0", "v1.11.1", "3.9")
    assert releases.companions(34)[:3] == ("3.6.4-0", "v1.12.1", "3.10.1")
    assert releases.companions(36)[:3] == ("3.6.8-0", "v1.14.2", "3.10.2")
    assert releases.companions(37)[:3] == ("3.7.0-0", "v1.14.6", "3.10.2")


def test_lines_end_in_the_order_in_which_they_began() -> None:
    days = [releases.end_of_life(minor) for minor in range(releases.OLDEST_MINOR, releases.NEWEST_MINOR + 1)]
    assert days == sorted(days)
    assert days[:2] == ["2025-07-15", "2025-11-11"]


def test_three_lines_are_supported() -> None:
    newest = Release(1, 13, 0)
    assert [minor for minor in range(9, 15) if releases.is_supported(Release(1, minor, 0), newest)] == [11, 12, 13]


@pytest.mark.parametrize("text", ["latest", "v1", "1.x.0", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        releases.parse(text)


@pytest.mark.parametrize(
    ("component", "against"),
    [
        ("v1.31.0", ""),
        ("v1.30.9", ""),
        ("v1.29.0", "may be at most one minor version older than kube-apiserver"),
        ("v1.32.0", "must not be newer than kube-apiserver"),
        ("v1.31.7", ""),  # patches do not count
    ],
)
def test_a_controller_manager_may_be_one_line_older_and_not_newer(component: str, against: str) -> None:
    assert releases.component_skew(releases.parse(component), releases.parse("v1.31.4")) == against
