"""Pure: what stands in for the command line: a configuration file, which replaces it, or environment variables, which complete it."""

from collections.abc import Callable, Mapping
from typing import Any

from kubette.component_base.flags import Flag, FlagError, FlagSet

PREFIX = "ETCD_"
_SIDES = {"client-transport-security": "", "peer-transport-security": "peer-"}
# Keys of the two sections, and the flag each is (after the side's prefix).
_SECURITY = {
    "cert-file": "cert-file",
    "key-file": "key-file",
    "client-cert-file": "client-cert-file",
    "client-key-file": "client-key-file",
    "client-cert-auth": "client-cert-auth",
    "trusted-ca-file": "trusted-ca-file",
    "auto-tls": "auto-tls",
    "skip-client-san-verification": "skip-client-san-verification",
}


def variable(flag: str) -> str:
    return PREFIX + flag.upper().replace("-", "_")


def apply_environment(flags: FlagSet, options: Any, environment: Mapping[str, str], warn: Callable[[str], None] = lambda line: None) -> None:
    """Take from the environment what the command line did not say; `warn` gets upstream's lines. Raises FlagError.

    A variable and a flag for the same thing are refused, as by upstream since 3.4: one of them would be ignored.
    """
    used = {}
    for flag in flags.flags.values():
        key = variable(flag.name)
        value = environment.get(key)
        if flag.name in options.changed:
            if key in environment:
                raise FlagError(
                    f'conflicting environment variable "{key}" is shadowed by corresponding command-line flag '
                    "(either unset environment variable or disable flag)"
                )
            continue
        if value:
            try:
                setattr(options, flag.dest, flag.parse(value))
            except ValueError as error:
                raise FlagError(f'invalid value "{value}" for {key}: {error}') from None
            options.changed.add(flag.name)
            used[key] = value
    for key, value in environment.items():
        if key in used:
            warn(f"recognized and used environment variable {key}={value}")
        elif key.startswith(PREFIX) and key != PREFIX + "UNSUPPORTED_ARCH":
            warn(f"unrecognized environment variable {key}={value}")


def from_file(flags: FlagSet, text: str) -> Any:
    """The options a configuration file says, and defaults for the rest. Raises FlagError."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FlagError(f"error converting YAML to JSON: yaml: {' '.join(str(error).split())}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise FlagError("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal into Go value of type embed.configYAML")
    options = flags.parse(())
    for key, value in document.items():
        if key in _SIDES:
            _take_security(flags, options, key, value)
        else:
            _take(flags, options, str(key), value)
    return options


def _take_security(flags: FlagSet, options: Any, section: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise FlagError(f"invalid {section}")
    prefix = _SIDES[section]
    for key, item in value.items():
        if key in ("allowed-cn", "allowed-hostname"):
            names = tuple(item) if isinstance(item, list) else (str(item),) if item else ()
            setattr(options, f"{prefix or 'client-'}cert-{key}".replace("-", "_"), names)
        elif key in _SECURITY:
            _take(flags, options, prefix + _SECURITY[key], item, f"{section}.{key}")
        else:
            raise FlagError(f'unknown field "{section}.{key}" in the configuration file')


def _take(flags: FlagSet, options: Any, name: str, value: Any, shown: str = "") -> None:
    flag = flags.flags.get(name)
    if flag is None or name == "config-file":
        # Upstream passes over what it does not know; a setting that nobody reads is a mistake nobody hears of.
        raise FlagError(f'unknown field "{shown or name}" in the configuration file')
    if value is None:
        return  # a key without a value leaves the default
    try:
        parsed = _parsed(flag, value)
    except ValueError as error:
        raise FlagError(f'invalid value "{value}" for {shown or name} in the configuration file: {error}') from None
    setattr(options, flag.dest, parsed)
    options.changed.add(flag.name)


def _parsed(flag: Flag, value: Any) -> Any:
    """A value of a YAML file, of the type that upstream's reader wants. Raises ValueError."""
    if flag.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go struct field configYAML.{flag.name} of type bool")
        return value
    if flag.kind in ("int", "uint"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go struct field configYAML.{flag.name} of type {flag.kind}")
        return flag.parse(str(value))
    if flag.kind == "duration":
        # A time.Duration of Go's, which its JSON reader takes as nanoseconds only.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go struct field configYAML.{flag.name} of type time.Duration")
        return value / 1e9
    if isinstance(value, list):
        return flag.parse(",".join(str(each) for each in value))
    if isinstance(value, bool):
        return flag.parse(str(value).lower())
    return flag.parse(str(value))


def _kind(value: Any) -> str:
    return {bool: "bool", str: "string", list: "array", dict: "object"}.get(type(value), "number")
