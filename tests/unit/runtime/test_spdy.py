"""SPDY/3.1 against a small client written here from the specification."""

import struct
import zlib

import pytest

from kubette.runtime import spdy


class _Client:
    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)

    def open(self, stream: int, headers: dict[str, str], finished: bool = False) -> bytes:
        raw = struct.pack("!I", len(headers)) + b"".join(struct.pack("!I", len(w)) + w.encode() for pair in headers.items() for w in pair)
        payload = struct.pack("!IIH", stream, 0, 0) + self._deflate.compress(raw) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return struct.pack("!HHI", 0x8003, 1, finished << 24 | len(payload)) + payload


def test_streams_and_data_survive_any_segmentation() -> None:
    client = _Client()
    wire = client.open(1, {"streamtype": "error"}) + client.open(3, {"streamtype": "data", "port": "80"}) + struct.pack("!II", 3, 1 << 24 | 2) + b"hi"
    for size in (1, 3, len(wire)):
        server = spdy.Connection()
        seen = [e for at in range(0, len(wire), size) for e in server.feed(wire[at : at + size])]
        assert seen == [
            spdy.StreamOpened(1, {"streamtype": "error"}),
            spdy.StreamOpened(3, {"streamtype": "data", "port": "80"}),
            spdy.Data(3, b"hi", True),
        ]


def test_a_ping_of_the_client_is_answered_and_our_own_is_not() -> None:
    def ping(number: int) -> bytes:
        return struct.pack("!HHII", 0x8003, 6, 4, number)

    assert spdy.Connection().feed(ping(1)) == [spdy.Ping(ping(1))]
    assert spdy.Connection().feed(ping(2)) == []


def test_data_is_cut_into_frames_and_ends_with_the_last() -> None:
    wire = spdy.Connection().data(5, b"x" * (spdy.DATA_BYTES + 1), finished=True)
    first, second = spdy.Connection().feed(wire)
    assert (first, second) == (spdy.Data(5, b"x" * spdy.DATA_BYTES, False), spdy.Data(5, b"x", True))


def test_header_bombs_and_giant_frames_end_the_connection() -> None:
    with pytest.raises(spdy.ProtocolError, match="too large"):
        spdy.Connection().feed(_Client().open(1, {"a": "x" * (spdy.HEADER_BYTES_MAX + 10)}))
    with pytest.raises(spdy.ProtocolError, match="frame of"):
        spdy.Connection().feed(struct.pack("!II", 1, spdy.FRAME_BYTES_MAX + 1))


def test_the_dictionary_is_that_of_the_specification() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2
