"""`check perf|datascale`: puts at a given rate, or a given number of them; what that did to the server, judged by upstream's limits."""

import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang, printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import Connection, without_brackets
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, Exit
from kubette.etcdctl.keys import encoded

_ALIASES = {"s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l", "xl": "xl", "xLarge": "xl"}
_PERF = {"s": (150, 50), "m": (1000, 200), "l": (8000, 500), "xl": (15000, 1000)}  # puts a second, clients
_PERF_S = 60
_DATASCALE = {"s": (10_000, 50), "m": (100_000, 200), "l": (1_000_000, 500), "xl": (3_000_000, 1000)}  # keys, clients
_PAIR_BYTES = 1024
_KEY_BYTES = {"perf": 256, "datascale": 512}
_VALUE_BYTES = {"perf": 1024, "datascale": 512}
_WORKERS_MAX = 64  # threads of this process; more only wait for the interpreter
_LONG_S = 30.0
_RESIDENT = "process_resident_memory_bytes"


@dataclass(slots=True)
class _Report:
    """How the puts went."""

    durations: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.durations) / self.seconds if self.seconds else 0.0


def _load(context: Context, table: dict[str, tuple[int, int]]) -> tuple[int, int]:
    model = _ALIASES.get(context.options.load)
    if model is None:
        raise CommandError(f"unknown load option {context.options.load}", Exit.BAD_FEATURE)
    return table[model]


def _refuse_used(context: Context, prefix: bytes) -> None:
    found = context.call("KV/Range", pb.RangeRequest(key=prefix, range_end=printers.prefix_end(prefix), limit=1), pb.RangeResponse)
    if found.kvs:
        text = prefix.decode("utf-8", "surrogateescape")
        raise CommandError(f"prefix {golang.quote(text)} has keys. Delete with etcdctl del --prefix {text} first", Exit.INVALID_INPUT)


def _put_all(context: Context, kind: str, prefix: bytes, workers: int, turns: Iterator[None]) -> _Report:
    """One put a turn, by as many workers; durations and errors of all."""
    report = _Report()
    lock = threading.Lock()
    source = random.Random()

    def work() -> None:
        connection = Connection(context.settings)
        value = bytes(_VALUE_BYTES[kind])
        while True:
            with lock:
                if next(turns, False) is False:
                    return
                key = prefix + source.randbytes(9).ljust(_KEY_BYTES[kind], b"\0")
            start = time.monotonic()
            try:
                connection.call("KV/Put", pb.PutRequest(key=key, value=value), pb.PutResponse)
                problem = ""
            except CommandError as error:
                problem = str(error)
            took = time.monotonic() - start
            with lock:
                if problem:
                    report.errors[problem] += 1
                else:
                    report.durations.append(took)

    threads = [threading.Thread(target=work) for _ in range(min(workers, _WORKERS_MAX))]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report.seconds = time.monotonic() - start
    return report


def _at_rate(per_second: int, seconds: float, tell: Callable[[float], None]) -> Iterator[None]:
    """Turns at a steady rate, for a time."""
    start = time.monotonic()
    for number in range(int(per_second * seconds)):
        due = start + number / per_second
        now = time.monotonic()
        if now > start + seconds:
            return
        time.sleep(max(0.0, due - now))
        if number % per_second == 0:
            tell(number / per_second / seconds)
        yield


def _bar(done: float) -> None:
    width = 60
    print(f"\r [{'o' * int(done * width):<{width}}] {done:.2%}", end="", file=sys.stderr, flush=True)


def _clean_up(context: Context, prefix: bytes) -> None:
    request = pb.DeleteRangeRequest(key=prefix, range_end=printers.prefix_end(prefix))
    revision = context.call("KV/DeleteRange", request, pb.DeleteRangeResponse, timeout_s=_LONG_S).header.revision
    if context.options.auto_compact:
        print(f"Compacting with revision {revision}")
        context.call("KV/Compact", pb.CompactionRequest(revision=revision, physical=True), pb.CompactionResponse, timeout_s=_LONG_S)
        print(f"Compacted with revision {revision}")
    if context.options.auto_defrag:
        for endpoint in context.settings.endpoints:
            print(f"Defragmenting {golang.quote(endpoint)}")
            context.call("Maintenance/Defragment", pb.DefragmentRequest(), pb.DefragmentResponse, timeout_s=_LONG_S, endpoint=endpoint)
            print(f"Defragmented {golang.quote(endpoint)}")


def _perf(context: Context) -> None:
    rate, clients = _load(context, _PERF)
    prefix = encoded(context.options.prefix)
    _refuse_used(context, prefix)
    report = _put_all(context, "perf", prefix, clients, _at_rate(rate, _PERF_S, _bar))
    _bar(1.0)
    print(file=sys.stderr)
    _clean_up(context, prefix)
    good = _no_errors(report)
    slowest = max(report.durations, default=0.0)
    deviation = statistics.pstdev(report.durations) if report.durations else 0.0
    for holds, passed, failed in (
        (
            report.rate / rate > 0.9,
            f"PASS: Throughput is {int(report.rate) + 1} writes/s",
            f"FAIL: Throughput too low: {int(report.rate) + 1} writes/s",
        ),
        (slowest <= 0.5, f"PASS: Slowest request took {slowest:f}s", f"Slowest request took too long: {slowest:f}s"),
        (deviation <= 0.1, f"PASS: Stddev is {deviation:f}s", f"Stddev too high: {deviation:f}s"),
    ):
        print(passed if holds else failed)
        good = good and holds
    print("PASS" if good else "FAIL")
    if not good:
        raise CommandError("")


def _no_errors(report: _Report) -> bool:
    if report.errors:
        print("FAIL: too many errors")
        for text, count in report.errors.items():
            print(f"FAIL: ERROR({text}) -> {count}")
    return not report.errors


def _datascale(context: Context) -> None:
    limit, clients = _load(context, _DATASCALE)
    prefix = encoded(context.options.prefix)
    _refuse_used(context, prefix)
    before = _resident_bytes(context, "before")
    print(f"Start data scale check for work load [{limit} key-value pairs, {_PAIR_BYTES} bytes per key-value, {clients} concurrent clients].")
    report = _put_all(context, "datascale", prefix, clients, (None for _ in range(limit)))
    after = _resident_bytes(context, "after")
    _clean_up(context, prefix)
    if not _no_errors(report):
        raise CommandError("")
    print(f"PASS: Approximate system memory used : {(after - before) / (1 << 20):.2f} MB.")


def _resident_bytes(context: Context, when: str) -> float:
    """The server's resident memory, by its metrics."""
    import ssl
    import urllib.request

    settings = context.settings
    endpoint = without_brackets(settings.endpoints[0])
    url = (endpoint if "://" in endpoint else f"http://{endpoint}") + "/metrics"
    try:
        tls = None
        if url.startswith("https:"):
            tls = ssl.create_default_context(cafile=settings.cacert or None)
            if settings.insecure_skip_tls_verify:
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            if settings.cert:
                tls.load_cert_chain(settings.cert, settings.key)
        with urllib.request.urlopen(url, timeout=settings.command_timeout_s, context=tls) as answer:
            lines = answer.read(16 << 20).decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(_RESIDENT))
    except StopIteration:
        print(f"could not find: {_RESIDENT}")
    except (OSError, ValueError) as error:
        print(f"fetch error: {error}")
    print(f"FAIL: Could not read {_RESIDENT} {when} the put operations.")
    raise CommandError("")


def _flags(kind: str) -> Callable[[FlagSet], None]:
    def declare(flags: FlagSet) -> None:
        title = "performance" if kind == "perf" else "datascale"
        flags.string("load", "s", f"The {title} check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)")
        flags.string("prefix", f"/etcdctl-check-{kind}/", f"The prefix for writing the {title} check's keys.")
        flags.bool("auto-compact", False, "Compact storage with last revision after test is finished.")
        flags.bool("auto-defrag", False, "Defragment storage after test is finished.")

    return declare


CHECK = Command(
    "check <subcommand>",
    "commands for checking properties of the etcd cluster",
    commands=(
        Command("perf [options]", "Check the performance of the etcd cluster", _perf, _flags("perf")),
        Command(
            "datascale [options]",
            "Check the memory usage of holding data for different workloads on a given server endpoint.",
            _datascale,
            _flags("datascale"),
            long="If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.",
        ),
    ),
)
