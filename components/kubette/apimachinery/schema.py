"""Pure: upstream's OpenAPI definitions of one release, compiled to what the server needs at every request.

The package `kubernetes-validate` ships the definitions (`$defs`, with the `x-kubernetes-*` marks). Descriptions are nine tenths of them
and are needed by `/openapi` only, so they are dropped here: `load_definitions` reads the file again for that.
"""

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from kubette.apimachinery.gvk import GroupVersionKind

_MARK = "x-kubernetes-"
_PREFIX = "#/$defs/"

# Types that are not what their JSON form suggests.
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "micro-time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any-object",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any-object",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "any",
}

# Marks the definitions lack: upstream's typed merge takes a default for an absent key of a list item from the OpenAPI v3 defaults.
_KEY_DEFAULTS: dict[str, dict[str, Any]] = {
    "ContainerPort": {"protocol": "TCP"},
    "ServicePort": {"protocol": "TCP"},
    "EndpointPort": {"protocol": "TCP"},
}


@dataclass(slots=True, eq=False)
class Schema:
    """One node. `type` is object (a struct), map, array, string, integer, number, boolean, quantity, int-or-string, time, micro-time, any-object or any.

    Definitions refer to each other, so nodes form a graph with cycles (JSONSchemaProps): walk it along a value, never on its own.
    """

    type: str = "any"
    name: str = ""  # of the definition: PodSpec
    package: str = ""  # its Go package: v1
    format: str = ""
    properties: dict[str, "Schema"] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    items: "Schema | None" = None  # of an array or a map
    list_type: str = "atomic"  # arrays: atomic, set, map
    list_map_keys: tuple[str, ...] = ()
    map_type: str = "granular"  # objects and maps: granular, atomic
    patch_merge_key: str = ""
    patch_strategies: frozenset[str] = frozenset()  # merge, replace, retainKeys
    key_defaults: Mapping[str, Any] = field(default_factory=dict)

    def property(self, name: str) -> "Schema | None":
        """The schema of a field of a struct or an entry of a map; None if there is none."""
        if self.type == "object":
            return self.properties.get(name)
        if self.type == "map":
            return self.items
        return None


ANY = Schema("any")
_EMPTY: dict[str, Any] = {}


class Schemas:
    """All definitions of a release, compiled as they are asked for."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._compiled: dict[str, Schema] = {}
        self._pending: dict[str, Any] = {}
        self._by_gvk: dict[GroupVersionKind, str] = {}
        for name, definition in definitions.items():
            for gvk in definition.get(_MARK + "group-version-kind") or ():
                self._by_gvk.setdefault(GroupVersionKind(gvk["group"], gvk["version"], gvk["kind"]), name)
        for name in definitions:
            self._compile_definition(name, definitions)

    @classmethod
    def load(cls, release: str = "v1.37") -> "Schemas":
        """The schemas of `v1.37` (any patch); raises LookupError for an unknown release."""
        return cls(load_definitions(release))

    def for_gvk(self, group: str, version: str, kind: str) -> Schema | None:
        name = self._by_gvk.get(GroupVersionKind(group, version, kind))
        return self._compiled[name] if name is not None else None

    def by_name(self, name: str) -> Schema | None:
        """By the definition's full name (`io.k8s.api.core.v1.PodSpec`)."""
        return self._compiled.get(name)

    def _compile_definition(self, name: str, definitions: dict[str, Any]) -> Schema:
        found = self._compiled.get(name)
        if found is None:
            found = self._compiled[name] = Schema(name=name.rpartition(".")[2], package=name.split(".")[-2])
            self._fill(found, definitions.get(name) or {}, definitions)
            special = _SPECIAL.get(name)
            if special:
                found.type = special
            found.key_defaults = _KEY_DEFAULTS.get(found.name, _EMPTY)
        return found

    def _compile(self, raw: dict[str, Any], definitions: dict[str, Any]) -> Schema:
        reference = raw.get("$ref")
        if reference is None:
            schema = Schema()
            self._fill(schema, raw, definitions)
            return schema
        target = self._compile_definition(reference.removeprefix(_PREFIX), definitions)
        # A mark beside a $ref (atomic selectors, merge strategies) belongs to this use of the definition only.
        if not any(key.startswith(_MARK) for key in raw):
            return target
        used = replace(target)
        _read_marks(used, raw)
        return used

    def _fill(self, schema: Schema, raw: dict[str, Any], definitions: dict[str, Any]) -> None:
        types = raw.get("type")
        form = next((one for one in types if one != "null"), "any") if isinstance(types, list) else types
        if form == "object" or (form is None and "properties" in raw):
            additional = raw.get("additionalProperties")
            if "properties" in raw:
                schema.type = "object"
                schema.properties = {name: self._compile(value, definitions) for name, value in raw["properties"].items()}
                schema.required = frozenset(raw.get("required") or ())
            elif isinstance(additional, dict):
                schema.type = "map"
                schema.items = self._compile(additional, definitions)
            else:
                # Structs without fields (`emptyDir`-like markers) and free-form objects look alike; both keep what they are given.
                schema.type = "any-object"
        elif form == "array":
            schema.type = "array"
            schema.items = self._compile(raw.get("items") or {}, definitions)
        elif form in ("string", "integer", "number", "boolean"):
            schema.type = form
            schema.format = raw.get("format") or ""
        _read_marks(schema, raw)


def _read_marks(schema: Schema, raw: dict[str, Any]) -> None:
    if _MARK + "list-type" in raw:
        schema.list_type = raw[_MARK + "list-type"]
    if _MARK + "list-map-keys" in raw:
        schema.list_map_keys = tuple(raw[_MARK + "list-map-keys"])
    if _MARK + "map-type" in raw:
        schema.map_type = raw[_MARK + "map-type"]
    if _MARK + "patch-merge-key" in raw:
        schema.patch_merge_key = raw[_MARK + "patch-merge-key"]
    if _MARK + "patch-strategy" in raw:
        schema.patch_strategies = frozenset(raw[_MARK + "patch-strategy"].split(","))


def release_line(release: str) -> str:
    """`v1.37` out of `v1.37.4`."""
    return ".".join(release.split("+")[0].split("-")[0].split(".")[:2])


def load_definitions(release: str = "v1.37") -> dict[str, Any]:
    """The definitions as shipped, descriptions and all: about 20 MB of Python objects, so do not keep them."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"{release_line(release)}.0-local"
    try:
        content = (folder / "_definitions.json").read_bytes()
    except FileNotFoundError:
        raise LookupError(f"cannot find the schemas of release {release}") from None
    definitions: dict[str, Any] = orjson.loads(content)["$defs"]
    return definitions
