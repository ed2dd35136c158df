"""Pure: small questions to objects and texts that several conditions ask."""

import difflib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kubette.cli.doctor.facts import Object

_ERR = re.compile(r'\berr="((?:[^"\\]|\\.)*)"')
_KLOG = re.compile(r'^[IWEF]\d{4} \S+ +\d+ \S+\] "?')


def name(obj: Object) -> str:
    """`namespace/name`, or the name alone."""
    metadata = obj.get("metadata") or {}
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata.get("name", ""))


def in_namespace(obj: Object) -> str:
    """` -n NAMESPACE`, as it is typed; nothing for `default`."""
    namespace = (obj.get("metadata") or {}).get("namespace", "")
    return f" -n {namespace}" if namespace not in ("", "default") else ""


def condition(obj: Object, kind: str) -> Object:
    """A condition of its status; empty when it has none of that type."""
    return next((c for c in (obj.get("status") or {}).get("conditions") or [] if c.get("type") == kind), {})


def moment(text: Any) -> float:
    """RFC 3339 to Unix time; 0 when there is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def age_s(obj: Object, now: float) -> float:
    return now - moment((obj.get("metadata") or {}).get("creationTimestamp"))


def near(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean "nginx"?` when something known is close, else nothing."""
    close = difflib.get_close_matches(wrong, sorted(set(known)), 1, 0.75)
    return f'; did you mean "{close[0]}"?' if close else ""


def matches(labels: dict[str, str] | None, selector: dict[str, str]) -> bool:
    """A Service's selector: equality of each."""
    return all((labels or {}).get(key) == value for key, value in selector.items())


def last_error(lines: Iterable[str]) -> str:
    """The last line that tells of a failure: of a klog line its `err`, unquoted, where it has one."""
    told = ""
    for line in lines:
        if re.match(r"^[EF]\d{4} ", line) or re.match(r"(?i)(error|fatal|panic)\b", line) or '"level":"fatal"' in line or '"level":"error"' in line:
            told = line
    quoted = _ERR.search(told)
    if quoted and told[0] in "EF":
        return quoted[1].replace('\\"', '"')
    return _KLOG.sub("", told).removeprefix("Error: ").strip()
