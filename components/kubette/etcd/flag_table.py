"""Pure: every flag of etcd 3.4 to 3.6: those that are implemented, and those that are refused with the reason.

A refused flag may be said with the values that ask for nothing (upstream's default), so that a complete configuration file is
taken as it is. Upstream's `experimental-` names stand beside the ones that replaced them.
"""

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from kubette.component_base.flags import FlagSet

MAX_UINT32 = (1 << 32) - 1
DEFAULT_SNAPSHOT_COUNT = 10000
DEFAULT_CATCH_UP_ENTRIES = 5000

# The newer name of each experimental flag, and whether the old one has a warning of its own.
RENAMED = {
    "experimental-corrupt-check-time": "corrupt-check-time",
    "experimental-compact-hash-check-time": "compact-hash-check-time",
    "experimental-watch-progress-notify-interval": "watch-progress-notify-interval",
    "experimental-warning-apply-duration": "warning-apply-duration",
    "experimental-warning-unary-request-duration": "warning-unary-request-duration",
    "experimental-max-learners": "max-learners",
    "experimental-snapshot-catchup-entries": "snapshot-catchup-entries",
    "experimental-memory-mlock": "memory-mlock",
    "experimental-peer-skip-client-san-verification": "peer-skip-client-san-verification",
}
GATES_BY_FLAG = {"experimental-initial-corrupt-check": "InitialCorruptCheck", "experimental-compact-hash-check-enabled": "CompactHashCheck"}

_DISCOVERY = "no discovery service is asked: name the members by --initial-cluster"
_PROXY = "the v2 proxy is gone, as upstream since 3.6"
_TRACING = "there is no distributed tracing"
_BACKEND = "the database is written whole, there are no batches of a backend"
_COMPACTION = "a compaction is one step"
_ROTATION = "log files are not rotated: leave that to logrotate or the journal"
_NO_LEASE_CHECKPOINT = "leases are not checkpointed: a new leader gives them their full time"

# Flag -> (values that ask for nothing, why any other is refused).
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "discovery": (("",), _DISCOVERY),
    "discovery-fallback": (("exit", "proxy"), _DISCOVERY),
    "discovery-proxy": (("",), _DISCOVERY),
    "discovery-srv": (("",), _DISCOVERY),
    "discovery-srv-name": (("",), _DISCOVERY),
    "discovery-endpoints": (("",), _DISCOVERY),
    "discovery-token": (("",), _DISCOVERY),
    "discovery-dial-timeout": (("2s",), _DISCOVERY),
    "discovery-request-timeout": (("5s",), _DISCOVERY),
    "discovery-keepalive-time": (("2s",), _DISCOVERY),
    "discovery-keepalive-timeout": (("6s",), _DISCOVERY),
    "discovery-insecure-transport": (("true",), _DISCOVERY),
    "discovery-insecure-skip-tls-verify": (("false",), _DISCOVERY),
    "discovery-cert": (("",), _DISCOVERY),
    "discovery-key": (("",), _DISCOVERY),
    "discovery-cacert": (("",), _DISCOVERY),
    "discovery-user": (("",), _DISCOVERY),
    "discovery-password": (("",), _DISCOVERY),
    "proxy": (("off",), _PROXY),
    "proxy-failure-wait": (("5000",), _PROXY),
    "proxy-refresh-interval": (("30000",), _PROXY),
    "proxy-dial-timeout": (("1000",), _PROXY),
    "proxy-write-timeout": (("5000",), _PROXY),
    "proxy-read-timeout": (("0",), _PROXY),
    "backend-batch-interval": (("", "0", "0s"), _BACKEND),
    "backend-batch-limit": (("0",), _BACKEND),
    "backend-bbolt-freelist-type": (("",), _BACKEND),
    "experimental-backend-bbolt-freelist-type": (("",), _BACKEND),
    "bootstrap-defrag-threshold-megabytes": (("0",), "a database that is read has no holes afterwards"),
    "experimental-bootstrap-defrag-threshold-megabytes": (("0",), "a database that is read has no holes afterwards"),
    "compaction-batch-limit": (("1000",), _COMPACTION),
    "experimental-compaction-batch-limit": (("1000",), _COMPACTION),
    "compaction-sleep-interval": (("10ms",), _COMPACTION),
    "experimental-compaction-sleep-interval": (("10ms",), _COMPACTION),
    "client-cert-file": (("",), "the JSON gateway calls the server directly: it is no client of the client port"),
    "client-key-file": (("",), "the JSON gateway calls the server directly: it is no client of the client port"),
    "downgrade-check-time": (("5s",), "a cluster cannot be downgraded"),
    "experimental-downgrade-check-time": (("5s",), "a cluster cannot be downgraded"),
    "experimental-enable-lease-checkpoint": (("false",), _NO_LEASE_CHECKPOINT),
    "experimental-enable-lease-checkpoint-persist": (("false",), _NO_LEASE_CHECKPOINT),
    "experimental-stop-grpc-service-on-defrag": (("false",), "defragmenting takes no time that calls would have to wait for"),
    "experimental-txn-mode-write-with-shared-buffer": (("true",), _BACKEND),
    "experimental-enable-v2v3": (("",), "the v2 API has a store of its own"),
    "v2-deprecation": (("not-yet",), "the v2 store is kept"),
    "enable-distributed-tracing": (("false",), _TRACING),
    "experimental-enable-distributed-tracing": (("false",), _TRACING),
    "distributed-tracing-address": (("localhost:4317",), _TRACING),
    "experimental-distributed-tracing-address": (("localhost:4317",), _TRACING),
    "distributed-tracing-service-name": (("etcd",), _TRACING),
    "experimental-distributed-tracing-service-name": (("etcd",), _TRACING),
    "distributed-tracing-instance-id": (("",), _TRACING),
    "experimental-distributed-tracing-instance-id": (("",), _TRACING),
    "distributed-tracing-sampling-rate": (("0",), _TRACING),
    "experimental-distributed-tracing-sampling-rate": (("0",), _TRACING),
    "enable-log-rotation": (("false",), _ROTATION),
    "log-rotation-config-json": (('{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}',), _ROTATION),
    "debug": (("false",), "say --log-level=debug"),
    "log-package-levels": (("",), "there is one level for all: --log-level"),
}


def flag_set() -> FlagSet:
    """What the command line, the environment and the configuration file may say."""
    flags = FlagSet("etcd", "etcd: a distributed reliable key-value store.", single_dash=True, positional=True)
    _member(flags)
    _clustering(flags)
    _security(flags)
    _operation(flags)
    for name, newer in RENAMED.items():
        known = flags.flags[newer]
        flags.flags[name] = type(known)(name, known.kind, known.default, f"Use --{newer} instead.", known.parse)
    for name, (neutral, reason) in REFUSED.items():
        flags.custom(name, neutral[0], _refuser(neutral, reason), f"Not supported: {reason}.")
    return flags


def _refuser(neutral: tuple[str, ...], reason: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in neutral:
            raise ValueError(f"not supported: {reason}")
        return text

    return parse


def _member(flags: FlagSet) -> None:
    flags.string("config-file", "", "Path to the server configuration file. If it is given, other flags and environment variables are ignored.")
    flags.string("name", "default", "Human-readable name for this member.")
    flags.string("data-dir", "", "Path to the data directory.")
    flags.string("wal-dir", "", "Path to the dedicated wal directory.")
    flags.uint("snapshot-count", DEFAULT_SNAPSHOT_COUNT, "Number of committed transactions to trigger a snapshot to disk.")
    flags.uint("snapshot-catchup-entries", DEFAULT_CATCH_UP_ENTRIES, "Number of entries kept behind a snapshot for a slow follower.")
    flags.uint("heartbeat-interval", 100, "Time (in milliseconds) of a heartbeat interval.")
    flags.uint("election-timeout", 1000, "Time (in milliseconds) for an election to timeout.")
    flags.bool("initial-election-tick-advance", True, "Whether to fast-forward initial election ticks on boot for faster election.")
    flags.bool("pre-vote", True, "Enable to run an additional Raft election phase.")
    flags.custom("listen-peer-urls", urls("http://localhost:2380"), urls, "List of URLs to listen on for peer traffic.")
    flags.custom("listen-client-urls", urls("http://localhost:2379"), urls, "List of URLs to listen on for client traffic.")
    flags.custom(
        "listen-client-http-urls", (), urls, "List of URLs to listen on for http only client traffic; --listen-client-urls then has gRPC only."
    )
    flags.custom("listen-metrics-urls", (), urls, "List of URLs to listen on for the metrics and health endpoints.")
    flags.uint("max-snapshots", 5, "Maximum number of snapshot files to retain (0 is unlimited).")
    flags.uint("max-wals", 5, "Maximum number of wal files to retain (0 is unlimited).")
    flags.int("quota-backend-bytes", 0, "Raise alarms when backend size exceeds the given quota (0 defaults to low space quota).")
    flags.uint("max-txn-ops", 128, "Maximum number of operations permitted in a transaction.")
    flags.uint("max-request-bytes", 1536 * 1024, "Maximum client request size in bytes the server will accept.")
    flags.custom("max-concurrent-streams", MAX_UINT32, _uint32, "Maximum concurrent streams that each client can open at a time.")
    flags.duration("grpc-keepalive-min-time", 5.0, "Minimum interval that a client should wait before pinging server.")
    flags.duration("grpc-keepalive-interval", 7200.0, "Frequency of server-to-client ping to check if a connection is alive (0 to disable).")
    flags.duration("grpc-keepalive-timeout", 20.0, "Additional wait before closing a non-responsive connection (0 to disable).")
    flags.bool("socket-reuse-port", False, "Set SO_REUSEPORT on listeners, allowing a port already in use.")
    flags.bool("socket-reuse-address", False, "Set SO_REUSEADDR on listeners (which Go's and our listeners always do).")
    flags.duration("raft-read-timeout", 5.0, "Read timeout set on each connection between members.")
    flags.duration("raft-write-timeout", 5.0, "Write timeout set on each connection between members.")


def _clustering(flags: FlagSet) -> None:
    flags.custom(
        "initial-advertise-peer-urls", urls("http://localhost:2380"), urls, "List of this member's peer URLs to advertise to the rest of the cluster."
    )
    flags.string("initial-cluster", "", "Initial cluster configuration for bootstrapping.")
    flags.custom("initial-cluster-state", "new", _cluster_state, "Initial cluster state ('new' when bootstrapping a new cluster, or 'existing').")
    flags.string("initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during bootstrap.")
    flags.custom(
        "advertise-client-urls", urls("http://localhost:2379"), urls, "List of this member's client URLs to advertise to the rest of the cluster."
    )
    flags.bool("strict-reconfig-check", True, "Reject reconfiguration requests that would cause quorum loss.")
    flags.int("max-learners", 1, "The maximum number of learners in the cluster.")
    flags.string("auto-compaction-mode", "periodic", "Interpret 'auto-compaction-retention' one of: 'periodic', 'revision'.")
    flags.string("auto-compaction-retention", "0", "Auto compaction retention length. 0 means disable auto compaction.")
    flags.bool("enable-v2", True, "Accept etcd V2 client requests.")
    flags.bool("enable-grpc-gateway", True, "Enable GRPC gateway.")
    flags.bool("force-new-cluster", False, "Force to create a new one-member cluster.")
    flags.bool("unsafe-no-fsync", False, "Disables fsync, unsafe, will cause data loss.")


def _security(flags: FlagSet) -> None:
    flags.string("cert-file", "", "Path to the client server TLS cert file.")
    flags.string("key-file", "", "Path to the client server TLS key file.")
    flags.bool("client-cert-auth", False, "Enable client cert authentication.")
    flags.string("client-crl-file", "", "Path to the client certificate revocation list file.")
    flags.custom("client-cert-allowed-hostname", (), strings, "Comma-separated list of SAN hostnames for client cert authentication.")
    flags.string("trusted-ca-file", "", "Path to the client server TLS trusted CA cert file.")
    flags.bool("auto-tls", False, "Client TLS using generated certificates.")
    flags.string("peer-cert-file", "", "Path to the peer server TLS cert file.")
    flags.string("peer-key-file", "", "Path to the peer server TLS key file.")
    flags.bool("peer-client-cert-auth", False, "Enable peer client cert authentication.")
    flags.string("peer-client-cert-file", "", "Path to an explicit peer client TLS cert file, otherwise the peer cert file is used.")
    flags.string("peer-client-key-file", "", "Path to an explicit peer client TLS key file, otherwise the peer key file is used.")
    flags.string("peer-trusted-ca-file", "", "Path to the peer server TLS trusted CA file.")
    flags.string("peer-crl-file", "", "Path to the peer certificate revocation list file.")
    flags.custom("peer-cert-allowed-cn", (), strings, "Comma-separated list of allowed CNs for inter-peer TLS authentication.")
    flags.custom("peer-cert-allowed-hostname", (), strings, "Comma-separated list of allowed SAN hostnames for inter-peer TLS authentication.")
    flags.bool("peer-auto-tls", False, "Peer TLS using self-generated certificates if --peer-key-file and --peer-cert-file are not provided.")
    flags.bool("peer-skip-client-san-verification", False, "Skip verification of SAN field in client certificate for peer connections.")
    flags.uint("self-signed-cert-validity", 1, "The validity period of the certificates that --auto-tls and --peer-auto-tls make, in years.")
    flags.custom("cipher-suites", (), strings, "Comma-separated list of supported TLS cipher suites between client/server and peers.")
    flags.string("tls-min-version", "TLS1.2", "Minimum TLS version supported by etcd. Possible values: TLS1.2, TLS1.3.")
    flags.string("tls-max-version", "", "Maximum TLS version supported by etcd. Possible values: TLS1.2, TLS1.3.")
    flags.custom(
        "cors", ("*",), _origins, "Comma-separated whitelist of origins for CORS, or cross-origin resource sharing, (empty or * means allow all)."
    )
    flags.custom(
        "host-whitelist", ("*",), strings, "Acceptable hostnames from HTTP client requests, if server is not secure (empty or * means allow all)."
    )
    flags.string("auth-token", "simple", "Specify a v3 authentication token type and its options ('simple' or 'jwt').")
    flags.uint("auth-token-ttl", 300, "Time (in seconds) of the auth-token-ttl.")
    flags.uint("bcrypt-cost", 10, "Specify the cost of the bcrypt algorithm for hashing auth passwords. Valid values are between 4 and 31.")


def _operation(flags: FlagSet) -> None:
    flags.bool("enable-pprof", False, 'Enable runtime profiling data via HTTP server. Address is at client URL + "/debug/pprof/"')
    flags.string("metrics", "basic", "Set level of detail for exported metrics, specify 'extensive' to include server side grpc histogram metrics.")
    flags.string("logger", "zap", "Currently only supports 'zap' for structured logging.")
    flags.custom("log-outputs", ("default",), strings, "Specify 'stdout' or 'stderr', or a list of comma separated output targets.")
    flags.string("log-level", "info", "Configures log level. Only supports debug, info, warn, error, panic, or fatal.")
    flags.string("log-format", "json", "Configures log format. Only supports json, console.")
    flags.mapping("feature-gates", help="A set of key=value pairs that describe server level feature gates.")
    flags.bool("initial-corrupt-check", False, "Enable to check data corruption before serving any client/peer traffic.")
    flags.bool("experimental-initial-corrupt-check", False, "Use --feature-gates=InitialCorruptCheck=true instead.")
    flags.bool("experimental-compact-hash-check-enabled", False, "Use --feature-gates=CompactHashCheck=true instead.")
    flags.duration("corrupt-check-time", 0.0, "Duration of time between cluster corruption check passes.")
    flags.duration("compact-hash-check-time", 60.0, "Duration of time between leader checks followers compaction hashes.")
    flags.duration("watch-progress-notify-interval", 600.0, "Duration of periodic watch progress notifications.")
    flags.duration("warning-apply-duration", 0.1, "Warning is generated if requests take more than this duration to be applied.")
    flags.duration("warning-unary-request-duration", 0.3, "Warning is generated if a unary request takes more time.")
    flags.bool("memory-mlock", False, "Enable to enforce etcd pages to stay in RAM.")


def deprecations(changed: set[str]) -> list[str]:
    """Upstream's warnings for what was said by an older name."""
    lines = [
        f"--{name} is deprecated in v3.6 and will be decommissioned in v3.7. Use '--{newer}' instead."
        for name, newer in RENAMED.items()
        if name in changed
    ]
    lines += [
        f"--{name} is deprecated in v3.6 and will be decommissioned in v3.7. Use '--feature-gates={gate}=true' instead."
        for name, gate in GATES_BY_FLAG.items()
        if name in changed
    ]
    lines += [f"--{name} is deprecated in 3.6 and will be decommissioned in 3.7." for name in ("snapshot-count", "max-snapshots") if name in changed]
    return lines


# Forms of values


def strings(text: str) -> tuple[str, ...]:
    """A comma-separated list without repetitions."""
    return tuple(dict.fromkeys(filter(None, (each.strip() for each in text.split(",")))))


def urls(text: str) -> tuple[str, ...]:
    """URLs of listeners or members. Raises ValueError with upstream's words."""
    found = strings(text)
    for url in found:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "unix", "unixs"):
            raise ValueError(f"URL scheme must be http, https, unix, or unixs: {url}")
        if parts.scheme in ("unix", "unixs"):
            continue
        try:
            port = parts.port
        except ValueError:
            port = None
        if port is None:
            raise ValueError(f'URL address does not have the form "host:port": {url}')
        if parts.path:
            raise ValueError(f"URL must not contain a path: {url}")
    return found


def check_bindable(found: tuple[str, ...]) -> None:
    """Raises ValueError unless each URL names an address of this machine, not a name."""
    for url in found:
        parts = urlsplit(url)
        if parts.scheme in ("unix", "unixs") or parts.hostname == "localhost":
            continue
        try:
            ipaddress.ip_address(parts.hostname or "")
        except ValueError:
            raise ValueError(f"expected IP in URL for binding ({url})") from None


def _origins(text: str) -> tuple[str, ...]:
    return ("*",) if strings(text) in ((), ("*",)) else urls(text)


def _cluster_state(text: str) -> str:
    if text not in ("new", "existing"):
        raise ValueError("invalid value")
    return text


def _uint32(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > MAX_UINT32:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)
