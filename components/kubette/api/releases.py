"""Pure: the Kubernetes releases kubette can run as."""

import re
from typing import NamedTuple


class Release(NamedTuple):
    """`v1.37.2` is (1, 37, 2); releases compare as tuples."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    @property
    def line(self) -> str:
        """`v1.37`."""
        return f"v{self.major}.{self.minor}"


OLDEST_MINOR = 30
NEWEST_MINOR = 37

# How many patch releases of each minor line the package list offers. The lines are the ones whose schemas we have.
_PATCHES = {30: 14, 31: 14, 32: 11, 33: 8, 34: 5, 35: 3, 36: 2, 37: 1}

RELEASES: tuple[Release, ...] = tuple(Release(1, minor, patch) for minor, patches in _PATCHES.items() for patch in range(patches))


def parse(text: str) -> Release:
    """`v1.37`, `1.37.1`, `v1.37.1`; raises ValueError."""
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+].*)?", text)
    if matched is None:
        raise ValueError(f"cannot parse version {text!r}: expected the form v1.37.0")
    return Release(int(matched[1]), int(matched[2]), int(matched[3] or 0))


def is_known(release: Release) -> bool:
    """Whether this process can run as that release (any patch of a known line)."""
    return release.major == 1 and OLDEST_MINOR <= release.minor <= NEWEST_MINOR


def latest(line: str | None = None) -> Release:
    """The newest release, or the newest of a line such as `v1.36`."""
    wanted = parse(line)[:2] if line else None
    return max(release for release in RELEASES if wanted is None or release[:2] == wanted)
