"""Pure: which names are valid, in upstream's words (apimachinery's `util/validation`), and generated ones.

Each check returns a list of complaints, empty when the value is fine.
"""

import random
import re

_QUALIFIED_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_NAME_TEXT = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
_LABEL_VALUE = "(" + _QUALIFIED_NAME + ")?"
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1123 = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1123_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"
)
_SUBDOMAIN_1123 = _LABEL_1123 + r"(\." + _LABEL_1123 + ")*"
_SUBDOMAIN_1123_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_WILDCARD = r"\*\." + _SUBDOMAIN_1123
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case "
    "alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_ENV_NAME_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_PERCENT = "[0-9]+%"
_PERCENT_TEXT = "a valid percent string must be a numeric string followed by an ending '%'"
_HTTP_HEADER = "[-A-Za-z0-9]+"
_HTTP_HEADER_TEXT = "a valid HTTP header must consist of alphanumeric characters or '-'"

LABEL_LENGTH_MAX = 63
SUBDOMAIN_LENGTH_MAX = 253

# generateName: no vowels (no words), none of 0, 1, 3 (look-alikes); five characters, and the whole fits a DNS label.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5
_GENERATED_BASE_MAX = LABEL_LENGTH_MAX - SUFFIX_LENGTH


def max_length(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def between(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def regex_error(text: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = ",  or ".join(f"'{example}'" for example in examples)
    return f"{text} (e.g. {shown}, regex used for validation is '{pattern}')"


def _matches(pattern: str, value: str) -> bool:
    return re.fullmatch(pattern, value) is not None and not value.endswith("\n")


def dns1123_label(value: str) -> list[str]:
    problems = [max_length(LABEL_LENGTH_MAX)] if len(value) > LABEL_LENGTH_MAX else []
    if not _matches(_LABEL_1123, value):
        # A dotted name gets the hint that it would have been fine as a subdomain.
        if _matches(_SUBDOMAIN_1123, value):
            problems.append("must not contain dots")
        else:
            problems.append(regex_error(_LABEL_1123_TEXT, _LABEL_1123, "my-name", "123-abc"))
    return problems


def dns1123_subdomain(value: str) -> list[str]:
    problems = [max_length(SUBDOMAIN_LENGTH_MAX)] if len(value) > SUBDOMAIN_LENGTH_MAX else []
    if not _matches(_SUBDOMAIN_1123, value):
        problems.append(regex_error(_SUBDOMAIN_1123_TEXT, _SUBDOMAIN_1123, "example.com"))
    return problems


def dns1035_label(value: str) -> list[str]:
    problems = [max_length(LABEL_LENGTH_MAX)] if len(value) > LABEL_LENGTH_MAX else []
    if not _matches(_LABEL_1035, value):
        problems.append(regex_error(_LABEL_1035_TEXT, _LABEL_1035, "my-name", "abc-123"))
    return problems


def wildcard_subdomain(value: str) -> list[str]:
    problems = [max_length(SUBDOMAIN_LENGTH_MAX)] if len(value) > SUBDOMAIN_LENGTH_MAX else []
    if not _matches(_WILDCARD, value):
        problems.append(regex_error(_WILDCARD_TEXT, _WILDCARD, "*.example.com"))
    return problems


def qualified_name(value: str) -> list[str]:
    """`name` or `prefix.example.com/name`: keys of labels and annotations, finalizers, resource names."""
    parts = value.split("/")
    problems: list[str] = []
    if len(parts) > 2:
        text = regex_error(_QUALIFIED_NAME_TEXT, _QUALIFIED_NAME, "MyName", "my.name", "123-abc")
        return [f"a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    name = parts[-1]
    if len(parts) == 2:
        if not parts[0]:
            problems.append("prefix part must be non-empty")
        else:
            problems += ["prefix part " + text for text in dns1123_subdomain(parts[0])]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > LABEL_LENGTH_MAX:
        problems.append("name part " + max_length(LABEL_LENGTH_MAX))
    if not _matches(_QUALIFIED_NAME, name):
        problems.append("name part " + regex_error(_QUALIFIED_NAME_TEXT, _QUALIFIED_NAME, "MyName", "my.name", "123-abc"))
    return problems


def label_value(value: str) -> list[str]:
    problems = [max_length(LABEL_LENGTH_MAX)] if len(value) > LABEL_LENGTH_MAX else []
    if not _matches(_LABEL_VALUE, value):
        problems.append(regex_error(_LABEL_VALUE_TEXT, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return problems


def path_segment(value: str) -> list[str]:
    """Names that are looser than DNS (RBAC's): anything that can be one segment of a URL."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else [between(1, 65535)]


def port_name(value: str) -> list[str]:
    """IANA service names: `http`, `my-port`."""
    problems: list[str] = []
    if len(value) > 15:
        problems.append("must be no more than 15 characters")
    if not re.fullmatch("[-a-z0-9]+", value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def env_name(value: str) -> list[str]:
    """Since v1.30 (RelaxedEnvironmentVariableValidation) any printable ASCII but `=`."""
    return [] if re.fullmatch("[ -<>-~]+", value) else [regex_error(_ENV_NAME_TEXT, "[ -<>-~]+")]


def config_key(value: str) -> list[str]:
    problems = [max_length(SUBDOMAIN_LENGTH_MAX)] if len(value) > SUBDOMAIN_LENGTH_MAX else []
    if not _matches(_CONFIG_KEY, value):
        problems.append(regex_error(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return problems + _no_parent_directory(value)


def _no_parent_directory(value: str) -> list[str]:
    if value == ".":
        return ["must not be '.'"]
    if value == "..":
        return ["must not be '..'"]
    if value.startswith(".."):
        return ["must not start with '..'"]
    return []


def percent(value: str) -> list[str]:
    return [] if _matches(_PERCENT, value) else [regex_error(_PERCENT_TEXT, _PERCENT, "1%", "93%")]


def http_header_name(value: str) -> list[str]:
    return [] if _matches(_HTTP_HEADER, value) else [regex_error(_HTTP_HEADER_TEXT, _HTTP_HEADER, "X-Header-Name")]


def mask_trailing_dash(prefix: str) -> str:
    """A generateName is judged as if its trailing dash were followed by something."""
    return prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def safe_suffix(number_or_text: str) -> str:
    """rand.SafeEncodeString: any text re-spelled in the alphabet of generated names (pod-template-hash)."""
    return "".join(_SUFFIX_ALPHABET[byte % len(_SUFFIX_ALPHABET)] for byte in number_or_text.encode())


def generate(prefix: str, rng: random.Random) -> str:
    """`metadata.generateName` plus five random characters, the base cut so that the whole stays a DNS label."""
    return prefix[:_GENERATED_BASE_MAX] + "".join(rng.choice(_SUFFIX_ALPHABET) for _ in range(SUFFIX_LENGTH))
