"""etcd measured beside the real one: latency, throughput, restart and memory, in one run and as ratios.

Both are started with the same flags, on plain HTTP, on the same disk, one after the other; the client is `grpc_load`.
"""

import contextlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import grpc_load
from benchmarks.grpc_load import Channel, LoadError

PUT, RANGE, TXN, WATCH = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn", "/etcdserverpb.Watch/Watch"
START_TIMEOUT_S = 120.0
VALUE = b"x" * 256
WATCHERS = 20
TXN_PUTS = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; `--quick` only shows that it works."""

    sequential: int = 1000
    parallel: int = 20_000
    ranged: int = 10_000
    watched: int = 300
    kilobytes: int = 100_000
    idle_s: float = 20.0


QUICK = Sizes(sequential=50, parallel=1000, ranged=1000, watched=20, kilobytes=1000, idle_s=0.3)
MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `bound` is that of ours ÷ real, or of ours alone, and says which side of it is good."""

    title: str
    unit: str
    bound: str = ""
    absolute: bool = False

    def verdict(self, ours: float, real: float | None) -> str:
        if not self.bound:
            return ""
        value = ours if self.absolute else (ours / real if real else None)
        if value is None:
            return self.bound
        limit = float(self.bound.split()[1])
        return f"{self.bound}: {'met' if (value <= limit if self.bound[0] == '≤' else value >= limit) else 'MISSED'}"


ROWS = {
    "put": Row("put, one client, p50", "ms", "≤ 3"),
    "puts": Row("puts, 100 clients, 2 connections", "1/s", "≥ 0.35"),
    "puts_apart": Row("puts, 100 clients, 100 connections", "1/s", "≥ 0.35"),
    "gets": Row("linearizable gets, 100 clients, 2 connections", "1/s", "≥ 0.35"),
    "gets_apart": Row("linearizable gets, 100 clients, 100 connections", "1/s", "≥ 0.35"),
    "range": Row("range of {ranged:,} keys, p50", "ms", "≤ 4"),
    "watch": Row("watch delay, 20 watchers on one connection, p50", "ms", "≤ 3"),
    "watch_apart": Row("watch delay, 20 watchers on 20 connections, p50", "ms", "≤ 3"),
    "put3": Row("three members: put, one client, p50", "ms", "≤ 4"),
    "puts3": Row("three members: puts, 100 clients, 6 connections", "1/s", "≥ 0.35"),
    "restart": Row("{kilobytes:,} keys of 1 KB: restart", "s", "≤ 4", absolute=True),
    "resident": Row("{kilobytes:,} keys of 1 KB: resident", "MB", "≤ 400", absolute=True),
    "many_load": Row("1,000,000 small keys: put, 100 in a transaction", "s"),
    "many_restart": Row("1,000,000 small keys: restart", "s"),
    "many_resident": Row("1,000,000 small keys: resident", "MB"),
    "idle_rss": Row("idle member: resident", "MB", "≤ 45", absolute=True),
    "idle_pss": Row("idle member: proportional share", "MB"),
    "idle_cpu": Row("idle member: processor, % of a core", "%", "≤ 1", absolute=True),
    "idle3_rss": Row("idle member of three: resident", "MB", "≤ 45", absolute=True),
    "idle3_cpu": Row("idle member of three: processor, % of a core", "%", "≤ 1", absolute=True),
}


class Member:
    """One process."""

    def __init__(self, program: list[str], directory: Path, name: str, urls: tuple[str, str], cluster: str) -> None:
        self.url, peer = urls
        self._log = directory / f"{name}.log"
        self._command = [
            *program, f"--name={name}", f"--data-dir={directory / name}", f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={cluster}", "--log-level=error",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self.ps = psutil.Process(self._process.pid)

    def wait_serving(self) -> None:
        """Until it answers a linearizable read."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                channel = Channel(self.url, RANGE)
                try:
                    channel.call(grpc_load.field(1, b"/"))
                finally:
                    channel.close()
                return
            except (OSError, LoadError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise LoadError(f"{self._command[0]} does not serve: {error}\n{self._log.read_text()[-3000:]}") from error
                time.sleep(0.01)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def restart(self) -> float:
        """Stop it, start it; answers the seconds from the start to the first answer."""
        self.stop()
        began = time.monotonic()
        self.start()
        self.wait_serving()
        return time.monotonic() - began

    @property
    def resident_mb(self) -> float:
        return float(self.ps.memory_info().rss) / 2**20


def _free_urls(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"http://127.0.0.1:{each.getsockname()[1]}" for each in sockets]


@contextlib.contextmanager
def cluster(program: list[str], count: int) -> Iterator[list[Member]]:
    """Members with an empty data directory; all of it goes when the block is left."""
    directory = Path(tempfile.mkdtemp(prefix="kubette-bench-etcd-"))
    urls = _free_urls(2 * count)
    pairs = list(zip(urls[::2], urls[1::2], strict=True))
    named = ",".join(f"m{number}={peer}" for number, (_, peer) in enumerate(pairs))
    members: list[Member] = []
    try:
        members += [Member(program, directory, f"m{number}", pair, named) for number, pair in enumerate(pairs)]
        for member in members:
            member.wait_serving()
        yield members
    finally:
        for member in members:
            member.stop()
        shutil.rmtree(directory, ignore_errors=True)


def put_message(prefix: bytes, number: int, value: bytes) -> bytes:
    return grpc_load.field(1, b"%s%08d" % (prefix, number)) + grpc_load.field(2, value)


def put_messages(prefix: bytes, value: bytes) -> Callable[[int, int], Iterator[bytes]]:
    return lambda first, step: (put_message(prefix, number, value) for number in range(first, sys.maxsize, step))


def get_messages(prefix: bytes, count: int) -> Callable[[int, int], Iterator[bytes]]:
    return lambda first, step: (grpc_load.field(1, b"%s%08d" % (prefix, number % count)) for number in range(first, sys.maxsize, step))


def txn_messages(prefix: bytes, value: bytes) -> Callable[[int, int], Iterator[bytes]]:
    """Transactions of TXN_PUTS puts."""

    def txn(number: int) -> bytes:
        puts = (put_message(prefix, each, value) for each in range(number * TXN_PUTS, (number + 1) * TXN_PUTS))
        return b"".join(grpc_load.field(2, grpc_load.field(2, put)) for put in puts)

    return lambda first, step: (txn(number) for number in range(first, sys.maxsize, step))


@dataclass
class Measurement:
    """Of one etcd. `figures` are by the names of ROWS; `client_cores` is what the busiest load process ever used."""

    program: list[str]
    sizes: Sizes
    figures: dict[str, float] = field(default_factory=dict)
    client_cores: float = 0.0

    def _rate(self, urls: list[str], path: str, messages: Callable[[int, int], Iterator[bytes]], connections: int) -> float:
        result = grpc_load.load(urls, path, messages, self.sizes.parallel, connections, 100 // connections * connections)
        self.client_cores = max(self.client_cores, result.client_cores)
        return result.per_s

    def _put_p50_ms(self, members: list[Member]) -> float:
        """One client, one put after another, at each member in turn."""
        channels = [Channel(member.url, PUT) for member in members]
        seconds = [channels[n % len(channels)].call(put_message(b"/one/", n, VALUE)) for n in range(self.sizes.sequential)]
        for channel in channels:
            channel.close()
        return statistics.median(seconds) * 1000

    def alone(self) -> None:
        """One member: speed."""
        sizes, figures = self.sizes, self.figures
        with cluster(self.program, 1) as members:
            urls = [members[0].url]
            self._put_p50_ms(members)  # not counted: both warm up
            figures["put"] = self._put_p50_ms(members)
            figures["puts"] = self._rate(urls, PUT, put_messages(b"/puts/", VALUE), 2)
            figures["puts_apart"] = self._rate(urls, PUT, put_messages(b"/more/", VALUE), 100)
            figures["gets"] = self._rate(urls, RANGE, get_messages(b"/puts/", sizes.parallel), 2)
            figures["gets_apart"] = self._rate(urls, RANGE, get_messages(b"/puts/", sizes.parallel), 100)
            ranged = grpc_load.field(1, b"/puts/") + grpc_load.field(2, b"/puts/%08d" % sizes.ranged)
            channel = Channel(urls[0], RANGE)
            figures["range"] = statistics.median(channel.call(ranged) for _ in range(7)) * 1000
            channel.close()
            figures["watch"] = self._watch_p50_ms(urls[0], connections=1)
            figures["watch_apart"] = self._watch_p50_ms(urls[0], connections=WATCHERS)

    def _watch_p50_ms(self, url: str, connections: int) -> float:
        """From the moment a put is sent until the watchers of each connection have the event."""
        create = grpc_load.field(1, grpc_load.field(1, b"/watched/") + grpc_load.field(2, b"/watched0"))
        watchers = [Channel(url, WATCH) for _ in range(connections)]
        streams = WATCHERS // connections
        for watcher in watchers:
            for _ in range(streams):
                watcher.socket.sendall(watcher.request(create, end=False))
                _await_data(watcher, b"", 1)
        putter = Channel(url, PUT)
        delays: list[float] = []
        for number in range(self.sizes.watched):
            request = putter.request(put_message(b"/watched/", number, VALUE))
            began = time.perf_counter()
            putter.socket.sendall(request)
            for watcher in watchers:
                _await_data(watcher, b"/watched/%08d" % number, streams)
                delays.append(time.perf_counter() - began)
            while not putter.receive():
                pass
        for channel in (*watchers, putter):
            channel.close()
        return statistics.median(delays) * 1000

    def together(self) -> None:
        """Three members: idleness, then speed."""
        with cluster(self.program, 3) as members:
            self.figures["idle3_rss"], _, self.figures["idle3_cpu"] = self._idle(members)
            self._put_p50_ms(members)
            self.figures["put3"] = self._put_p50_ms(members)
            self.figures["puts3"] = self._rate([member.url for member in members], PUT, put_messages(b"/puts/", VALUE), 6)

    def idle(self) -> None:
        with cluster(self.program, 1) as members:
            self.figures["idle_rss"], self.figures["idle_pss"], self.figures["idle_cpu"] = self._idle(members)

    def _idle(self, members: list[Member]) -> tuple[float, float, float]:
        """Resident and proportional MB, and % of a core: of the largest and the busiest."""
        time.sleep(min(3.0, self.sizes.idle_s))  # what a member does in its first seconds is not idling
        before = [member.ps.cpu_times() for member in members]
        time.sleep(self.sizes.idle_s)
        after = [member.ps.cpu_times() for member in members]
        used = max(late.user + late.system - early.user - early.system for early, late in zip(before, after, strict=True))
        pss = max(member.ps.memory_full_info().pss for member in members) / 2**20
        return max(member.resident_mb for member in members), pss, max(used, 0.0) / self.sizes.idle_s * 100

    def full(self) -> None:
        """Many keys of a kilobyte: restart and memory."""
        with cluster(self.program, 1) as members:
            grpc_load.load([members[0].url], PUT, put_messages(b"/kilobyte/", b"x" * 1024), self.sizes.kilobytes, 2, 100)
            self.figures["restart"] = members[0].restart()
            self.figures["resident"] = members[0].resident_mb

    def many(self) -> None:
        """A million small keys: loading them, restart and memory."""
        with cluster(self.program, 1) as members:
            began = time.monotonic()
            grpc_load.load([members[0].url], TXN, txn_messages(b"/small/", b"x" * 16), MANY // TXN_PUTS, 2, 20)
            self.figures["many_load"] = time.monotonic() - began
            self.figures["many_restart"] = members[0].restart()
            self.figures["many_resident"] = members[0].resident_mb


def _await_data(channel: Channel, wanted: bytes, times: int) -> None:
    got = bytearray()
    while not got or got.count(wanted) < times:
        channel.receive(got.extend)


def measure(quick: bool, big: bool) -> bool:
    """Print the table; answers whether every bound holds."""
    sizes = QUICK if quick else Sizes()
    real = shutil.which("etcd", path="/usr/bin:/usr/local/bin")
    programs = {"ours": [sys.executable, "-m", "kubette.etcd"], **({"real": [real]} if real else {})}
    measured = {name: Measurement(program, sizes) for name, program in programs.items()}
    steps = [Measurement.alone, Measurement.together, Measurement.full, *([Measurement.many] if big else []), Measurement.idle]
    for step in steps:
        for each in measured.values():  # close together: the machine's mood is the same for both
            step(each)
    version = subprocess.run([real, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0] if real else "no real etcd here"
    print(f"etcd, ours beside the real one ({version}); plain HTTP, {psutil.cpu_count()} cores, both on the same disk\n")
    return _print_table(measured, sizes)


def _print_table(measured: dict[str, Measurement], sizes: Sizes) -> bool:
    words = {name: getattr(sizes, name) for name in ("ranged", "kilobytes")}
    real = measured.get("real")
    table = [("", "ours", "real", "ours ÷ real", "target")]
    for name, row in ROWS.items():
        if name not in measured["ours"].figures:
            continue
        ours, theirs = measured["ours"].figures[name], real.figures[name] if real else None
        ratio = f"{ours / theirs:.2f}" if theirs and theirs > 0.1 else ""
        table.append((row.title.format(**words), _shown(ours, row.unit), _shown(theirs, row.unit), ratio, row.verdict(ours, theirs)))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for place, line in enumerate(table):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if place == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    busiest = max(each.client_cores for each in measured.values())
    print(f"\nThe busiest load process used {busiest:.2f} of a core.", flush=True)
    return not any("MISSED" in line[-1] for line in table)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"
