"""Pure: the record of one request at one stage, as audit.k8s.io/v1 Event and as the legacy line (upstream: audit/request.go, audit/format.go)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kubette.apimachinery import timestamps
from kubette.kube_apiserver.audit.policy import API_VERSION, Level
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo

Object = dict[str, Any]

USER_AGENT_MAX = 1024
TRUNCATED = "...TRUNCATED"
_STATUS_FIELDS = ("status", "message", "reason", "details", "code")


def source_ips(headers: Mapping[str, str], remote: str) -> list[str]:
    """Where a request came from, by its proxies' own account, the connection's last. All but the last can be made up by the client."""
    found = [part.strip() for part in headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    real = headers.get("X-Real-Ip", "").strip()
    if real and real not in found:
        found.append(real)
    if remote and (not found or found[-1] != remote):
        found.append(remote)
    return found


def user_agent(text: str) -> str:
    return text if len(text) <= USER_AGENT_MAX else text[:USER_AGENT_MAX] + TRUNCATED


def user_of(user: UserInfo) -> Object:
    """authentication.k8s.io's UserInfo; who is not known has none of its fields."""
    found: Object = {}
    if user.name:
        found["username"] = user.name
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


def object_reference(attrs: AuthzAttributes) -> Object:
    pairs = (
        ("resource", attrs.resource),
        ("namespace", attrs.namespace),
        ("name", attrs.name),
        ("apiGroup", attrs.group),
        ("apiVersion", attrs.version),
        ("subresource", attrs.subresource),
    )
    return {key: value for key, value in pairs if value}


def complete_reference(reference: Object, sent: Object) -> None:
    """What the path did not say the object that was sent does: its name, mostly."""
    metadata = sent.get("metadata")
    if not isinstance(metadata, dict):
        return
    for key in ("namespace", "name", "uid", "resourceVersion"):
        if not reference.get(key) and isinstance(metadata.get(key), str) and metadata[key]:
            reference[key] = metadata[key]


def response_status(code: int, body: bytes) -> Object:
    """The code, and of a Status its fields that have a limit."""
    found: Object = {"metadata": {}}
    if (code >= 400 or b'"Status"' in body[:256]) and body[:1] == b"{":
        try:
            answered = orjson.loads(body)
        except orjson.JSONDecodeError:
            answered = {}
        if answered.get("kind") == "Status":
            found |= {key: answered[key] for key in _STATUS_FIELDS if answered.get(key)}
    found["code"] = code
    return found


def without_managed_fields(obj: Any) -> Any:
    """An object, the items of a list and the rows of a Table, less who owns which field."""
    if not isinstance(obj, dict):
        return obj
    found = dict(obj)
    metadata = found.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        found["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
    if isinstance(found.get("items"), list):
        found["items"] = [without_managed_fields(item) for item in found["items"]]
    if found.get("kind") == "Table" and isinstance(found.get("rows"), list):
        found["rows"] = [{**row, "object": without_managed_fields(row.get("object"))} for row in found["rows"]]
    return found


def as_json(body: bytes, omit_managed_fields: bool) -> Any:
    """A body for `requestObject` or `responseObject`: as it is, where it is JSON. None for what cannot be shown."""
    if not omit_managed_fields:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return orjson.Fragment(body)
    try:
        return without_managed_fields(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None


def head(level: Level, audit_id: str, uri: str, attrs: AuthzAttributes, received: float) -> Object:
    """What every stage of a request has; the stage and its time are filled in when it is written."""
    found: Object = {
        "kind": "Event",
        "apiVersion": API_VERSION,
        "level": level.text,
        "auditID": audit_id,
        "stage": "",
        "requestURI": uri,
        "verb": attrs.verb,
        "user": user_of(attrs.user),
        "requestReceivedTimestamp": timestamps.format_micro_time(received),
        "stageTimestamp": "",
    }
    if attrs.is_resource:
        found["objectRef"] = object_reference(attrs)
    return found


_ORDER = (
    *("kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user", "impersonatedUser", "sourceIPs", "userAgent", "objectRef"),
    *("responseStatus", "requestObject", "responseObject", "requestReceivedTimestamp", "stageTimestamp", "annotations"),
)


def json_line(event: Mapping[str, Any]) -> bytes:
    """One line, its fields in upstream's order."""
    return orjson.dumps({key: event[key] for key in _ORDER if key in event}, option=orjson.OPT_APPEND_NEWLINE)


def legacy_line(event: Mapping[str, Any]) -> bytes:
    """The line of --audit-log-format=legacy."""
    user, impersonated = event["user"], event.get("impersonatedUser")
    groups = user.get("groups") if user.get("username") else None
    as_groups = (impersonated or {}).get("groups")
    status = event.get("responseStatus")
    pairs = (
        ("id", event["auditID"]),
        ("stage", event["stage"]),
        ("ip", next(iter(event.get("sourceIPs") or ()), "<unknown>")),
        ("method", event["verb"]),
        ("user", user.get("username") or "<none>"),
        ("groups", _strings(groups) if groups else "<none>"),
        ("as", impersonated.get("username", "") if impersonated else "<self>"),
        ("asgroups", _strings(as_groups) if as_groups else "<lookup>"),
        ("user-agent", event.get("userAgent", "")),
        ("namespace", (event.get("objectRef") or {}).get("namespace") or "<none>"),
        ("uri", event["requestURI"]),
        ("response", str(status["code"]) if status else "<deferred>"),
    )
    shown = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in pairs)
    return f"{event['requestReceivedTimestamp']} AUDIT: {shown}\n".encode()


def _strings(values: Sequence[str]) -> str:
    return ",".join(json.dumps(value, ensure_ascii=False) for value in values)
