"""Pure: image references as docker and containerd normalise them (distribution/reference).

`nginx` is `docker.io/library/nginx:latest`; the first component is a registry only if it has a dot or a colon or is `localhost`.
"""

import re
from dataclasses import dataclass

_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_DOMAIN = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?")
DEFAULT_DOMAIN = "docker.io"
OFFICIAL = "library"


class InvalidReference(ValueError):
    """Not a reference; the text is distribution/reference's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`repository` includes the registry; a reference has a tag, a digest, or both."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """The normalised reference. Raises InvalidReference."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReference("invalid reference format")
    head, slash, path = rest.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        head, path = DEFAULT_DOMAIN, rest
    elif head == "index.docker.io":
        head = DEFAULT_DOMAIN
    path, _, tag = path.partition(":")
    if head == DEFAULT_DOMAIN and "/" not in path:
        path = f"{OFFICIAL}/{path}"
    if path != path.lower():
        raise InvalidReference("invalid reference format: repository name must be lowercase")
    if not _DOMAIN.fullmatch(head) or not all(_COMPONENT.fullmatch(part) for part in path.split("/")):
        raise InvalidReference("invalid reference format")
    if ":" in rest.rpartition("/")[2] and not _TAG.fullmatch(tag):
        raise InvalidReference("invalid reference format")
    if not tag and not digest:
        tag = "latest"
    return Reference(f"{head}/{path}", tag, digest)
