"""Pure: /openapi/v3 and /openapi/v2, made from upstream's own definitions and the table of kinds.

kubectl reads them for `explain`, and to learn whether the server validates fields. Documents are built when first asked for, one group-version
at a time, from the definitions file: keeping that in memory would cost more than the whole rest of the server's schemas.
"""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubette.api.kinds import Kind, KindTable, Subresource
from kubette.apimachinery import schema
from kubette.kube_apiserver import openapi_protobuf

Object = dict[str, Any]

_DEFS = "#/$defs/"
V3_SCHEMAS = "#/components/schemas/"
V2_SCHEMAS = "#/definitions/"

# Part of the hash in the index: to be raised when the way documents are made changes.
_FORMAT = "1"

_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_WATCH_EVENT = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"

_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_MEDIA_TYPES = ("application/json", "application/yaml")

# name → (type, description)
_PARAMETERS: dict[str, tuple[str, str]] = {
    "allowWatchBookmarks": ("boolean", "allowWatchBookmarks requests watch events with type BOOKMARK."),
    "continue": ("string", "The continue token of the previous page of a list."),
    "dryRun": ("string", "When present, indicates that modifications should not be persisted. Valid values are: - All."),
    "fieldManager": ("string", "fieldManager is a name associated with the actor or entity that is making these changes."),
    "fieldSelector": ("string", "A selector to restrict the list of returned objects by their fields. Defaults to everything."),
    "fieldValidation": ("string", "What the server does with unknown or duplicate fields: Ignore, Warn or Strict."),
    "force": ("boolean", 'Force is going to "force" Apply requests: to acquire conflicting fields owned by other people.'),
    "gracePeriodSeconds": ("integer", "The duration in seconds before the object should be deleted."),
    "labelSelector": ("string", "A selector to restrict the list of returned objects by their labels. Defaults to everything."),
    "limit": ("integer", "limit is a maximum number of responses to return for a list call."),
    "orphanDependents": ("boolean", "Deprecated: please use the PropagationPolicy."),
    "pretty": ("string", "If 'true', then the output is pretty printed."),
    "propagationPolicy": ("string", "Whether and how garbage collection will be performed: Orphan, Background or Foreground."),
    "resourceVersion": ("string", "resourceVersion sets a constraint on what resource versions a request may be served from."),
    "resourceVersionMatch": ("string", "resourceVersionMatch determines how resourceVersion is applied to list calls."),
    "sendInitialEvents": ("boolean", "Begin the watch with synthetic events of the current state, ended by a bookmark."),
    "timeoutSeconds": ("integer", "Timeout for the list/watch call."),
    "watch": ("boolean", "Watch for changes to the described resources and return them as a stream."),
}
_LIST_PARAMETERS = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
_DELETE_PARAMETERS = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")


@dataclass(frozen=True, slots=True)
class Document:
    """An encoded answer, also compressed, with a quoted ETag."""

    body: bytes
    gzipped: bytes
    etag: str
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    path: str
    method: str
    action: str
    kind: Kind
    subresource: Subresource | None = None
    namespaced: bool = False
    named: bool = False


class OpenAPI:
    """The documents of one release. `load` reads the definitions."""

    def __init__(self, kinds: KindTable, release: str, load: Callable[[str], Object] = schema.load_definitions) -> None:
        self._kinds = kinds
        self._release = release
        self._load = load
        self._documents: dict[str, Document] = {}

    def group_versions(self) -> list[str]:
        """`api/v1`, `apis/apps/v1`, …: the keys of the index."""
        return [_root(group, version)[1:] for group in self._kinds.groups() for version in self._kinds.versions(group)]

    def content_hash(self, group_version: str) -> str:
        """Of a document that need not have been built: release and generator decide what is in it."""
        return hashlib.sha512(f"{_FORMAT} {self._release} {group_version}".encode()).hexdigest().upper()

    def index(self) -> Document:
        """/openapi/v3."""
        paths = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self.content_hash(path)}"} for path in self.group_versions()}
        return self._document("", lambda: {"paths": paths})

    def v3(self, group_version: str) -> Document | None:
        """/openapi/v3/<group_version>; None if not served."""
        if group_version not in self.group_versions():
            return None
        return self._document(group_version, lambda: self._build_v3(group_version))

    def v2(self, accept: str = "") -> Document:
        """/openapi/v2: everything in one document; as protocol buffers for a client that asks for them (kubectl does, and reads nothing else)."""
        if openapi_protobuf.MEDIA_TYPE in accept:
            return self._document("v2 protobuf", self._build_v2, openapi_protobuf.document, openapi_protobuf.ANSWERED_TYPE)
        return self._document("v2", self._build_v2)

    def _document(
        self, name: str, build: Callable[[], Object], encode: Callable[[Object], bytes] = orjson.dumps, content_type: str = "application/json"
    ) -> Document:
        found = self._documents.get(name)
        if found is None:
            body = encode(build())
            found = Document(body, gzip.compress(body, 5, mtime=0), f'"{hashlib.sha512(body).hexdigest().upper()}"', content_type)
            self._documents[name] = found
        return found

    def _info(self) -> Object:
        return {"title": "Kubernetes", "version": self._release}

    def _build_v3(self, group_version: str) -> Object:
        definitions = self._load(self._release)
        group, version = _parse_root(group_version)
        paths: Object = {}
        used: set[str] = set()
        names = _names(definitions)
        for operation in self._operations(group, version):
            entry = paths.setdefault(operation.path, {"parameters": _path_parameters(operation, v3=True)})
            entry[operation.method] = _v3_operation(operation, names, used)
        schemas = {name: _rewrite(definitions[name], V3_SCHEMAS, name) for name in sorted(_closure(used, definitions))}
        security = {"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}}
        return {
            "openapi": "3.0.0",
            "info": self._info(),
            "paths": paths,
            "components": {"schemas": schemas, "securitySchemes": security},
        }

    def _build_v2(self) -> Object:
        definitions = self._load(self._release)
        paths: Object = {}
        used: set[str] = set()
        names = _names(definitions)
        for group in self._kinds.groups():
            for version in self._kinds.versions(group):
                for operation in self._operations(group, version):
                    entry = paths.setdefault(operation.path, {"parameters": _path_parameters(operation, v3=False)})
                    entry[operation.method] = _v2_operation(operation, names, used)
        schemas = {name: _rewrite(definitions[name], V2_SCHEMAS, name) for name in sorted(_closure(used, definitions))}
        return {"swagger": "2.0", "info": self._info(), "paths": paths, "definitions": schemas}

    def _operations(self, group: str, version: str) -> Iterator[Operation]:
        root = _root(group, version)
        for kind in self._kinds.of_group_version(group, version):
            collection = f"{root}/namespaces/{{namespace}}/{kind.resource}" if kind.namespaced else f"{root}/{kind.resource}"
            yield from _collection_operations(collection, kind)
            yield from _object_operations(f"{collection}/{{name}}", kind)
            for subresource in self._kinds.subresources(kind):
                yield from _subresource_operations(f"{collection}/{{name}}/{subresource.name}", kind, subresource)
            if kind.namespaced and "list" in kind.verbs:
                yield Operation(f"{root}/{kind.resource}", "get", "list", kind)


def _collection_operations(path: str, kind: Kind) -> Iterator[Operation]:
    for verb, method, action in (("list", "get", "list"), ("create", "post", "post"), ("deletecollection", "delete", "deletecollection")):
        if verb in kind.verbs:
            yield Operation(path, method, action, kind, namespaced=kind.namespaced)


def _object_operations(path: str, kind: Kind) -> Iterator[Operation]:
    for verb, method in (("get", "get"), ("update", "put"), ("delete", "delete"), ("patch", "patch")):
        if verb in kind.verbs:
            yield Operation(path, method, method, kind, namespaced=kind.namespaced, named=True)


def _subresource_operations(path: str, kind: Kind, subresource: Subresource) -> Iterator[Operation]:
    connects = subresource.kind.endswith("Options")
    for verb, method in (("get", "get"), ("update", "put"), ("patch", "patch"), ("create", "post"), ("delete", "delete")):
        if verb in subresource.verbs:
            yield Operation(path, method, "connect" if connects else method, kind, subresource, kind.namespaced, named=True)


def _root(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _parse_root(path: str) -> tuple[str, str]:
    parts = path.split("/")
    return ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])


Names = dict[tuple[str, str, str], str]


def _names(definitions: Object) -> Names:
    """group, version, kind → definition name."""
    out: Names = {}
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind") or ():
            out.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return out


def _gvk(operation: Operation) -> Object:
    kind, subresource = operation.kind, operation.subresource
    if subresource is not None and subresource.version:
        return {"group": subresource.group, "version": subresource.version, "kind": subresource.kind}
    return {"group": kind.group, "version": kind.version, "kind": subresource.kind if subresource is not None and subresource.kind else kind.kind}


def _operation_id(operation: Operation) -> str:
    kind, action = operation.kind, operation.action
    group = "".join(part.capitalize() for part in (kind.group or "core").removesuffix(".k8s.io").split("."))
    verb = {"get": "read", "post": "create", "put": "replace", "deletecollection": "deleteCollection"}.get(action, action)
    if action == "connect":
        verb = "connect" + operation.method.capitalize()
    scope = "Namespaced" if operation.namespaced else ""
    rest = "".join(part.capitalize() for part in operation.subresource.name.split()) if operation.subresource else ""
    everywhere = "ForAllNamespaces" if kind.namespaced and not operation.namespaced else ""
    return f"{verb}{group}{kind.version.capitalize()}{scope}{kind.kind}{rest}{everywhere}"


def _head(operation: Operation) -> Object:
    tag = (operation.kind.group or "core").removesuffix(".k8s.io").replace(".", "") + "_" + operation.kind.version
    article = {"get": "read the specified", "list": "list or watch objects of kind", "post": "create a", "put": "replace the specified"}
    article |= {"patch": "partially update the specified", "delete": "delete a", "deletecollection": "delete collection of", "connect": "connect to"}
    noun = f"{operation.subresource.name} of the specified {operation.kind.kind}" if operation.subresource else operation.kind.kind
    return {"tags": [tag], "description": f"{article[operation.action]} {noun}", "operationId": _operation_id(operation)}


def _query_parameters(operation: Operation) -> tuple[str, ...]:
    match operation.action:
        case "list":
            return _LIST_PARAMETERS
        case "post" | "put":
            return _WRITE_PARAMETERS
        case "patch":
            return (*_WRITE_PARAMETERS, "force")
        case "delete":
            return _DELETE_PARAMETERS
        case "deletecollection":
            return tuple(sorted({*_DELETE_PARAMETERS, *_LIST_PARAMETERS} - {"watch", "allowWatchBookmarks"}))
    return ()


def _path_parameters(operation: Operation, *, v3: bool) -> list[Object]:
    out: list[Object] = []
    if operation.named:
        out.append({"name": "name", "in": "path", "description": f"name of the {operation.kind.kind}", "required": True})
    if operation.namespaced:
        out.append({"name": "namespace", "in": "path", "description": "object name and auth scope, such as for teams and projects", "required": True})
    out.append({"name": "pretty", "in": "query", "description": _PARAMETERS["pretty"][1]})
    for parameter in out:
        parameter.update({"schema": {"type": "string", "uniqueItems": True}} if v3 else {"type": "string", "uniqueItems": True})
    return out


def _parameters(operation: Operation, *, v3: bool) -> list[Object]:
    out: list[Object] = []
    for name in _query_parameters(operation):
        form, description = _PARAMETERS[name]
        typed: Object = {"type": form, "uniqueItems": True}
        out.append({"name": name, "in": "query", "description": description, **({"schema": typed} if v3 else typed)})
    return out


def _answer_name(operation: Operation, names: Names) -> str:
    gvk = _gvk(operation)
    if operation.action == "deletecollection" or (operation.action == "delete" and operation.kind.kind != "Pod"):
        return _STATUS
    suffix = "List" if operation.action == "list" else ""
    return names.get((gvk["group"], gvk["version"], gvk["kind"] + suffix), "")


def _body_name(operation: Operation, names: Names) -> str:
    match operation.action:
        case "post" | "put":
            gvk = _gvk(operation)
            return names.get((gvk["group"], gvk["version"], gvk["kind"]), "")
        case "patch":
            return _PATCH
        case "delete" | "deletecollection":
            return _DELETE_OPTIONS
    return ""


def _codes(operation: Operation) -> tuple[str, ...]:
    return {"post": ("200", "201", "202"), "put": ("200", "201"), "patch": ("200", "201"), "delete": ("200", "202")}.get(operation.action, ("200",))


_REASONS = {"200": "OK", "201": "Created", "202": "Accepted", "401": "Unauthorized"}


def _v3_operation(operation: Operation, names: Names, used: set[str]) -> Object:
    out = _head(operation)
    parameters = _parameters(operation, v3=True)
    if parameters:
        out["parameters"] = parameters
    body, answer = _body_name(operation, names), _answer_name(operation, names)
    used.update(name for name in (body, answer) if name)
    if body:
        types = _PATCH_TYPES if operation.action == "patch" else ("*/*",)
        content = {media_type: {"schema": {"$ref": V3_SCHEMAS + body}} for media_type in types}
        out["requestBody"] = {"content": content, **({} if operation.action.startswith("delete") else {"required": True})}
    answer_schema: Object = {"$ref": V3_SCHEMAS + answer} if answer else {"type": "string"}
    responses: Object = {}
    for code in _codes(operation):
        responses[code] = {"description": _REASONS[code], "content": {media_type: {"schema": answer_schema} for media_type in _MEDIA_TYPES}}
    responses["401"] = {"description": _REASONS["401"]}
    out["responses"] = responses
    out["x-kubernetes-action"] = operation.action
    out["x-kubernetes-group-version-kind"] = _gvk(operation)
    return out


def _v2_operation(operation: Operation, names: Names, used: set[str]) -> Object:
    out = _head(operation)
    body, answer = _body_name(operation, names), _answer_name(operation, names)
    used.update(name for name in (body, answer) if name)
    parameters = _parameters(operation, v3=False)
    if body:
        required = not operation.action.startswith("delete")
        parameters.insert(0, {"name": "body", "in": "body", "required": required, "schema": {"$ref": V2_SCHEMAS + body}})
    out["consumes"] = list(_PATCH_TYPES) if operation.action == "patch" else ["*/*"]
    out["produces"] = list(_MEDIA_TYPES)
    out["schemes"] = ["https"]
    if parameters:
        out["parameters"] = parameters
    answer_schema: Object = {"$ref": V2_SCHEMAS + answer} if answer else {"type": "string"}
    out["responses"] = {code: {"description": _REASONS[code], "schema": answer_schema} for code in _codes(operation)} | {
        "401": {"description": _REASONS["401"]}
    }
    out["x-kubernetes-action"] = operation.action
    out["x-kubernetes-group-version-kind"] = _gvk(operation)
    return out


def _closure(used: set[str], definitions: Object) -> set[str]:
    """The definitions named, and what they name in turn."""
    seen: set[str] = set()
    pending = [*used, _WATCH_EVENT]
    while pending:
        name = pending.pop()
        if name in seen or name not in definitions:
            continue
        seen.add(name)
        pending.extend(_references(definitions[name]))
    return seen


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item.removeprefix(_DEFS)
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

# OpenAPI 2 has no oneOf, so the two versions say it differently.
_SPECIAL: dict[str, dict[str, Object]] = {
    V3_SCHEMAS: {
        _QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
        _INT_OR_STRING: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    },
    V2_SCHEMAS: {_QUANTITY: {"type": "string"}, _INT_OR_STRING: {"type": "string", "format": "int-or-string"}},
}


def _rewrite(raw: Any, prefix: str, name: str = "") -> Any:
    """A definition of the package in upstream's form: plain types instead of `[type, null]`, references of this document."""
    special = _SPECIAL[prefix].get(name)
    if special is not None:
        return {**special, "description": raw.get("description", "")} if raw.get("description") else special
    out: Object = {}
    for key, value in raw.items():
        match key:
            case "type":
                out["type"] = next((one for one in value if one != "null"), "object") if isinstance(value, list) else value
            case "$ref":
                out["$ref"] = prefix + value.removeprefix(_DEFS)
            case "properties":
                out["properties"] = {field: _rewrite(one, prefix) for field, one in value.items()}
            case "items" | "additionalProperties" | "not" if isinstance(value, dict):
                out[key] = _rewrite(value, prefix)
            case "oneOf" | "anyOf" | "allOf":
                out[key] = [_rewrite(one, prefix) for one in value]
            case "enum" if None in value:
                out["enum"] = [one for one in value if one is not None]
            case _:
                out[key] = value
    if name and "x-kubernetes-group-version-kind" in raw:
        for field in ("apiVersion", "kind"):  # the package narrows these two to the one value; upstream does not
            out.get("properties", {}).get(field, {}).pop("enum", None)
    if "$ref" in out and len(out) > 1 and prefix == V3_SCHEMAS:
        # OpenAPI 3.0 ignores what stands beside a $ref.
        out = {**{key: value for key, value in out.items() if key != "$ref"}, "allOf": [{"$ref": out["$ref"]}]}
    return out
