"""A client's frames, however they are cut, come out as the same messages."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.runtime import websocket


def _frame(opcode: int, data: bytes, final: bool = True, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's frame, written independently of the decoder."""
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
    length = (
        struct.pack("!B", 0x80 | len(data))
        if len(data) < 126
        else struct.pack("!BH", 0x80 | 126, len(data))
        if len(data) < 65536
        else struct.pack("!BQ", 0xFF, len(data))
    )
    return bytes([0x80 * final | opcode]) + length + mask + masked


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 64))
def test_messages_survive_any_segmentation(messages: list[bytes], size: int) -> None:
    wire = b"".join(_frame(websocket.BINARY, m) for m in messages)
    decoder = websocket.Decoder()
    seen = [m for at in range(0, len(wire), size) for m in decoder.feed(wire[at : at + size])]
    assert seen == [websocket.Message(websocket.BINARY, m) for m in messages]


def test_a_control_frame_may_come_between_the_parts_of_a_message() -> None:
    wire = _frame(websocket.TEXT, b"ab", final=False) + _frame(websocket.PING, b"?") + _frame(0, b"cd")
    assert websocket.Decoder().feed(wire) == [websocket.Message(websocket.PING, b"?"), websocket.Message(websocket.TEXT, b"abcd")]


@pytest.mark.parametrize("length", [125, 126, 65535, 65536])
def test_lengths_at_the_borders_of_their_encodings(length: int) -> None:
    assert websocket.Decoder().feed(_frame(2, b"x" * length)) == [websocket.Message(2, b"x" * length)]
    assert websocket.encode(2, b"x" * length)[-length:] == b"x" * length


@pytest.mark.parametrize("wire", [b"\x82\x01a", _frame(0, b"x"), _frame(1, b"a", final=False) + _frame(1, b"b"), b"\x82\xff" + b"\xff" * 8])
def test_a_broken_protocol_is_refused(wire: bytes) -> None:
    with pytest.raises(websocket.ProtocolError):
        websocket.Decoder().feed(wire)


def test_accept_key_is_that_of_the_rfc() -> None:
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
