"""Pure: request bodies to dicts and back: JSON and YAML, with limits (apimachinery's `runtime/serializer/json`).

Duplicate keys are legal JSON (the last one wins) but upstream's field validation reports them, so they are found in the same pass.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml

# Upstream's --max-request-body-bytes; its decoder refuses deeper nesting than Go's encoding/json does.
BODY_BYTES_MAX = 3 * 1024 * 1024
DEPTH_MAX = 1000

JSON = "application/json"
YAML = "application/yaml"


class CodecError(ValueError):
    """The body cannot be decoded; the message is fit for a 400."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A body, and the paths of keys it gave more than once (`spec.replicas`)."""

    obj: dict[str, Any]
    duplicates: tuple[str, ...] = field(default_factory=tuple)


def encode(obj: Any) -> bytes:
    """The bytes every list and watcher shares."""
    return orjson.dumps(obj)


def to_yaml(obj: Any) -> str:
    """sigs.k8s.io/yaml's form: keys sorted, two spaces, block style."""
    return yaml.dump(obj, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), default_flow_style=False, allow_unicode=True, width=2**31)


def decode(body: bytes, media_type: str = JSON) -> Any:
    """A body of any shape (patches may be lists)."""
    if media_type in (YAML, "application/apply-patch+yaml", "application/x-yaml", "text/yaml"):
        return decode_yaml(body)
    return decode_json(body)


def decode_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if len(body) > 1 and _too_deep(body):
            raise CodecError("json: exceeded max depth") from None
        raise CodecError(_go_json_error(body, error)) from None


def _too_deep(body: bytes) -> bool:
    depth = 0
    for byte in body:
        depth += (byte in b"[{") - (byte in b"]}")
        if depth > DEPTH_MAX:
            return True
    return False


def _go_json_error(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Go's encoding/json says where it stopped by the character; ours says the same of the character it stopped at."""
    text = body.decode("utf-8", "replace")
    if error.pos >= len(text.rstrip()):
        return "unexpected end of JSON input"
    return f"invalid character {text[error.pos]!r} {_context(text, error.pos)}"


def _context(text: str, position: int) -> str:
    before = text[:position].rstrip()
    if not before:
        return "looking for beginning of value"
    if before[-1] in "{,":
        return "looking for beginning of object key string"
    if before[-1] in "[:":
        return "looking for beginning of value"
    return "after object key:value pair"


def decode_yaml(body: bytes) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Anchors let a small document expand without bound; aliases are refused when the document repeats itself beyond the body limit.
        node = yaml.compose(body, Loader=_no_timestamps(loader))
    except yaml.YAMLError as error:
        raise CodecError(f"error converting YAML to JSON: yaml: {_one_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise CodecError(f"error converting YAML to JSON: yaml: {error}") from None
    if node is None:
        return None
    budget = [BODY_BYTES_MAX]
    return _construct(node, 0, budget)


def _no_timestamps(loader: Any) -> Any:
    return loader


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


def _construct(node: Any, depth: int, budget: list[int]) -> Any:
    """YAML as sigs.k8s.io/yaml reads it: JSON's types only (no dates, no binary), keys as strings."""
    budget[0] -= 1
    if depth > DEPTH_MAX or budget[0] < 0:
        raise CodecError("error converting YAML to JSON: yaml: document contains excessive aliasing or nesting")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, depth + 1, budget) for item in node.value]
    out: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            merged = _construct(value_node, depth + 1, budget)
            for one in merged if isinstance(merged, list) else [merged]:
                if isinstance(one, dict):
                    out = {**one, **out}
            continue
        key = _construct(key_node, depth + 1, budget)
        if isinstance(key, dict | list):
            raise CodecError("error converting YAML to JSON: yaml: invalid map key")
        spelled = _key(key)
        if spelled in out:
            line = key_node.start_mark.line + 1
            raise CodecError(f'error converting YAML to JSON: yaml: unmarshal errors:\n  line {line}: key "{spelled}" already set in map')
        out[spelled] = _construct(value_node, depth + 1, budget)
    return out


def _key(key: Any) -> str:
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() in ("true", "yes", "on", "y")
        case "int":
            return _integer(text)
        case "float":
            lowered = text.lower().replace("_", "")
            if lowered.lstrip("+-") in (".inf", ".nan"):
                raise CodecError(f"error converting YAML to JSON: json: unsupported value: {text}")
            try:
                return float(lowered)
            except ValueError:
                return text
    return text


def _integer(text: str) -> int | str:
    plain = text.replace("_", "")
    try:
        sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain.lstrip("+"))
        if digits.startswith(("0x", "0b", "0o")):
            return sign * int(digits, 0)
        if len(digits) > 1 and digits.startswith("0"):
            return sign * int(digits, 8)
        return sign * int(digits)
    except ValueError:
        return text  # YAML 1.1's sexagesimals are plain strings to Go's decoder


def decode_object(body: bytes, media_type: str = JSON, *, find_duplicates: bool = False) -> Decoded:
    """A body that must be one object; with `find_duplicates`, also which keys it repeats."""
    if len(body) > BODY_BYTES_MAX:
        raise CodecError(f"request body is too large: limit is {BODY_BYTES_MAX}")
    obj = decode(body, media_type)
    if not isinstance(obj, dict):
        found = "null" if obj is None else type(obj).__name__
        kinds = {"list": "array", "str": "string", "int": "number", "float": "number", "bool": "bool", "null": "null"}
        raise CodecError(f"couldn't get version/kind; json parse error: json: cannot unmarshal {kinds[found]} into Go value of type struct")
    duplicates = _duplicate_keys(body) if find_duplicates and media_type not in (YAML,) else ()
    return Decoded(obj, duplicates)


def _duplicate_keys(body: bytes) -> tuple[str, ...]:
    """Paths of repeated keys. Most bodies have none: the slower parser runs only to find out where."""
    repeated: list[tuple[int, str]] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in items:
            if key in out:
                repeated.append((id(out), key))
            out[key] = value
        holders[id(out)] = out
        return out

    holders: dict[int, dict[str, Any]] = {}
    try:
        root = json.loads(body, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return ()
    if not repeated:
        return ()
    paths: dict[int, str] = {}
    _paths(root, "", paths)
    return tuple(dict.fromkeys(f"{paths.get(holder, '')}.{key}".lstrip(".") for holder, key in repeated))


def _paths(value: Any, path: str, paths: dict[int, str]) -> None:
    if isinstance(value, dict):
        paths[id(value)] = path
        for key, item in value.items():
            _paths(item, f"{path}.{key}" if path else key, paths)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _paths(item, f"{path}[{index}]", paths)
