"""Pure: label selectors and field selectors: parsing, matching, printing (apimachinery's `labels` and `fields`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import names

IN = "in"
NOT_IN = "notin"
EXISTS = "exists"
DOES_NOT_EXIST = "!"
EQUALS = "="
NOT_EQUALS = "!="
GREATER_THAN = "gt"
LESS_THAN = "lt"


class SelectorError(ValueError):
    """The text is no selector; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case _:
                try:
                    return value is not None and _compare(self.operator, int(value), int(self.values[0]))
                except ValueError:
                    return False

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return "!" + self.key
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
            case "gt":
                return f"{self.key}>{self.values[0]}"
            case "lt":
                return f"{self.key}<{self.values[0]}"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"


def _compare(operator: str, left: int, right: int) -> bool:
    return left > right if operator == GREATER_THAN else left < right


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none at all matches everything."""

    requirements: tuple[Requirement, ...] = ()
    matches_nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.matches_nothing:
            return False
        found = labels or {}
        return all(requirement.matches(found) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        return not self.requirements and not self.matches_nothing

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = Selector()
NOTHING = Selector(matches_nothing=True)


@dataclass(slots=True)
class _Tokens:
    """The text cut into symbols and words; `in` and `notin` are operators only where one is expected."""

    items: list[str]
    position: int = 0

    def peek(self) -> str:
        return self.items[self.position] if self.position < len(self.items) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token


_SYMBOLS = "()!=,<>"


def _tokenize(text: str) -> _Tokens:
    tokens: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char in " \t\r\n":
            position += 1
        elif char in _SYMBOLS:
            two = text[position : position + 2]
            token = two if two in ("!=", "==") else char
            tokens.append(token)
            position += len(token)
        else:
            end = position
            while end < len(text) and text[end] not in _SYMBOLS and text[end] not in " \t\r\n":
                end += 1
            tokens.append(text[position:end])
            position = end
    return _Tokens(tokens)


def _is_word(token: str) -> bool:
    return bool(token) and token[0] not in _SYMBOLS


def parse_label_selector(text: str) -> Selector:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`; raises SelectorError."""
    tokens = _tokenize(text)
    requirements: list[Requirement] = []
    if tokens.peek():
        while True:
            if not (_is_word(tokens.peek()) or tokens.peek() == "!"):
                raise SelectorError(f"found '{tokens.peek()}', expected: !, identifier, or 'end of string'")
            requirements.append(_parse_requirement(tokens))
            token = tokens.take()
            if not token:
                break
            if token != ",":
                raise SelectorError(f"found '{token}', expected: ',' or 'end of string'")
            following = tokens.peek()
            if not _is_word(following) and following != "!":
                raise SelectorError(f"found '{following}', expected: identifier after ','")
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def _parse_requirement(tokens: _Tokens) -> Requirement:
    key = tokens.take()
    absent = key == "!"
    if absent:
        key = tokens.take()
    if not _is_word(key):
        raise SelectorError(f"unable to parse requirement: found '{key}', expected: identifier")
    _check_key(key)
    if absent:
        return _requirement(key, DOES_NOT_EXIST, ())
    following = tokens.peek()
    if following in ("", ","):
        return _requirement(key, EXISTS, ())
    operator = tokens.take()
    match operator:
        case "in" | "notin":
            return _requirement(key, operator, _parse_values(tokens))
        case "=" | "==" | "!=" | ">" | "<":
            value = "" if tokens.peek() in ("", ",") else tokens.take()
            if value and not _is_word(value):
                raise SelectorError(f"unable to parse requirement: found '{value}', expected: identifier")
            spelled = {"==": EQUALS, ">": GREATER_THAN, "<": LESS_THAN}.get(operator, operator)
            return _requirement(key, spelled, (value,))
    raise SelectorError(f"unable to parse requirement: found '{operator}', expected: in, notin, =, ==, !=, gt, lt")


def _parse_values(tokens: _Tokens) -> tuple[str, ...]:
    opening = tokens.take()
    if opening != "(":
        raise SelectorError(f"unable to parse requirement: found '{opening}' expected: '('")
    values: list[str] = []
    expecting_value = True
    while True:
        token = tokens.take()
        if token in (")", ","):
            if expecting_value:
                values.append("")  # `()` and `(a,,b)` name the empty value
            if token == ")":
                return tuple(dict.fromkeys(values))
            expecting_value = True
        elif _is_word(token) and expecting_value:
            values.append(token)
            expecting_value = False
        else:
            expected = "',', ')' or identifier" if expecting_value else "',' or ')'"
            raise SelectorError(f"unable to parse requirement: found '{token}', expected: {expected}")


def _check_key(key: str) -> None:
    problems = names.qualified_name(key)
    if problems:
        raise SelectorError(f'unable to parse requirement: <nil>: Invalid value: "{key}": {"; ".join(problems)}')


def _requirement(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    for index, value in enumerate(values):
        problems = names.label_value(value)
        if problems:
            raise SelectorError(f'unable to parse requirement: values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
        if operator in (GREATER_THAN, LESS_THAN) and not value.lstrip("-").isdigit():
            raise SelectorError(
                f"unable to parse requirement: values[0][{key}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )
    return Requirement(key, operator, values)


_METAV1_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": DOES_NOT_EXIST, "Gt": GREATER_THAN, "Lt": LESS_THAN}


def from_label_selector(selector: Mapping[str, Any] | None) -> Selector:
    """metav1.LabelSelector: absent matches nothing, empty matches everything."""
    if selector is None:
        return NOTHING
    requirements = [Requirement(key, EQUALS, (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    requirements += [requirement_of(expression) for expression in selector.get("matchExpressions") or []]
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def requirement_of(expression: Mapping[str, Any]) -> Requirement:
    """One `{key, operator, values}`, as label selectors and node selectors have them."""
    operator = str(expression.get("operator") or "")
    spelled = _METAV1_OPERATORS.get(operator)
    if spelled is None:
        raise SelectorError(f'"{operator}" is not a valid label selector operator')
    values = tuple(expression.get("values") or ())
    if spelled in (IN, NOT_IN) and not values:
        raise SelectorError("for 'in', 'notin' operators, values set can't be empty")
    if spelled in (EXISTS, DOES_NOT_EXIST) and values:
        raise SelectorError("values set must be empty for exists and does not exist")
    return Requirement(str(expression.get("key") or ""), spelled, values)


def format_label_selector(selector: Mapping[str, Any] | None) -> str:
    """As printer columns show it: `app=web`, `<none>`."""
    try:
        return str(from_label_selector(selector)) or "<none>"
    except SelectorError:
        return "<error>"


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """`field=value` or `field!=value`."""

    field: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All terms must hold. Which fields exist is the resource's business (see the strategies' `selectable_fields`)."""

    terms: tuple[FieldTerm, ...] = field(default_factory=tuple)

    def matches(self, fields: Callable[[str], str] | Mapping[str, str]) -> bool:
        get = fields if callable(fields) else lambda name: fields.get(name, "")
        return all((get(term.field) == term.value) == (term.operator == EQUALS) for term in self.terms)

    @property
    def empty(self) -> bool:
        return not self.terms

    def required_value(self, field: str) -> str | None:
        """The value the field must have, if some term says so (`metadata.name=web`)."""
        return next((term.value for term in self.terms if term.field == field and term.operator == EQUALS), None)

    def check(self, known: Mapping[str, Any] | frozenset[str] | set[str]) -> None:
        """Raises SelectorError for a field this resource cannot be selected by."""
        for term in self.terms:
            if term.field not in known:
                raise SelectorError(f"field label not supported: {term.field}")

    def __str__(self) -> str:
        return ",".join(f"{term.field}{term.operator}{_escape(term.value)}" for term in self.terms)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str) -> str:
    out: list[str] = []
    characters = iter(value)
    for char in characters:
        if char == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{escaped}")
            out.append(escaped)
        elif char in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            out.append(char)
    return "".join(out)


def _split_terms(text: str) -> list[str]:
    terms, current, escaped = [], "", False
    for char in text:
        if char == "," and not escaped:
            terms.append(current)
            current = ""
            continue
        escaped = char == "\\" and not escaped
        current += char
    return [*terms, current]


def parse_field_selector(text: str) -> FieldSelector:
    """`metadata.name=web,status.phase!=Running`; raises SelectorError."""
    terms: list[FieldTerm] = []
    for part in sorted(_split_terms(text)):
        if not part:
            continue
        position = next((index for index in range(len(part)) if part[index] == "=" or part[index : index + 2] == "!="), None)
        if position is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{part}'")
        spelled = next(operator for operator in ("!=", "==", "=") if part.startswith(operator, position))
        value = _unescape(part[position + len(spelled) :])
        terms.append(FieldTerm(part[:position], NOT_EQUALS if spelled == "!=" else EQUALS, value))
    return FieldSelector(tuple(terms))
