"""The images that are on this machine: the catalogue's entries that were pulled, remembered over restarts in one file.

Counterpart of containerd's image store. Pulling costs nothing and still matters: an image is there after its pull and gone after its
removal, `imagePullPolicy: Never` fails without it, and an unknown reference fails in containerd's words.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kubette.cri import api_pb2
from kubette.runtime import image_catalogue, image_reference
from kubette.runtime.errors import CriError
from kubette.stdx import files

IMAGES_MAX = 1000  # more than the kubelet's garbage collection ever leaves


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image on the machine: its entry, and the tag it was pulled by."""

    entry: image_catalogue.Image
    repository: str
    tag: str

    @property
    def id(self) -> str:
        return self.entry.id(self.tag)

    @property
    def digest(self) -> str:
        return self.entry.digest(self.tag)

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def name_by_digest(self) -> str:
        return f"{self.repository}@{self.digest}"

    def message(self) -> api_pb2.Image:
        """As CRI shows it."""
        return api_pb2.Image(
            id=self.id,
            repo_tags=[self.name],
            repo_digests=[self.name_by_digest],
            size=self.entry.size,
            uid=api_pb2.Int64Value(value=int(self.entry.user)) if self.entry.user.isdigit() else api_pb2.Int64Value(value=0),
            username="" if self.entry.user.isdigit() else self.entry.user,
            spec=api_pb2.ImageSpec(image=self.name, annotations={image_catalogue.ANNOTATION: "provided by " + self.entry.described}),
            pinned=self.entry.pinned,
        )


class Images:
    """What was pulled. `path` is its file, `catalogue` what can be."""

    def __init__(self, path: Path, catalogue: dict[str, image_catalogue.Image]) -> None:
        self._path = path
        self._catalogue = catalogue
        self._pulled: dict[str, Pulled] = {}
        if path.exists():
            for name in json.loads(path.read_text()):
                repository, _, tag = name.rpartition(":")
                if repository in catalogue:
                    self._pulled[name] = Pulled(catalogue[repository], repository, tag)

    def __iter__(self) -> Iterator[Pulled]:
        yield from list(self._pulled.values())

    def find(self, reference: str) -> Pulled | None:
        """By id (whole, or a prefix of at least 12 digits as crictl shows), name or digest; None when it is not here."""
        bare = reference.removeprefix("sha256:")
        for pulled in self._pulled.values():
            if pulled.id == reference or (len(bare) >= 12 and pulled.id.removeprefix("sha256:").startswith(bare)):
                return pulled
        try:
            parsed = image_reference.parse(reference)
        except image_reference.InvalidReference:
            return None
        for pulled in self._pulled.values():
            if pulled.repository == parsed.repository and (pulled.digest == parsed.digest if parsed.digest else pulled.tag == parsed.tag):
                return pulled
        return None

    def pull(self, text: str) -> Pulled:
        """Fetch an image from the catalogue. Raises CriError in containerd's words when there is none."""
        try:
            reference = image_reference.parse(text)
        except image_reference.InvalidReference as error:
            raise CriError("INVALID_ARGUMENT", f'failed to parse image reference "{text}": {error}') from error
        entry = image_catalogue.find(self._catalogue, reference)
        tag = reference.tag or "latest"
        if entry is None or (reference.digest and entry.digest(tag) != reference.digest):
            name = str(reference)
            raise CriError(
                "NOT_FOUND",
                f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found (the image catalogue does not have it)',
            )
        if len(self._pulled) >= IMAGES_MAX:
            raise CriError("RESOURCE_EXHAUSTED", f"failed to pull image: {IMAGES_MAX} images are on this machine already")
        pulled = Pulled(entry, reference.repository, tag)
        self._pulled[pulled.name] = pulled
        self._save()
        return pulled

    def remove(self, reference: str) -> None:
        """Forget an image; one that is not here is no error."""
        pulled = self.find(reference)
        if pulled is not None:
            # Removal by id takes every name of that image along.
            for name in [n for n, p in self._pulled.items() if p.id == pulled.id]:
                del self._pulled[name]
            self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(self._path, json.dumps(sorted(self._pulled)))
