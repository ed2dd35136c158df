"""`apt update`: the lists of a machine's sources are made anew, or apt says why a source has none.

The repositories of pkgs.k8s.io are the list of releases. A machine has no network beyond its cluster, so that any other host's name does not resolve.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from kubette.api import releases
from kubette.machines.packages import control_file, repository
from kubette.machines.packages.database import Database
from kubette.machines.packages.sources import Source
from kubette.stdx.clock import SYSTEM_CLOCK

_NOT_SECURE = (
    "N: Updating from such a repository can't be done securely, and is therefore disabled by default.",
    "N: See apt-secure(8) manpage for repository creation and user configuration details.",
)
_NO_KEY = f"The following signatures couldn't be verified because the public key is not available: NO_PUBKEY {repository.KEY_ID}"


@dataclass(slots=True)
class Update:
    """One run. `say` takes the progress; `messages` are left over for the end."""

    database: Database
    architecture: str
    say: Callable[[str], None]
    messages: list[str] = field(default_factory=list)
    failed: bool = False
    _number: int = 0
    _bytes: int = 0

    def run(self) -> None:
        """Raises SourcesError."""
        started = SYSTEM_CLOCK.monotonic()
        sources = self.database.sources()
        for source in dict.fromkeys(sources):
            self._update(source)
        self.database.forget_indexes_but(sources)
        if self._bytes:
            seconds = SYSTEM_CLOCK.monotonic() - started
            self.say(f"Fetched {size(self._bytes)} in {seconds:.0f}s ({size(round(self._bytes / max(seconds, 0.001)))}/s)")

    def _update(self, source: Source) -> None:
        self._number += 1
        item = f"{self._number} {source.name} InRelease"
        if source.host != repository.HOST:
            reason = f"Temporary failure resolving '{source.host}'"
            self.say(f"Err:{item}\n  {reason}")
            self._add(f"W: Failed to fetch {source.release_uri}  {reason}")
            self._add("W: Some index files failed to download. They have been ignored, or old ones used instead.")
            return
        served = repository.serve(source, self.architecture)
        if served is None:
            self.say(f"Err:{item}\n  403  Forbidden")
            self._fail(
                f"E: Failed to fetch {source.release_uri}  403  Forbidden",
                f"E: The repository '{source.name} InRelease' is not signed.",
                *_NOT_SECURE,
                f"N: The lines there are: v1.{releases.OLDEST_MINOR} to v1.{releases.NEWEST_MINOR} of core:/stable: and of core:/prerelease:.",
            )
            return
        if not source.trusted and not self.database.has_keyring(source):
            self.say(f"Err:{item}\n  {_NO_KEY}")
            self._fail(
                f"W: GPG error: {source.name} InRelease: {_NO_KEY}", f"E: The repository '{source.name} InRelease' is not signed.", *_NOT_SECURE
            )
            return
        text = control_file.render(served)
        if text == self.database.index(source):
            self.say(f"Hit:{item}")
            return
        self.database.write_index(source, text)
        self._number += 1
        self._bytes += len(text)
        self.say(f"Get:{item}\nGet:{self._number} {source.name} Packages [{size(len(text))}]")

    def _fail(self, *lines: str) -> None:
        self.failed = True
        for line in lines:
            self._add(line)

    def _add(self, line: str) -> None:
        if line not in self.messages:
            self.messages.append(line)


def size(number: int) -> str:
    """`9090 B`, `10.3 kB`, `1234 kB`: three digits at least, as apt's SizeToStr."""
    if number < 10000:
        return f"{number} B"
    value = number / 1000
    for unit in "kMG":
        if value < 10000 or unit == "G":
            break
        value /= 1000
    return f"{value:.1f} {unit}B" if value < 100 else f"{value:.0f} {unit}B"
