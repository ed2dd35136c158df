"""Pure: which form of an answer the client asked for (apiserver's negotiation package).

We encode JSON (and, for humans, YAML). A client that prefers Protobuf lists JSON too, as every released client does, and gets JSON; one that
lists nothing we can encode gets 406. `as=Table` and `as=PartialObjectMetadata(List)` are parameters of the media type.
"""

from dataclasses import dataclass

from kubette.apimachinery import status

JSON = "application/json"
YAML = "application/yaml"
ENCODABLE = (JSON, YAML)
META = "meta.k8s.io"
TRANSFORMS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


@dataclass(frozen=True, slots=True)
class Form:
    """`transform` is empty for the object as it is; `version` is the version of meta.k8s.io for the others."""

    media_type: str = JSON
    transform: str = ""
    version: str = "v1"
    stream: bool = False

    @property
    def content_type(self) -> str:
        return self.media_type


PLAIN = Form()


def negotiate(accept: str, transforms: bool = True) -> Form:
    """The first acceptable form in the client's order of preference. Raises NotAcceptable."""
    if not accept or accept in ("*/*", JSON):
        return PLAIN
    clauses = []
    for position, clause in enumerate(accept.split(",")):
        media, *parameters = (part.strip() for part in clause.split(";"))
        values = dict(p.split("=", 1) for p in parameters if "=" in p)
        try:
            quality = float(values.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            clauses.append((-quality, position, media.lower(), values))
    for _, _, media, values in sorted(clauses, key=lambda c: (c[0], c[1])):
        form = _form(media, values, transforms)
        if form is not None:
            return form
    raise status.not_acceptable(ENCODABLE)


def _form(media: str, values: dict[str, str], transforms: bool) -> Form | None:
    if media in ("*/*", "application/*"):
        media = JSON
    if media not in ENCODABLE:
        return None
    wanted = values.get("as", "")
    if not wanted:
        return Form(media, stream=values.get("stream") == "watch")
    if not transforms or wanted not in TRANSFORMS or values.get("g") != META or values.get("v") not in ("v1", "v1beta1"):
        return None
    return Form(media, wanted, values["v"])
