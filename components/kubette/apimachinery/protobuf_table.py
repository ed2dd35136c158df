"""Makes `protobuf_fields.json`, the facts that decoding a Protobuf body needs, from the struct tags of upstream's Go types.

Not used while a program runs. To follow a new release: `python -m kubette.apimachinery.protobuf_table API_DIR APIMACHINERY_DIR > protobuf_fields.json`, where
the directories are working trees of kubernetes/api and kubernetes/apimachinery.

A message is a list of fields `[number, json name ("" when inlined), code, reference, flags]`. Codes: s string, y bytes, i integer, b boolean, d double,
m message, M map (reference is `code:reference` of the values). Flags: r repeated, z its zero value is not written in JSON.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_FIELD = re.compile(r'^\s+(?:(\w+)\s+)?([\w.*\[\]]+)\s+`json:"([^"]*)".*?protobuf:"(\w+),(\d+),(\w+)')
_STRUCT = re.compile(r"^type (\w+) struct \{")
_NAMED = re.compile(r"^type (\w+) =? ?([\w.*\[\]]+)\s*(?://.*)?$")
_IMPORT = re.compile(r'^\s+(?:(\w+) )?"(k8s\.io/[^"]+)"')
_SPECIAL = {
    "meta/v1.Time",
    "meta/v1.MicroTime",
    "meta/v1.Duration",
    "meta/v1.FieldsV1",
    "resource.Quantity",
    "intstr.IntOrString",
    "runtime.RawExtension",
}

Field = tuple[int, str, str, str, str]


def package_of(path: str) -> str:
    """`k8s.io/api/core/v1` → `core/v1`, `k8s.io/apimachinery/pkg/apis/meta/v1` → `meta/v1`, `…/pkg/util/intstr` → `intstr`."""
    parts = path.split("/")
    return "/".join(parts[-2:]) if re.fullmatch(r"v\d\w*", parts[-1]) else parts[-1]


class Source:
    """One package's types."""

    def __init__(self, package: str, texts: list[str]) -> None:
        self.package = package
        self.imports: dict[str, str] = {}
        self.structs: dict[str, list[str]] = {}
        self.named: dict[str, str] = {}
        for text in texts:
            self._read(text)

    def _read(self, text: str) -> None:
        current: list[str] | None = None
        for line in text.splitlines():
            if current is not None:
                if line.startswith("}"):
                    current = None
                else:
                    current.append(line)
            elif matched := _STRUCT.match(line):
                current = self.structs.setdefault(matched[1], [])
                if line.rstrip().endswith("}"):
                    current = None
            elif matched := _NAMED.match(line):
                self.named[matched[1]] = matched[2]
            elif matched := _IMPORT.match(line):
                self.imports[matched[1] or matched[2].rsplit("/", 1)[-1]] = package_of(matched[2])


class Table:
    def __init__(self, sources: dict[str, Source]) -> None:
        self._sources = sources
        self.messages: dict[str, list[Field]] = {}

    def build(self) -> dict[str, list[Field]]:
        for package, source in sorted(self._sources.items()):
            for name, lines in sorted(source.structs.items()):
                fields = list(self._fields(source, lines))
                if fields:
                    self.messages[f"{package}.{name}"] = fields
        return self.messages

    def _fields(self, source: Source, lines: list[str]) -> Iterator[Field]:
        for line in lines:
            matched = _FIELD.match(line)
            if matched is None:
                continue
            go_name, go_type, tag, wire, number, label = matched.groups()
            name, _, rest = tag.partition(",")
            inline = "inline" in rest or (not name and go_name is None)
            code, reference, repeated = self._type(source, go_type.lstrip("*"), wire, label)
            zero = "z" if "omit" in rest and not go_type.startswith("*") else ""
            yield int(number), "" if inline else name, code, reference, ("r" if repeated else "") + zero

    def _resolve(self, source: Source, go_type: str) -> tuple[Source | None, str]:
        alias, dot, name = go_type.rpartition(".")
        package = source.imports.get(alias, alias) if dot else source.package
        return self._sources.get(package), f"{package}.{name}"

    def _type(self, source: Source, go_type: str, wire: str, label: str) -> tuple[str, str, bool]:
        """(code, reference, repeated)."""
        if go_type == "[]byte":
            return "y", "", False
        if go_type.startswith("[]"):
            code, reference, _ = self._type(source, go_type[2:].lstrip("*"), wire, "opt")
            return code, reference, True
        if go_type.startswith("map["):
            value = go_type[go_type.index("]") + 1 :]
            code, reference, _ = self._type(source, value.lstrip("*"), "varint" if value in ("bool", "int32", "int64") else "bytes", "opt")
            return "M", f"{code}:{reference}", False
        owner, qualified = self._resolve(source, go_type)
        name = qualified.rpartition(".")[2]
        if qualified in _SPECIAL or (owner is not None and name in owner.structs):
            return "m", qualified, False
        if owner is not None and name in owner.named:
            below = owner.named[name]
            if below.startswith("[]") and below != "[]byte" and label == "opt":
                # A named slice where the wire has one value: wrapped in a message with the field `items`.
                code, reference, _ = self._type(owner, below[2:].lstrip("*"), "bytes", "opt")
                self.messages[qualified] = [(1, "", code, reference, "rw")]
                return "m", qualified, False
            return self._type(owner, below.lstrip("*"), wire, label)
        # The Go type decides: some tags name a wire type that the generated code does not use.
        scalars = {"bool": "b", "int32": "i", "int64": "i", "int": "i", "uint32": "i", "uint8": "i", "float64": "d", "string": "s"}
        return scalars.get(go_type, "i" if wire == "varint" else "s"), "", False


def read_tree(api: Path, machinery: Path) -> dict[str, Source]:
    """The packages of stable versions, and those of apimachinery they use."""
    sources: dict[str, Source] = {}
    for path in sorted(api.glob("*/v[0-9]/types.go")):
        package = "/".join(path.parts[-3:-1])
        sources[package] = Source(package, [one.read_text() for one in sorted(path.parent.glob("*types.go"))])
    meta = machinery / "pkg/apis/meta/v1"
    sources["meta/v1"] = Source("meta/v1", [(meta / name).read_text() for name in ("types.go",)])
    return sources


if __name__ == "__main__":
    built = Table(read_tree(Path(sys.argv[1]), Path(sys.argv[2]))).build()
    sys.stdout.write("{\n" + ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in sorted(built.items())) + "\n}\n")
