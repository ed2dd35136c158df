"""Pure: the options, checked once. What passes needs no further validation; what does not is refused in upstream's words."""

from dataclasses import dataclass
from typing import Any

from kubette.component_base.flags import FlagError, parse_bool, parse_duration
from kubette.etcd import flag_table, tls_names

DEFAULT_QUOTA_BYTES = 2 << 30
MAX_ELECTION_MS = 50000
MIN_PEER_TIMEOUT_S = 5.0
_GATES = frozenset({"InitialCorruptCheck", "CompactHashCheck"})
# Gates whose default is how we are: saying so is not asking for anything.
_FIXED_GATES = {
    "LeaseCheckpoint": False,
    "LeaseCheckpointPersist": False,
    "SetMemberLocalAddr": False,
    "StopGRPCServiceOnDefrag": False,
    "TxnModeWriteWithSharedBuffer": True,
}


@dataclass(frozen=True, slots=True)
class Tls:
    """One side's files and rules; without files it is plain."""

    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    client_cert_file: str = ""  # for calling others, where it is another than the server's
    client_key_file: str = ""
    auto: bool = False  # make a certificate when there is none
    skip_san_verification: bool = False
    ciphers: str = ""  # OpenSSL's names
    min_version: str = "TLS1.2"
    max_version: str = ""


@dataclass(frozen=True, slots=True)
class Logging:
    """Where log lines go, and which."""

    level: str = "info"
    format: str = "json"
    outputs: tuple[str, ...] = ("default",)


@dataclass(frozen=True, slots=True)
class Keepalive:
    """How connections of clients are kept alive: seconds, 0 is off."""

    min_time_s: float = 5.0
    interval_s: float = 7200.0
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Config:
    """The options, checked."""

    name: str
    data_dir: str
    wal_dir: str
    snapshot_count: int
    catch_up_entries: int
    max_snapshots: int
    max_wals: int
    heartbeat_s: float
    election_ticks: int
    tick_advance: bool
    pre_vote: bool
    listen_peer_urls: tuple[str, ...]
    listen_client_urls: tuple[str, ...]
    listen_client_http_urls: tuple[str, ...]
    listen_metrics_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    advertise_peer_urls: tuple[str, ...]
    initial_cluster: str
    new_cluster: bool
    token: str
    force_new_cluster: bool
    fsync: bool
    quota_bytes: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    max_learners: int
    keepalive: Keepalive
    reuse_port: bool
    peer_read_timeout_s: float
    peer_write_timeout_s: float
    strict_reconfig: bool
    compact_by_revision: bool
    compact_retention: float  # seconds, or revisions; 0: off
    client_tls: Tls
    peer_tls: Tls
    certificate_years: int
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]
    initial_corrupt_check: bool
    corrupt_check_s: float  # 0: never
    compact_hash_check_s: float  # 0: never
    progress_notify_s: float
    slow_apply_s: float
    slow_call_s: float
    logging: Logging
    extensive_metrics: bool
    pprof: bool
    memory_lock: bool
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
    for name, newer in flag_table.RENAMED.items():
        if name in options.changed:
            setattr(options, newer.replace("-", "_"), getattr(options, name.replace("-", "_")))
    heartbeat, election = options.heartbeat_interval, options.election_timeout
    _check_times(heartbeat, election)
    _check_words(options)
    _check_urls(options)
    gates = _gates(options)
    name = options.name
    data_dir = options.data_dir or f"{name}.etcd"
    peer_urls = options.initial_advertise_peer_urls
    return Config(
        name=name,
        data_dir=data_dir,
        wal_dir=options.wal_dir or f"{data_dir}/member/wal",
        snapshot_count=options.snapshot_count or flag_table.DEFAULT_SNAPSHOT_COUNT,
        catch_up_entries=options.snapshot_catchup_entries or flag_table.DEFAULT_CATCH_UP_ENTRIES,
        max_snapshots=options.max_snapshots,
        max_wals=options.max_wals,
        heartbeat_s=heartbeat / 1000,
        election_ticks=election // heartbeat,
        tick_advance=options.initial_election_tick_advance,
        pre_vote=options.pre_vote,
        listen_peer_urls=options.listen_peer_urls,
        listen_client_urls=options.listen_client_urls,
        listen_client_http_urls=options.listen_client_http_urls,
        listen_metrics_urls=options.listen_metrics_urls,
        advertise_client_urls=options.advertise_client_urls,
        advertise_peer_urls=peer_urls,
        initial_cluster=options.initial_cluster or ",".join(f"{name}={url}" for url in peer_urls),
        new_cluster=options.initial_cluster_state == "new",
        token=options.initial_cluster_token,
        force_new_cluster=options.force_new_cluster,
        fsync=not options.unsafe_no_fsync,
        quota_bytes=DEFAULT_QUOTA_BYTES if options.quota_backend_bytes == 0 else options.quota_backend_bytes,
        max_txn_ops=options.max_txn_ops,
        max_request_bytes=options.max_request_bytes,
        max_concurrent_streams=options.max_concurrent_streams,
        max_learners=options.max_learners,
        keepalive=Keepalive(options.grpc_keepalive_min_time, options.grpc_keepalive_interval, options.grpc_keepalive_timeout),
        reuse_port=options.socket_reuse_port,
        peer_read_timeout_s=max(options.raft_read_timeout, MIN_PEER_TIMEOUT_S),
        peer_write_timeout_s=max(options.raft_write_timeout, MIN_PEER_TIMEOUT_S),
        strict_reconfig=options.strict_reconfig_check,
        compact_by_revision=options.auto_compaction_mode == "revision",
        compact_retention=_retention(options.auto_compaction_mode, options.auto_compaction_retention),
        client_tls=_client_tls(options),
        peer_tls=_peer_tls(options),
        certificate_years=options.self_signed_cert_validity,
        cors=options.cors,
        host_whitelist=options.host_whitelist or ("*",),
        initial_corrupt_check=options.initial_corrupt_check or gates["InitialCorruptCheck"],
        corrupt_check_s=options.corrupt_check_time,
        compact_hash_check_s=options.compact_hash_check_time if gates["CompactHashCheck"] else 0.0,
        progress_notify_s=options.watch_progress_notify_interval,
        slow_apply_s=options.warning_apply_duration,
        slow_call_s=options.warning_unary_request_duration,
        logging=Logging(options.log_level, options.log_format, options.log_outputs or ("default",)),
        extensive_metrics=options.metrics == "extensive",
        pprof=options.enable_pprof,
        memory_lock=options.memory_mlock,
        auth_token=options.auth_token,
        token_ttl_s=float(options.auth_token_ttl or 300),
        bcrypt_cost=options.bcrypt_cost,
        enable_v2=options.enable_v2,
        enable_grpc_gateway=options.enable_grpc_gateway,
    )


def _check_times(heartbeat: int, election: int) -> None:
    if heartbeat == 0:
        raise FlagError(f"--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    if election == 0:
        raise FlagError(f"--election-timeout must be >0 (set to {election}ms)")
    if 5 * heartbeat > election:
        raise FlagError(f"--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]")
    if election > MAX_ELECTION_MS:
        raise FlagError(f"--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms")


def _check_words(options: Any) -> None:
    if options.initial_cluster_state not in ("new", "existing"):
        raise FlagError(f'unexpected clusterState "{options.initial_cluster_state}"')
    if options.logger == "capnslog":
        raise FlagError("--logger=capnslog is removed in v3.5")
    if options.logger != "zap":
        raise FlagError(f'unknown logger option "{options.logger}"')
    if options.log_level not in ("debug", "info", "warn", "error", "panic", "fatal"):
        raise FlagError(f'unrecognized level: "{options.log_level}"')
    if options.log_format not in ("json", "console"):
        raise FlagError(f"unknown log format: {options.log_format}, supported values json, console")
    if "systemd/journal" in options.log_outputs:
        raise FlagError("systemd/journal is not supported as a log output: what a unit writes to stderr is in the journal")
    if len(options.log_outputs) > 1 and "default" in options.log_outputs:
        raise FlagError('multi logoutput for "default" is not supported yet')
    if options.metrics not in ("basic", "extensive"):
        raise FlagError(f'unknown metrics level "{options.metrics}" (must be one of: basic, extensive)')
    if not options.auto_compaction_mode:
        raise FlagError("undefined auto-compaction-mode")
    if options.auto_compaction_mode not in ("periodic", "revision"):
        raise FlagError(f'unknown auto-compaction-mode "{options.auto_compaction_mode}"')
    if not 4 <= options.bcrypt_cost <= 31:
        raise FlagError(f"--bcrypt-cost must be between 4 and 31 (set to {options.bcrypt_cost})")
    if options.compact_hash_check_time <= 0:
        raise FlagError(f"--compact-hash-check-time must be >0 (set to {options.compact_hash_check_time:g}s)")
    if options.watch_progress_notify_interval <= 0:
        raise FlagError("--watch-progress-notify-interval must be >0")
    if (options.auto_tls or options.peer_auto_tls) and options.self_signed_cert_validity == 0:
        raise FlagError("selfSignedCertValidity is invalid,it should be greater than 0")


def _check_urls(options: Any) -> None:
    try:
        for found in (options.listen_peer_urls, options.listen_client_urls, options.listen_client_http_urls, options.listen_metrics_urls):
            flag_table.check_bindable(found)
    except ValueError as error:
        raise FlagError(str(error)) from None
    if "listen-client-urls" in options.changed and "advertise-client-urls" not in options.changed and not options.config_file:
        raise FlagError("--advertise-client-urls is required when --listen-client-urls is set explicitly")


def _gates(options: Any) -> dict[str, bool]:
    gates = dict.fromkeys(_GATES, False)
    for gate, text in options.feature_gates.items():
        if gate not in _GATES and gate not in _FIXED_GATES:
            raise FlagError(f"unrecognized feature gate: {gate}")
        try:
            value = parse_bool(text)
        except ValueError as error:
            raise FlagError(f"invalid value of {gate}={text}, err: {error}") from None
        if gate in _FIXED_GATES and value is not _FIXED_GATES[gate]:
            raise FlagError(f"cannot set feature gate {gate} to {text}, feature is locked to {str(_FIXED_GATES[gate]).lower()}")
        if gate in _GATES:
            gates[gate] = value
    for flag, gate in flag_table.GATES_BY_FLAG.items():
        if flag in options.changed and gate in options.feature_gates:
            raise FlagError(f"cannot specify both flags: --{flag} and --feature-gates={gate}; please just use --feature-gates={gate}")
        gates[gate] = gates[gate] or bool(getattr(options, flag.replace("-", "_")))
    return gates


def _client_tls(options: Any) -> Tls:
    return Tls(
        options.cert_file,
        options.key_file,
        options.trusted_ca_file,
        options.client_cert_auth,
        options.client_crl_file,
        tuple(getattr(options, "client_cert_allowed_cn", ())),  # which the configuration file alone can say
        options.client_cert_allowed_hostname,
        auto=options.auto_tls,
        **_versions(options),
    )


def _peer_tls(options: Any) -> Tls:
    if bool(options.peer_client_cert_file) != bool(options.peer_client_key_file):
        raise FlagError(
            "ClientKeyFile and ClientCertFile must both be present or both absent: "
            f"key: {options.peer_client_key_file}, cert: {options.peer_client_cert_file}]"
        )
    if options.peer_cert_allowed_cn and options.peer_cert_allowed_hostname:
        cns, names = (" ".join(f'"{each}"' for each in some) for some in (options.peer_cert_allowed_cn, options.peer_cert_allowed_hostname))
        raise FlagError(f"AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{cns}], hostnames=[{names}])")
    return Tls(
        options.peer_cert_file,
        options.peer_key_file,
        options.peer_trusted_ca_file,
        options.peer_client_cert_auth,
        options.peer_crl_file,
        options.peer_cert_allowed_cn,
        options.peer_cert_allowed_hostname,
        options.peer_client_cert_file,
        options.peer_client_key_file,
        options.peer_auto_tls,
        options.peer_skip_client_san_verification,
        **_versions(options),
    )


def _versions(options: Any) -> dict[str, Any]:
    """Ciphers and versions, which both sides share."""
    for version in (options.tls_min_version, options.tls_max_version):
        if version not in ("", "TLS1.2", "TLS1.3"):
            raise FlagError(f'unexpected TLS version "{version}" (must be one of: TLS1.2, TLS1.3)')
    lowest, highest = options.tls_min_version, options.tls_max_version
    if highest and lowest > highest:
        raise FlagError(f"min version ({lowest}) is greater than max version ({highest})")
    if lowest == "TLS1.3" and options.cipher_suites:
        raise FlagError("cipher suites cannot be configured when only TLS1.3 is enabled")
    try:
        ciphers = tls_names.openssl_ciphers(options.cipher_suites)
    except ValueError as error:
        raise FlagError(str(error)) from None
    return {"ciphers": ciphers, "min_version": lowest, "max_version": highest}


def _retention(mode: str, text: str) -> float:
    """Whole hours or a duration; a number of revisions."""
    try:
        if mode == "revision" or text.isdigit():
            return float(int(text)) * (1.0 if mode == "revision" else 3600.0)
        return parse_duration(text)
    except ValueError as error:
        raise FlagError(f"error parsing auto-compaction-retention: {error}") from None
