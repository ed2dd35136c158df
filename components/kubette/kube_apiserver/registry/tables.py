"""Pure: what `kubectl get` prints (upstream's `pkg/printers/internalversion`): columns and rows of every kind.

A printer is a tuple of columns and a function that gives an object's cells. Columns marked wide are shown by `-o wide` only; the server always
sends them. Kinds without a printer get upstream's default table: name and time of creation.
"""

from typing import Any

from kubette.api.kinds import Kind
from kubette.kube_apiserver.registry import printers_access, printers_core, printers_workloads
from kubette.kube_apiserver.registry.cells import Column, Object, Printer, column

_DEFAULT: Printer = (
    (column("Name"), column("Created At", "date")),
    lambda obj, now: [(obj.get("metadata") or {}).get("name"), (obj.get("metadata") or {}).get("creationTimestamp")],
)

_PRINTERS: dict[tuple[str, str], Printer] = {**printers_core.PRINTERS, **printers_workloads.PRINTERS, **printers_access.PRINTERS}

_SUCCEEDED = [{"type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully."}]
_FAILED = [{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}]


def _printer(kind: Kind) -> Printer:
    group = "" if kind.resource == "events" else kind.group
    return _PRINTERS.get((group, kind.resource), _DEFAULT)


def columns(kind: Kind) -> list[dict[str, Any]]:
    """`columnDefinitions`."""
    return [_definition(one) for one in _printer(kind)[0]]


def _definition(one: Column) -> dict[str, Any]:
    name_format = "name" if one.name == "Name" else ""
    return {"name": one.name, "type": one.type, "format": name_format, "description": one.description, "priority": one.priority}


def row(kind: Kind, obj: Object, now: float) -> dict[str, Any]:
    """One row without its object, which the caller adds in the form the client asked for."""
    out: dict[str, Any] = {"cells": _printer(kind)[1](obj, now)}
    if kind.resource == "pods" and not kind.group:
        phase = (obj.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            out["conditions"] = _SUCCEEDED if phase == "Succeeded" else _FAILED
    return out
