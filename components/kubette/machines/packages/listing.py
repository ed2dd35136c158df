"""Pure: what `apt list`, `apt-cache madison`, `policy` and `show` print."""

import fnmatch
from collections.abc import Sequence

from kubette.machines.packages import control_file, dpkg_status
from kubette.machines.packages.catalog import STATUS_FILE, Catalog, Offer
from kubette.machines.packages.sources import Source

_PRIORITY, _STATUS_PRIORITY = 500, 100
_SHOWN = ("Package", "Version", "Priority", "Section", "Maintainer", "Depends", "Homepage")


def madison(catalog: Catalog, names: Sequence[str]) -> list[str]:
    rows = []
    for name in names:
        for offer in catalog.offers(name):
            rows += [f"{name:>10} | {offer.version:>10} | {_packages(source)}" for source in offer.sources]
    return rows


def _packages(source: Source) -> str:
    return f"{source.name} Packages"


def policy(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """Of packages; without names, of the sources themselves."""
    if not names:
        lines = ["Package files:", f" {_STATUS_PRIORITY} {STATUS_FILE}", "     release a=now"]
        for source, _ in catalog.indexes:
            lines += [f" {_PRIORITY} {_packages(source)}", f"     origin {source.host}"]
        return [*lines, "Pinned packages:"]
    lines = []
    for name in names:
        if not catalog.offers(name):
            continue
        installed = catalog.installed_version(name)
        lines += [f"{name}:", f"  Installed: {installed or '(none)'}", f"  Candidate: {catalog.candidate(name).version}", "  Version table:"]
        for offer in catalog.offers(name):
            mark = "***" if offer.version == installed else "   "
            lines.append(f" {mark} {offer.version} {_PRIORITY if offer.sources else _STATUS_PRIORITY}")
            lines += [f"        {_PRIORITY} {_packages(source)}" for source in offer.sources]
            if offer.version == installed:
                lines.append(f"        {_STATUS_PRIORITY} {STATUS_FILE}")
    return lines


def packages(catalog: Catalog, patterns: Sequence[str], installed: bool, upgradable: bool, all_versions: bool) -> list[str]:
    """`apt list`."""
    lines = []
    for name in catalog.names:
        if patterns and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        if (installed and name not in catalog.installed) or (upgradable and name not in catalog.upgradable()):
            continue
        if all_versions:
            lines += [*(_row(catalog, name, offer) for offer in catalog.offers(name)), ""]
        else:
            shown = catalog.candidate(name)
            if installed:
                shown = next(offer for offer in catalog.offers(name) if offer.version == catalog.installed_version(name))
            lines.append(_row(catalog, name, shown))
    return lines


def _row(catalog: Catalog, name: str, offer: Offer) -> str:
    installed, candidate = catalog.installed_version(name), catalog.candidate(name).version
    where = [*(["unknown"] if offer.sources else []), *(["now"] if offer.version == installed else [])]
    state = ""
    if offer.version == installed:
        state = f" [installed,upgradable to: {candidate}]" if candidate != installed else " [installed]" if offer.sources else " [installed,local]"
    elif installed and offer.version == candidate:
        state = f" [upgradable from: {installed}]"
    return f"{name}/{','.join(where)} {offer.version} {offer.stanza['Architecture']}{state}"


def records(catalog: Catalog, names: Sequence[str]) -> str:
    """`apt-cache show`: the stanzas of all versions as the index has them."""
    offers = [offer for name in names for offer in catalog.offers(name)]
    return control_file.render({field: value for field, value in offer.stanza.items() if field != "Status"} for offer in offers)


def show(catalog: Catalog, names: Sequence[str]) -> str:
    """`apt show`: the candidate, for people."""
    return control_file.render(_shown(catalog, name) for name in names if catalog.offers(name))


def _shown(catalog: Catalog, name: str) -> control_file.Stanza:
    offer = catalog.candidate(name)
    fields = {field: offer.stanza[field] for field in _SHOWN if field in offer.stanza}
    if name in catalog.installed:
        fields["APT-Manual-Installed"] = "yes"
    fields["APT-Sources"] = _packages(offer.sources[0]) if offer.sources else STATUS_FILE
    return {**fields, "Description": offer.stanza["Description"]}


def held(catalog: Catalog) -> list[str]:
    return [name for name, stanza in sorted(catalog.installed.items()) if dpkg_status.is_held(stanza)]
