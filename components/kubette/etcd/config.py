"""Pure: etcd's flags, checked once. A flag that is accepted does what it says; one that is unknown is refused.

Every flag may come from the environment as ETCD_<NAME>; the command line wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubette.component_base.flags import FlagError, FlagSet, parse_duration

DEFAULT_QUOTA_BYTES = 2 << 30
_FEATURE_GATES = frozenset({"InitialCorruptCheck"})


def flag_set() -> FlagSet:
    flags = FlagSet("etcd", "etcd: a distributed reliable key-value store.", single_dash=True)
    flags.string("name", "default", "Human-readable name for this member.")
    flags.string("data-dir", "", "Path to the data directory.")
    flags.string("wal-dir", "", "Path to the dedicated wal directory.")
    flags.int("snapshot-count", 10000, "Number of committed transactions to trigger a snapshot to disk.")
    flags.int("heartbeat-interval", 100, "Time (in milliseconds) of a heartbeat interval.")
    flags.int("election-timeout", 1000, "Time (in milliseconds) for an election to timeout.")
    flags.bool("initial-election-tick-advance", True, "Whether to fast-forward initial election ticks on boot for faster election.")
    flags.bool("pre-vote", True, "Enable to run an additional Raft election phase.")
    flags.string("listen-peer-urls", "http://localhost:2380", "List of URLs to listen on for peer traffic.")
    flags.string("listen-client-urls", "http://localhost:2379", "List of URLs to listen on for client traffic.")
    flags.string("listen-metrics-urls", "", "List of URLs to listen on for the metrics and health endpoints.")
    flags.int("max-snapshots", 5, "Maximum number of snapshot files to retain.")
    flags.int("quota-backend-bytes", 0, "Raise alarms when backend size exceeds the given quota (0 defaults to low space quota).")
    flags.int("max-txn-ops", 128, "Maximum number of operations permitted in a transaction.")
    flags.int("max-request-bytes", 1536 * 1024, "Maximum client request size in bytes the server will accept.")
    flags.string("initial-advertise-peer-urls", "http://localhost:2380", "List of this member's peer URLs to advertise to the rest of the cluster.")
    flags.string("initial-cluster", "", "Initial cluster configuration for bootstrapping.")
    flags.string("initial-cluster-state", "new", "Initial cluster state ('new' when bootstrapping a new static cluster or 'existing').")
    flags.string("initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during bootstrap.")
    flags.string("advertise-client-urls", "http://localhost:2379", "List of this member's client URLs to advertise to the public.")
    flags.bool("strict-reconfig-check", True, "Reject reconfiguration requests that would cause quorum loss.")
    flags.string("auto-compaction-mode", "periodic", "Interpret 'auto-compaction-retention' one of: 'periodic', 'revision'.")
    flags.string("auto-compaction-retention", "0", "Auto compaction retention length. 0 means disable auto compaction.")
    flags.string("cert-file", "", "Path to the client server TLS cert file.")
    flags.string("key-file", "", "Path to the client server TLS key file.")
    flags.bool("client-cert-auth", False, "Enable client cert authentication.")
    flags.string("trusted-ca-file", "", "Path to the client server TLS trusted CA cert file.")
    flags.string("peer-cert-file", "", "Path to the peer server TLS cert file.")
    flags.string("peer-key-file", "", "Path to the peer server TLS key file.")
    flags.bool("peer-client-cert-auth", False, "Enable peer client cert authentication.")
    flags.string("peer-trusted-ca-file", "", "Path to the peer server TLS trusted CA file.")
    flags.bool("experimental-initial-corrupt-check", False, "Enable to check data corruption before serving any client/peer traffic.")
    flags.duration("experimental-watch-progress-notify-interval", 600.0, "Duration of periodic watch progress notifications.")
    flags.duration("watch-progress-notify-interval", 600.0, "Duration of periodic watch progress notifications.")
    flags.mapping("feature-gates", help="A set of key=value pairs that describe server level feature gates.")
    flags.string(
        "auth-token", "simple", "Specify a v3 authentication token type and token specific options, especially for JWT. One of 'simple', 'jwt,…'."
    )
    flags.int("auth-token-ttl", 300, "Time (in seconds) of the auth-token-ttl.")
    flags.int("bcrypt-cost", 10, "Specify the cost / strength of the bcrypt algorithm for hashing auth passwords. Valid values are between 4 and 31.")
    flags.bool("enable-v2", True, "Accept etcd V2 client requests.")
    flags.bool("enable-grpc-gateway", True, "Enable GRPC gateway.")
    flags.string("logger", "zap", "Currently only supports 'zap' for structured logging.")
    flags.string("log-level", "info", "Configures log level. Only supports debug, info, warn, error, panic, or fatal.")
    return flags


def apply_environment(flags: FlagSet, options: Any, environment: Mapping[str, str]) -> None:
    """Take from the environment what the command line did not say. Raises FlagError."""
    for flag in flags.flags.values():
        value = environment.get("ETCD_" + flag.name.upper().replace("-", "_"))
        if not value or flag.name in options.changed:
            continue
        try:
            setattr(options, flag.dest, flag.parse(value))
        except ValueError as error:
            raise FlagError(f'invalid value "{value}" for ETCD_{flag.name.upper().replace("-", "_")}: {error}') from None
        options.changed.add(flag.name)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of one side; empty when it is plain."""

    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    client_cert_auth: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The options, checked."""

    name: str
    data_dir: str
    wal_dir: str
    snapshot_count: int
    max_snapshots: int
    heartbeat_s: float
    election_ticks: int
    tick_advance: bool
    pre_vote: bool
    listen_peer_urls: tuple[str, ...]
    listen_client_urls: tuple[str, ...]
    listen_metrics_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    advertise_peer_urls: tuple[str, ...]
    initial_cluster: str
    new_cluster: bool
    token: str
    quota_bytes: int
    max_txn_ops: int
    max_request_bytes: int
    strict_reconfig: bool
    compact_by_revision: bool
    compact_retention: float  # seconds, or revisions; 0: off
    client_tls: Tls
    peer_tls: Tls
    initial_corrupt_check: bool
    progress_notify_s: float
    log_level: str
    auth_token: str
    token_ttl_s: float
    bcrypt_cost: int
    enable_v2: bool
    enable_grpc_gateway: bool

    @property
    def election_s(self) -> float:
        return self.heartbeat_s * self.election_ticks


def check(options: Any) -> Config:
    """Raises FlagError in upstream's words."""
    heartbeat, election = options.heartbeat_interval, options.election_timeout
    if heartbeat <= 0:
        raise FlagError(f"--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    if election <= 0:
        raise FlagError(f"--election-timeout must be >0 (set to {election}ms)")
    if 5 * heartbeat > election:
        raise FlagError(f"--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]")
    if election > 50000:
        raise FlagError(f"--election-timeout[{election}ms] is too long, and should be set less than 50000ms")
    if options.initial_cluster_state not in ("new", "existing"):
        raise FlagError(f'invalid value "{options.initial_cluster_state}" for flag -initial-cluster-state: must be one of [new existing]')
    if options.logger != "zap":
        raise FlagError(f'unknown logger option "{options.logger}"')
    if options.log_level not in ("debug", "info", "warn", "error", "panic", "fatal"):
        raise FlagError(f'unrecognized level: "{options.log_level}"')
    if options.auto_compaction_mode not in ("periodic", "revision"):
        raise FlagError(f'unknown auto-compaction-mode "{options.auto_compaction_mode}"')
    if not 4 <= options.bcrypt_cost <= 31:
        raise FlagError(f"--bcrypt-cost must be between 4 and 31 (set to {options.bcrypt_cost})")
    for gate, value in options.feature_gates.items():
        if gate not in _FEATURE_GATES:
            raise FlagError(f"unrecognized feature gate: {gate}")
        if value not in ("true", "false"):
            raise FlagError(f"invalid value of {gate}={value}, err: strconv.ParseBool")
    for flag, value in (
        ("snapshot-count", options.snapshot_count),
        ("max-txn-ops", options.max_txn_ops),
        ("max-request-bytes", options.max_request_bytes),
        ("auth-token-ttl", options.auth_token_ttl),
    ):
        if value <= 0:
            raise FlagError(f"--{flag} must be >0 (set to {value})")
    if "listen-client-urls" in options.changed and "advertise-client-urls" not in options.changed:
        raise FlagError("--advertise-client-urls is required when --listen-client-urls is set explicitly")
    name = options.name
    data_dir = options.data_dir or f"{name}.etcd"
    peer_urls = _urls("initial-advertise-peer-urls", options.initial_advertise_peer_urls)
    progress = options.watch_progress_notify_interval
    if "experimental-watch-progress-notify-interval" in options.changed:
        progress = options.experimental_watch_progress_notify_interval
    if progress <= 0:
        raise FlagError("--watch-progress-notify-interval must be >0")
    return Config(
        name=name,
        data_dir=data_dir,
        wal_dir=options.wal_dir or f"{data_dir}/member/wal",
        snapshot_count=options.snapshot_count,
        max_snapshots=options.max_snapshots,
        heartbeat_s=heartbeat / 1000,
        election_ticks=election // heartbeat,
        tick_advance=options.initial_election_tick_advance,
        pre_vote=options.pre_vote,
        listen_peer_urls=_urls("listen-peer-urls", options.listen_peer_urls),
        listen_client_urls=_urls("listen-client-urls", options.listen_client_urls),
        listen_metrics_urls=_urls("listen-metrics-urls", options.listen_metrics_urls),
        advertise_client_urls=_urls("advertise-client-urls", options.advertise_client_urls),
        advertise_peer_urls=peer_urls,
        initial_cluster=options.initial_cluster or ",".join(f"{name}={url}" for url in peer_urls),
        new_cluster=options.initial_cluster_state == "new",
        token=options.initial_cluster_token,
        quota_bytes=DEFAULT_QUOTA_BYTES if options.quota_backend_bytes == 0 else options.quota_backend_bytes,
        max_txn_ops=options.max_txn_ops,
        max_request_bytes=options.max_request_bytes,
        strict_reconfig=options.strict_reconfig_check,
        compact_by_revision=options.auto_compaction_mode == "revision",
        compact_retention=_retention(options.auto_compaction_mode, options.auto_compaction_retention),
        client_tls=Tls(options.cert_file, options.key_file, options.trusted_ca_file, options.client_cert_auth),
        peer_tls=Tls(options.peer_cert_file, options.peer_key_file, options.peer_trusted_ca_file, options.peer_client_cert_auth),
        initial_corrupt_check=options.experimental_initial_corrupt_check or options.feature_gates.get("InitialCorruptCheck") == "true",
        progress_notify_s=progress,
        log_level=options.log_level,
        auth_token=options.auth_token,
        token_ttl_s=float(options.auth_token_ttl),
        bcrypt_cost=options.bcrypt_cost,
        enable_v2=options.enable_v2,
        enable_grpc_gateway=options.enable_grpc_gateway,
    )


def _urls(flag: str, text: str) -> tuple[str, ...]:
    urls = tuple(filter(None, (each.strip() for each in text.split(","))))
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise FlagError(f'invalid value "{text}" for flag -{flag}: URL scheme must be http, https, unix, or unixs: {url}')
        try:
            port = parts.port
        except ValueError:
            port = None
        if port is None:
            raise FlagError(f'invalid value "{text}" for flag -{flag}: URL address does not have the form "host:port": {url}')
        if parts.path not in ("", "/"):
            raise FlagError(f'invalid value "{text}" for flag -{flag}: URL must not contain a path: {url}')
    return urls


def _retention(mode: str, text: str) -> float:
    """Whole hours or a duration; a number of revisions."""
    try:
        if mode == "revision" or text.isdigit():
            return float(int(text)) * (1.0 if mode == "revision" else 3600.0)
        return parse_duration(text)
    except ValueError as error:
        raise FlagError(f"error parsing auto-compaction-retention: {error}") from None
