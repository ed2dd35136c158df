"""What every command has at hand: its arguments, the connection, and the printer that its flags ask for."""

import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.component_base.flags import FlagError, FlagSet
from kubette.etcdctl import printers
from kubette.etcdctl.cobra import Invocation
from kubette.etcdctl.connection import Connection, Settings
from kubette.etcdctl.errors import CommandError, Exit, bad_args
from kubette.etcdctl.printers import Answer, Style

ENVIRONMENT_PREFIX = "ETCDCTL_"
_WITHOUT_FLAG = frozenset({"ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"})


def global_flags(flags: FlagSet) -> None:
    """The flags of every command."""
    flags.strings("endpoints", ["127.0.0.1:2379"], "gRPC endpoints")
    flags.bool("debug", False, "enable client-side debug logging")
    flags.string("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)", "w")
    flags.bool("hex", False, "print byte strings as hex encoded strings")
    flags.duration("dial-timeout", 2.0, "dial timeout for client connections")
    flags.duration("command-timeout", 5.0, "timeout for short running command (excluding dial timeout)")
    flags.duration("keepalive-time", 2.0, "keepalive time for client connections")
    flags.duration("keepalive-timeout", 6.0, "keepalive timeout for client connections")
    flags.bool("insecure-transport", True, "disable transport security for client connections")
    flags.bool("insecure-discovery", True, "accept insecure SRV records describing cluster endpoints")
    skip = "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)"
    flags.bool("insecure-skip-tls-verify", False, skip)
    flags.string("cert", "", "identify secure client using this TLS certificate file")
    flags.string("key", "", "identify secure client using this TLS key file")
    flags.string("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
    flags.string("user", "", "username[:password] for authentication (prompt if password is not supplied)")
    flags.string("password", "", "password for authentication (if this option is used, --user option shouldn't include password)")
    flags.string("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints", "d")
    flags.string("discovery-srv-name", "", "service name to query when using DNS discovery")


def apply_environment(flags: FlagSet, options: Any, environment: Mapping[str, str]) -> None:
    """`ETCDCTL_CACERT` and so on stand in for flags that were not given. Both at once are refused, as upstream does."""
    for flag in flags.flags.values():
        name = ENVIRONMENT_PREFIX + flag.name.upper().replace("-", "_")
        value = environment.get(name, "")
        if not value:
            continue
        if flag.name in options.changed:
            text = f'conflicting environment variable "{name}" is shadowed by corresponding command-line flag'
            raise CommandError(f"{text} (either unset environment variable or disable flag)")
        try:
            setattr(options, flag.dest, flag.parse(value))
        except ValueError as error:
            raise CommandError(f'invalid value "{value}" for {name}: {error}') from None
        options.changed.add(flag.name)
    if getattr(options, "debug", False):  # etcdutl has none
        for flag in sorted(flags.flags.values(), key=lambda each: each.name):
            value = getattr(options, flag.dest)
            text = f"[{','.join(value)}]" if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
            print(f"{ENVIRONMENT_PREFIX}{flag.name.upper().replace('-', '_')}={text}", file=sys.stderr)
    known = {ENVIRONMENT_PREFIX + name.upper().replace("-", "_") for name in flags.flags} | _WITHOUT_FLAG
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            print(f"pkg/flags: unrecognized environment variable {name}={environment[name]}", file=sys.stderr)


@dataclass(slots=True)
class Context:
    """One run of one command."""

    invocation: Invocation
    _connections: list[Connection] = field(default_factory=list)
    _settings: Settings | None = None

    @property
    def args(self) -> list[str]:
        return self.invocation.args

    @property
    def options(self) -> Any:
        return self.invocation.options

    # Printing

    @property
    def style(self) -> Style:
        options = self.options
        if options.write_out not in printers.FORMATS:
            raise CommandError("unsupported output format", Exit.BAD_FEATURE)
        return Style(options.write_out, options.hex)

    def show(self, kind: str, message: Any, **more: Any) -> None:
        """Print an answer in the format asked for."""
        self.show_as(self.style, kind, message, **more)

    def show_as(self, style: Style, kind: str, message: Any, **more: Any) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(printers.render(Answer(kind, message, more), style))
        sys.stdout.buffer.flush()

    # The server

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = self._read_settings()
        return self._settings

    def connect(self) -> Connection:
        """The connection of this command; the printer's format is checked first, before anything is changed."""
        _ = self.style
        if not self._connections:
            self._connections.append(Connection(self.settings))
        return self._connections[0]

    def call(self, method: str, request: Any, response: Any, **more: Any) -> Any:
        return self.connect().call(method, request, response, **more)

    def close(self) -> None:
        for connection in self._connections:
            connection.__exit__()

    def _read_settings(self) -> Settings:
        options = self.options
        for name in ("cert", "key", "cacert"):
            if name in options.changed and not getattr(options, name):
                raise bad_args(f"empty string is passed to --{name} option")
        user, password = options.user, options.password
        if user and not password:
            user, colon, password = user.partition(":")
            if not colon:
                password = ask_password("Password: ")
        return Settings(
            endpoints=_endpoints(options),
            cert=options.cert,
            key=options.key,
            cacert=options.cacert,
            server_name="" if options.insecure_discovery else options.discovery_srv,
            insecure_transport=options.insecure_transport,
            insecure_skip_tls_verify=options.insecure_skip_tls_verify,
            user=user,
            password=password,
            dial_timeout_s=options.dial_timeout,
            command_timeout_s=options.command_timeout,
            keepalive_time_s=options.keepalive_time,
            keepalive_timeout_s=options.keepalive_timeout,
        )


def _endpoints(options: Any) -> tuple[str, ...]:
    if options.discovery_srv:
        from kubette.etcdctl import discovery

        return discovery.endpoints(options.discovery_srv, options.discovery_srv_name, options.insecure_discovery)
    if not options.endpoints:
        raise bad_args("no endpoints")
    return tuple(each.strip() for each in options.endpoints)


def ask_password(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except (EOFError, OSError) as error:
        raise bad_args(f"failed to ask password: {str(error) or 'EOF'}") from error


def environment() -> dict[str, str]:
    return dict(os.environ)


__all__ = ["Context", "FlagError", "apply_environment", "ask_password", "environment", "global_flags"]
