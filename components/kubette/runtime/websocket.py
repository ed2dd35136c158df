"""Pure: RFC 6455 frames, the server's side: bytes in, messages out; messages in, bytes out.

Only what the streaming endpoints need: no extensions, text and binary messages alike as bytes. `Decoder.feed` takes whatever arrives and answers the complete
messages; control frames come out as events too, so that the caller answers pings and closes.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
# kubectl sends at most 32 KiB a message; a tunnelled SPDY frame may be larger.
MESSAGE_BYTES_MAX = 1 << 20
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NORMAL_CLOSURE, PROTOCOL_ERROR, TOO_BIG = 1000, 1002, 1009


class ProtocolError(Exception):
    """The peer broke the protocol; `code` is the close code it is told."""

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, or a control frame."""

    opcode: int
    data: bytes


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def encode(opcode: int, data: bytes) -> bytes:
    """A frame as a server sends it: whole and unmasked."""
    length = len(data)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return head + data


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame."""
    return encode(CLOSE, struct.pack("!H", code) + reason.encode()[:123])


def _unmask(data: bytes, key: bytes) -> bytes:
    repeated = key * (len(data) // 4 + 1)
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated[: len(data)], "big")).to_bytes(len(data), "big")


class Decoder:
    """A client's frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parts = bytearray()
        self._opcode = 0

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; answer what is complete. Raises ProtocolError."""
        self._buffer += data
        messages = []
        while (frame := self._frame()) is not None:
            final, opcode, payload = frame
            if opcode & 8:
                messages.append(Message(opcode, payload))
                continue
            if opcode:
                if self._opcode:
                    raise ProtocolError("a new message began inside another")
                self._opcode = opcode
            elif not self._opcode:
                raise ProtocolError("a continuation without a message")
            self._parts += payload
            if len(self._parts) > MESSAGE_BYTES_MAX:
                raise ProtocolError("message too big", TOO_BIG)
            if final:
                messages.append(Message(self._opcode, bytes(self._parts)))
                self._parts.clear()
                self._opcode = 0
        return messages

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & 0x70 or not second & 0x80:
            raise ProtocolError("reserved bits set, or a frame without mask")
        length, position = second & 0x7F, 2
        if length == 126:
            if len(buffer) < 4:
                return None
            length, position = struct.unpack_from("!H", buffer, 2)[0], 4
        elif length == 127:
            if len(buffer) < 10:
                return None
            length, position = struct.unpack_from("!Q", buffer, 2)[0], 10
        if length > MESSAGE_BYTES_MAX:
            raise ProtocolError("message too big", TOO_BIG)
        end = position + 4 + length
        if len(buffer) < end:
            return None
        payload = _unmask(bytes(buffer[position + 4 : end]), bytes(buffer[position : position + 4]))
        del buffer[:end]
        return bool(first & 0x80), first & 0x0F, payload
