"""The client port's bytes: HPACK against the examples of RFC 7541 and a naive encoder, HTTP/2 rules, gRPC framing."""

import asyncio
import gc
import struct

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from kubette.etcd.rim import hpack, http2
from kubette.etcd.rim.grpc import MAX_QUEUED_BYTES, Call, GrpcHandler, MessageStream, Method
from kubette.etcd_api import errors
from kubette.stdx.tasks import Scope


def test_rfc_7541_example_with_huffman_and_dynamic_table() -> None:
    """RFC 7541, C.4: three requests on one connection."""
    decoder = hpack.Decoder()
    assert decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))[-1] == (b":authority", b"www.example.com")
    assert decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf"))[-1] == (b"cache-control", b"no-cache")
    assert decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))[-1] == (b"custom-key", b"custom-value")


texts = st.binary(min_size=1, max_size=40).map(lambda raw: bytes(97 + byte % 26 for byte in raw))


@given(st.lists(st.lists(st.tuples(texts, texts), max_size=6), max_size=8))
def test_what_another_library_encodes_is_decoded(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = Encoder(), hpack.Decoder()
    for headers in blocks:
        assert decoder.decode(encoder.encode(headers)) == headers


@given(st.binary(max_size=200))
def test_random_header_blocks_are_refused_or_decoded(block: bytes) -> None:
    try:
        hpack.Decoder().decode(block)
    except hpack.HpackError:
        pass


class Wire(asyncio.Transport):
    """Collects what the server writes."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        self.data += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        found, at = [], 0
        while at < len(self.data):
            high, low, kind, flags, stream = struct.unpack_from(">BHBBI", self.data, at)
            length = high << 16 | low
            found.append((kind, flags, stream, self.data[at + 9 : at + 9 + length]))
            at += 9 + length
        return found


def request(stream: int, path: bytes, message: bytes) -> bytes:
    block = hpack.encode([(b":method", b"POST"), (b":path", path), (b"content-type", b"application/grpc")])
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block) + http2.frame(http2.DATA, http2.END_STREAM, stream, body)


def fail(body: bytes) -> bytes:
    raise errors.error(errors.EMPTY_KEY)


METHODS = {b"/s/Echo": Method(lambda body: body), b"/s/Fail": Method(fail), b"/s/Big": Method(lambda body: b"x" * 200_000)}


async def connected(sent: bytes) -> Wire:
    wire = Wire()
    async with Scope() as scope:
        connection = http2.Connection(GrpcHandler(METHODS, 1000, scope), wire)
        # One byte at a time: frames may arrive in any pieces.
        for at in range(0, len(sent), 7):
            connection.data_received(sent[at : at + 7])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return wire


SETTINGS = http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b"")


async def test_a_unary_call_is_answered_with_headers_data_and_trailers() -> None:
    wire = await connected(SETTINGS + request(1, b"/s/Echo", b"hello"))
    frames = [frame for frame in wire.frames() if frame[2] == 1]
    assert [frame[0] for frame in frames] == [http2.HEADERS, http2.DATA, http2.HEADERS]
    assert frames[1][3] == b"\0\0\0\0\x05hello"
    assert (b"grpc-status", b"0") in hpack.Decoder().decode(frames[2][3])


@pytest.mark.parametrize(
    ("path", "message", "status"), [(b"/s/Fail", b"", b"3"), (b"/s/None", b"", b"12"), (b"/x/None", b"", b"12"), (b"/s/Echo", b"y" * 1001, b"8")]
)
async def test_errors_are_trailers(path: bytes, message: bytes, status: bytes) -> None:
    wire = await connected(SETTINGS + request(1, path, message))
    block = next(frame[3] for frame in wire.frames() if frame[0] == http2.HEADERS)
    assert (b"grpc-status", status) in hpack.Decoder().decode(block)


@pytest.mark.parametrize("path", [b"/s/Echo", b"/s/Fail"])
async def test_a_call_that_is_over_is_no_work_for_the_garbage_collector(path: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        await connected(SETTINGS + request(1, path, b""))
        assert [each for each in gc.get_objects() if isinstance(each, (Call, http2.Stream))] == []
    finally:
        gc.enable()


async def test_data_stays_within_the_window_the_client_gave() -> None:
    wire = await connected(SETTINGS + request(1, b"/s/Big", b""))
    sent = sum(len(frame[3]) for frame in wire.frames() if frame[0] == http2.DATA)
    assert sent == http2.DEFAULT_WINDOW
    update = http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)) + http2.frame(http2.WINDOW_UPDATE, 0, 1, struct.pack(">I", 1 << 20))
    wire = await connected(SETTINGS + request(1, b"/s/Big", b"") + update)
    assert sum(len(frame[3]) for frame in wire.frames() if frame[0] == http2.DATA) == 200_005


@pytest.mark.parametrize(
    "broken",
    [
        http2.frame(http2.DATA, 0, 5, b"x"),
        http2.frame(http2.HEADERS, http2.END_HEADERS, 2, b""),
        http2.frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
        http2.frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        b"\xff\xff\xff" + b"\0" * 6,
        http2.frame(http2.HEADERS, 0, 1, b"") + http2.frame(http2.PING, 0, 0, b"12345678"),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_sent_away(broken: bytes) -> None:
    wire = await connected(SETTINGS + broken)
    assert wire.frames()[-1][0] == http2.GOAWAY
    assert wire.closing


def opened(stream: int, path: bytes) -> bytes:
    """A call that goes on."""
    block = hpack.encode([(b":method", b"POST"), (b":path", path), (b"content-type", b"application/grpc")])
    return http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)


def message(stream: int, body: bytes) -> bytes:
    return http2.frame(http2.DATA, 0, stream, b"\0" + len(body).to_bytes(4, "big") + body)


async def test_a_call_that_takes_one_message_takes_no_more() -> None:
    wire = await connected(SETTINGS + opened(1, b"/s/Echo") + message(1, b"one") + message(1, b"two") + message(1, b"three"))
    (block,) = [frame[3] for frame in wire.frames() if frame[0] == http2.HEADERS]
    assert (b"grpc-status", b"13") in hpack.Decoder().decode(block)


async def test_messages_that_nobody_takes_are_bounded_by_their_bytes() -> None:
    """Of a stream whose method is busy; one message may be as large as it likes."""

    async def busy(call: MessageStream) -> None:
        await asyncio.Event().wait()

    wire, size = Wire(), MAX_QUEUED_BYTES // 4
    async with Scope() as scope:
        connection = http2.Connection(GrpcHandler({b"/s/Busy": Method(streaming=busy)}, 4 * MAX_QUEUED_BYTES, scope), wire)
        connection.data_received(SETTINGS + opened(1, b"/s/Busy"))
        body = b"\0" + size.to_bytes(4, "big") + bytes(size)
        for count in range(1, 6):
            assert not wire.frames() or http2.HEADERS not in {frame[0] for frame in wire.frames()}, count
            for at in range(0, len(body), 16384):
                connection.data_received(http2.frame(http2.DATA, 0, 1, body[at : at + 16384]))
            await asyncio.sleep(0)
        block = next(frame[3] for frame in wire.frames() if frame[0] == http2.HEADERS)
        assert (b"grpc-status", b"8") in hpack.Decoder().decode(block)


async def test_a_client_that_takes_no_answers_gets_no_more_calls() -> None:
    big = bytes(1 << 20)
    wire = Wire()
    async with Scope() as scope:
        connection = http2.Connection(GrpcHandler({b"/s/Big": Method(lambda body: big)}, 1000, scope), wire)
        connection.data_received(SETTINGS)
        count = 2 * http2.MAX_BLOCKED // len(big)
        for number in range(count):
            connection.data_received(request(2 * number + 1, b"/s/Big", b""))
        await asyncio.sleep(0)
        refused = [frame[2] for frame in wire.frames() if frame[0] == http2.RST_STREAM]
        assert len(refused) == count - http2.MAX_BLOCKED // len(big) - 1
        assert connection.blocked_bytes < http2.MAX_BLOCKED + 2 * len(big)
        # It reads: everything that was answered arrives, and calls are taken again.
        for stream in range(1, 2 * count, 2):
            connection.data_received(http2.frame(http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 24)))
        connection.data_received(http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
        assert connection.blocked_bytes == 0
        connection.data_received(request(2 * count + 1, b"/s/Big", b""))
        assert connection.blocked_bytes > 0
        connection.connection_lost(None)
        assert connection.blocked_bytes == 0
