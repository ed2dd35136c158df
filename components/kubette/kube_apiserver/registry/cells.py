"""Pure: the words printers are made of: columns, and the formatting that several kinds share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kubette.apimachinery import timestamps

Object = dict[str, Any]


class Column(NamedTuple):
    """One column of a Table; priority 1 is shown in wide output only."""

    name: str
    type: str = "string"
    priority: int = 0
    description: str = ""


Printer = tuple[tuple[Column, ...], Callable[[Object, float], list[Any]]]


def column(name: str, type: str = "string") -> Column:
    return Column(name, type)


def columns(*names: str) -> tuple[Column, ...]:
    """Several columns; `Desired#` is an integer, `Attached?` a boolean, `IP*` wide."""
    out = []
    for name in names:
        priority = 1 if name.endswith("*") else 0
        name = name.removesuffix("*")
        form = "integer" if name.endswith("#") else "boolean" if name.endswith("?") else "string"
        out.append(Column(name.rstrip("#?"), form, priority))
    return tuple(out)


def name(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")


def age(obj: Object, now: float) -> str:
    return timestamps.age((obj.get("metadata") or {}).get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    return timestamps.age(timestamp, now)


def spec(obj: Object) -> dict[str, Any]:
    return obj.get("spec") or {}


def status(obj: Object) -> dict[str, Any]:
    return obj.get("status") or {}


def labels(found: Mapping[str, str] | None) -> str:
    """`a=b,c=d`, sorted."""
    return ",".join(f"{key}={found[key]}" for key in sorted(found)) if found else "<none>"


def containers(template: Mapping[str, Any]) -> list[str]:
    """The two cells Containers and Images of a pod template."""
    found = (template.get("spec") or {}).get("containers") or []
    return [",".join(str(one.get(field) or "") for one in found) for field in ("name", "image")]


def limited(items: Sequence[str], limit: int, count: int | None = None) -> str:
    """The first few, and how many more."""
    total = len(items) if count is None else count
    text = ",".join(items[:limit])
    return f"{text} + {total - limit} more..." if len(items) > limit else text


def boolean(value: Any) -> str:
    """A *bool that may be unset, as text."""
    return "<unset>" if value is None else "True" if value else "False"
