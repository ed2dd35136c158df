"""Pure: what `kubectl get` prints (upstream's `pkg/printers/internalversion`): columns and rows of every kind."""

from typing import Any

from kubette.api.kinds import Kind
from kubette.apimachinery import timestamps

Object = dict[str, Any]


def columns(kind: Kind) -> list[dict[str, Any]]:
    return [
        {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
        {"name": "Age", "type": "string", "format": "", "description": "", "priority": 0},
    ]


def row(kind: Kind, obj: Object, now: float) -> dict[str, Any]:
    metadata = obj.get("metadata") or {}
    return {"cells": [metadata.get("name"), timestamps.age(metadata.get("creationTimestamp"), now)]}
