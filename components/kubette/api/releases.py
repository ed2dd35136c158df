"""Pure: the Kubernetes releases kubette can run as: their names and order, what is released with them, and how long they are supported.

A release is the one version that all components of a bundle share, except etcd, CoreDNS and the pause image, which have projects (and versions) of their
own. The minor lines are the ones whose schemas we have.
"""

import re
from typing import NamedTuple

STABLE = "stable"


class Release(NamedTuple):
    """`v1.37.2` is (1, 37, 2). Releases compare as tuples: alpha, beta, rc, stable happen to be in alphabetical order."""

    major: int
    minor: int
    patch: int
    stage: str = STABLE
    stage_number: int = 0

    def __str__(self) -> str:
        suffix = "" if self.stage == STABLE else f"-{self.stage}.{self.stage_number}"
        return f"v{self.major}.{self.minor}.{self.patch}{suffix}"

    @property
    def line(self) -> str:
        """`v1.37`."""
        return f"v{self.major}.{self.minor}"


class Companions(NamedTuple):
    """What is released with a minor line but has a version of its own: that of the line's first release."""

    etcd: str
    coredns: str
    pause: str
    cri_tools: str
    cni_plugins: str


class Line(NamedTuple):
    """A minor line: how many patch releases it has, and the day after which there are no more (upstream: releases/schedule.yaml and eol.yaml)."""

    patches: int
    end_of_life: str
    companions: Companions


OLDEST_MINOR = 30
NEWEST_MINOR = 37

# Companions are constants of kubeadm's source in each release (cmd/kubeadm/app/constants).
_LINES = {
    30: Line(15, "2025-07-15", Companions("3.5.12-0", "v1.11.1", "3.9", "1.30.0", "1.4.0")),
    31: Line(15, "2025-11-11", Companions("3.5.15-0", "v1.11.1", "3.10", "1.31.0", "1.5.1")),
    32: Line(14, "2026-02-28", Companions("3.5.16-0", "v1.11.3", "3.10", "1.32.0", "1.6.0")),
    33: Line(14, "2026-06-28", Companions("3.5.21-0", "v1.12.0", "3.10", "1.33.0", "1.6.0")),
    34: Line(12, "2026-10-27", Companions("3.6.4-0", "v1.12.1", "3.10.1", "1.34.0", "1.7.1")),
    35: Line(10, "2027-02-28", Companions("3.6.6-0", "v1.13.1", "3.10.1", "1.35.0", "1.8.0")),
    36: Line(6, "2027-06-28", Companions("3.6.8-0", "v1.14.2", "3.10.2", "1.36.0", "1.8.0")),
    37: Line(2, "2027-10-28", Companions("3.7.0-0", "v1.14.6", "3.10.2", "1.37.0", "1.9.1")),
}
# What comes before every vX.Y.0. In alpha releases new features are off and unfinished, in beta ones they are on.
_STAGES = (("alpha", 1), ("alpha", 2), ("alpha", 3), ("beta", 0), ("rc", 0), ("rc", 1))

RELEASES: tuple[Release, ...] = tuple(Release(1, minor, patch) for minor, line in _LINES.items() for patch in range(line.patches))
PRERELEASES: tuple[Release, ...] = tuple(Release(1, minor, 0, stage, number) for minor in _LINES for stage, number in _STAGES)

SUPPORTED_LINES = 3  # the newest line and the two before it get patches
COMPONENT_LINES_BEHIND = 1  # kube-controller-manager and kube-scheduler
KUBELET_LINES_BEHIND = 3  # a kubelet may be this much older than its API server (version-skew-policy), never newer


def parse(text: str) -> Release:
    """`v1.37`, `1.37.1`, `v1.37.0-beta.0`; build metadata and vendors' suffixes are left out. Raises ValueError."""
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:-(alpha|beta|rc)\.(\d+))?(?:[-+].*)?", text)
    if matched is None:
        raise ValueError(f"cannot parse version {text!r}: expected the form v1.37.0")
    major, minor, patch, stage, number = matched.groups()
    return Release(int(major), int(minor), int(patch or 0), stage or STABLE, int(number or 0))


def is_known(release: Release) -> bool:
    """Whether this process can run as that release (any patch of a known line)."""
    return release.major == 1 and OLDEST_MINOR <= release.minor <= NEWEST_MINOR


def latest(line: str | None = None) -> Release:
    """The newest stable release, or the newest of a line such as `v1.36`."""
    wanted = parse(line)[:2] if line else None
    return max(release for release in RELEASES if wanted is None or release[:2] == wanted)


def companions(minor: int) -> Companions:
    """What a minor line is released with. Raises KeyError for a line we do not have."""
    return _LINES[minor].companions


def end_of_life(minor: int) -> str:
    """When a line's support ends: `2027-10-28`. Raises KeyError for a line we do not have."""
    return _LINES[minor].end_of_life


def is_supported(release: Release, newest: Release | None = None) -> bool:
    """Whether a line still gets patches when `newest` is the newest release: v1.10 does not when v1.13 is out."""
    newest = newest or latest()
    return release.major == newest.major and newest.minor - SUPPORTED_LINES < release.minor <= newest.minor


def is_newer_line(release: Release, than: Release) -> bool:
    """Skew is counted in lines: v1.31.9 is not newer than v1.31.0."""
    return release[:2] > than[:2]


def oldest_kubelet(control_plane: Release) -> Release:
    """The oldest kubelet that a control plane takes."""
    return Release(control_plane.major, control_plane.minor - KUBELET_LINES_BEHIND, 0)


def component_skew(component: Release, apiserver: Release) -> str:
    """What the version-skew-policy has against a controller manager or scheduler beside this API server; empty when nothing."""
    if is_newer_line(component, apiserver):
        return "must not be newer than kube-apiserver"
    if component.minor < apiserver.minor - COMPONENT_LINES_BEHIND:
        return "may be at most one minor version older than kube-apiserver"
    return ""
