"""Pure: one file of a volume, as it shall be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """The content and mode of one projected file."""

    content: bytes
    mode: int = 0o644
