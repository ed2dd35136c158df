"""Pure: sources.list(5), one line a source: `deb [signed-by=KEYRING] URI SUITE COMPONENT…`."""

import shlex
from dataclasses import dataclass


class SourcesError(Exception):
    """A line cannot be read; the text is apt's, without its `E: `."""


@dataclass(frozen=True, slots=True)
class Source:
    """One `deb` line. A suite that ends in a slash is a folder with a Packages file of its own ("flat")."""

    uri: str
    suite: str
    components: tuple[str, ...] = ()
    signed_by: str = ""
    trusted: bool = False

    @property
    def name(self) -> str:
        """As apt shows it before `InRelease` and `Packages`; the suite `/` is shown as nothing."""
        return f"{self.uri.rstrip('/')} {'' if self.suite == '/' else self.suite}"

    @property
    def host(self) -> str:
        return self.uri.partition("://")[2].partition("/")[0].partition(":")[0]

    @property
    def release_uri(self) -> str:
        """Where the signed list of indexes is."""
        folder = self.suite.strip("/") + "/" if self.suite.endswith("/") else f"dists/{self.suite}/"
        return f"{self.uri.rstrip('/')}/{folder.lstrip('/')}InRelease"

    @property
    def index_file(self) -> str:
        """The name of its index in /var/lib/apt/lists."""
        return self.release_uri.partition("://")[2].removesuffix("InRelease").replace("_", "%5f").replace("/", "_") + "Packages"


def parse(text: str, path: str) -> list[Source]:
    """The `deb` lines of one file. Raises SourcesError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        if not words:
            continue
        kind, _, rest = words.partition(" ")
        if not rest.strip():
            raise SourcesError(f"Malformed line {number} in source list {path} (type)")
        if kind not in ("deb", "deb-src"):
            raise SourcesError(f"Type '{kind}' is not known on line {number} in source list {path}")
        source = _entry(rest.strip(), f"Malformed entry {number} in list file {path}")
        if kind == "deb":
            found.append(source)
    return found


def _entry(rest: str, malformed: str) -> Source:
    options: dict[str, str] = {}
    if rest.startswith("["):
        inside, closed, rest = rest[1:].partition("]")
        for word in inside.split():
            name, separator, value = word.partition("=")
            if not separator or not closed:
                raise SourcesError(f"{malformed} ([option] not assignment)")
            options[name.lower()] = value
    try:
        words = shlex.split(rest)
    except ValueError:
        raise SourcesError(f"{malformed} (URI parse)") from None
    if not words:
        raise SourcesError(f"{malformed} (URI)")
    if len(words) == 1:
        raise SourcesError(f"{malformed} (Suite)")
    uri, suite, *components = words
    if suite.endswith("/") and components:
        raise SourcesError(f"{malformed} (absolute Suite Component)")
    if not suite.endswith("/") and not components:
        raise SourcesError(f"{malformed} (Component)")
    return Source(uri, suite, tuple(components), options.get("signed-by", ""), options.get("trusted", "") == "yes")
