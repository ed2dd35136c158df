"""Pure: Debian control data (deb822): stanzas of `Field: value` lines; Packages indexes and dpkg's status file are made of them."""

from collections.abc import Iterable

Stanza = dict[str, str]


def parse(text: str) -> list[Stanza]:
    """The stanzas of a file. Continuation lines keep their leading space; lines that are no field are left out, as apt does."""
    stanzas: list[Stanza] = []
    current: Stanza = {}
    field = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if current:
                stanzas.append(current)
            current, field = {}, ""
        elif line[0] in " \t" and field:
            current[field] += "\n" + line
        elif ":" in line and not line.startswith("#"):
            field, _, value = line.partition(":")
            current[field] = value.strip()
    return stanzas


def render(stanzas: Iterable[Stanza]) -> str:
    """The inverse of `parse`: an empty line after every stanza."""
    return "".join("".join(f"{field}: {value}\n" for field, value in stanza.items()) + "\n" for stanza in stanzas)
