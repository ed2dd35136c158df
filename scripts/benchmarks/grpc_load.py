"""A gRPC client for measuring, cheap enough never to be what is measured: HTTP/2 frames on plain sockets, in processes of its own.

A `Channel` calls one unary method, many times at once; requests are made ahead of the clock as far as possible, answers are only counted and
their status checked. A gRPC library would take longer over a request than a server does.
"""

import multiprocessing
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kubette.etcd.rim.hpack import Decoder

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
MAX_WINDOW = 0x7FFFFFFF
TIMEOUT_S = 120.0
_FRAME = struct.Struct(">BHBBI")
_SETTING = struct.Struct(">HI")


class LoadError(Exception):
    """The server did not answer as it should."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value


class Channel:
    """One connection that calls one method."""

    def __init__(self, url: str, path: str) -> None:
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = _SETTING.pack(1, 0) + _SETTING.pack(4, MAX_WINDOW)  # answers' headers use no table: equal blocks mean equal headers
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings) + _grow(MAX_WINDOW - 65535))
        # As a gRPC library does: the headers are spelled out once, later requests point to them.
        named = [(4, path), (1, where.netloc), (31, "application/grpc"), (58, "kubette-bench/1.0")]
        self._first_block = b"\x83\x86" + b"".join(
            bytes([0x40 | index]) + bytes([len(text)]) + text.encode() for index, text in named) + b"\x40\x02te\x08trailers"  # fmt: skip
        self._block = b"\x83\x86" + bytes([0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62])
        self._stream = -1
        self._buffer = b""
        self._received = 0
        self._statuses: dict[bytes, str] = {}

    def request(self, message: bytes, end: bool = True) -> bytes:
        """The frames of one more call; its stream is the next odd number."""
        self._stream += 2
        block = self._block if self._stream > 1 else self._first_block
        body = b"\0" + len(message).to_bytes(4, "big") + message
        return b"".join((
            _FRAME.pack(0, len(block), HEADERS, END_HEADERS, self._stream), block,
            frame(DATA, END_STREAM if end else 0, self._stream, body) if len(body) <= 16384 else _in_parts(self._stream, body),
        ))  # fmt: skip

    def receive(self, sink: Callable[[bytes], None] | None = None) -> int:
        """Read once; answers how many calls have ended. `sink` gets the data of answers. Raises LoadError for a status that is not OK."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise LoadError("the server closed the connection")
        buffer = self._buffer + data if self._buffer else data
        at, end, ended = 0, len(buffer), 0
        while end - at >= 9:
            high, low, kind, flags, _ = _FRAME.unpack_from(buffer, at)
            stop = at + 9 + (high << 16 | low)
            if stop > end:
                break
            if kind == HEADERS:
                if flags & END_STREAM:
                    self._check(buffer[at + 9 : stop])
                    ended += 1
            elif kind == DATA:
                self._received += stop - at - 9
                if sink is not None:
                    sink(buffer[at + 9 : stop])
            else:
                self._answer(kind, flags, buffer[at + 9 : stop])
            at = stop
        self._buffer = buffer[at:]
        if self._received > MAX_WINDOW // 2:
            self.socket.sendall(_grow(self._received))
            self._received = 0
        return ended

    def _check(self, block: bytes) -> None:
        status = self._statuses.get(block)
        if status is None:
            headers = dict(Decoder().decode(block))
            status = headers.get(b"grpc-status", b"none").decode()
            if status != "0":
                raise LoadError(f"status {status}: {headers.get(b'grpc-message', b'').decode()}")
            self._statuses[block] = status

    def _answer(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            self.socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind in (RST_STREAM, GOAWAY):
            raise LoadError(f"the server ended a {'stream' if kind == RST_STREAM else 'connection'}: {payload!r}")

    def call(self, message: bytes, sink: Callable[[bytes], None] | None = None) -> float:
        """One call from beginning to end; answers its seconds."""
        data = self.request(message)
        began = time.perf_counter()
        self.socket.sendall(data)
        while not self.receive(sink):
            pass
        return time.perf_counter() - began

    def close(self) -> None:
        self.socket.close()


def _grow(increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, increment.to_bytes(4, "big"))


def _in_parts(stream: int, body: bytes) -> bytes:
    starts = range(0, len(body), 16384)
    return b"".join(frame(DATA, END_STREAM if start + 16384 >= len(body) else 0, stream, body[start : start + 16384]) for start in starts)


@dataclass(frozen=True, slots=True)
class Result:
    """Of a load: calls a second, and the share of a core that the busiest of its processes used."""

    per_s: float
    client_cores: float


def load(urls: Sequence[str], path: str, messages: Callable[[int, int], Iterator[bytes]], total: int, connections: int, clients: int) -> Result:
    """`total` calls by `clients` at once, over `connections`, from two processes (one if there is one connection).

    `messages(first, step)` gives a process its messages.
    """
    workers = min(2, connections)
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(workers), context.SimpleQueue()

    def work(number: int) -> None:
        try:
            share = [number % len(urls) + each for each in range(connections // workers)]
            channels = [Channel(urls[each % len(urls)], path) for each in share]
            ready = messages(number, workers)
            prepared = [next(ready) for _ in range(total // workers)]
            gate.wait(TIMEOUT_S)
            results.put(_closed_loop(channels, prepared, clients // connections))
        except Exception as error:
            gate.abort()
            results.put(error)

    processes = [context.Process(target=work, args=(number,)) for number in range(workers)]
    for process in processes:
        process.start()
    reports = [results.get() for _ in processes]
    for process in processes:
        process.join()
    for report in reports:
        if isinstance(report, BaseException):
            raise LoadError(str(report)) from report
    began, ended = min(each[0] for each in reports), max(each[1] for each in reports)
    return Result(total // workers * workers / (ended - began), max(each[2] / (each[1] - each[0]) for each in reports))


def _closed_loop(channels: Sequence[Channel], messages: list[bytes], each_at_once: int) -> tuple[float, float, float]:
    """Every client sends its next request when it has the answer to its last. Answers begin, end (monotonic) and processor seconds."""
    poll = select.epoll()
    by_number = {channel.socket.fileno(): channel for channel in channels}
    waiting = iter(messages)
    left = len(messages)
    began, used = time.monotonic(), time.process_time()

    def send(channel: Channel, count: int) -> None:
        requests = [channel.request(message) for _, message in zip(range(count), waiting)]  # noqa: B905  # whichever ends first
        if requests:
            channel.socket.sendall(b"".join(requests))

    for number, channel in by_number.items():
        poll.register(number, select.EPOLLIN)
        send(channel, each_at_once)
    while left:
        events = poll.poll(TIMEOUT_S)
        if not events:
            raise LoadError(f"no answer for {TIMEOUT_S:g} s")
        for number, _ in events:
            channel = by_number[number]
            ended = channel.receive()
            left -= ended
            send(channel, ended)
    finished = time.monotonic(), time.process_time() - used
    for channel in channels:
        channel.close()
    return began, *finished
