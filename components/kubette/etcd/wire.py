"""Pure: protobuf's wire format by hand, for the hot path.

Answers are put together out of records that are already encoded: a key-value pair is encoded once, when it is written.
"""


def varint(value: int) -> bytes:
    """An unsigned varint; negative int64s are sent as their two's complement."""
    if value < 0x80:
        return _ONE_BYTE[value] if value >= 0 else varint(value + (1 << 64))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_ONE_BYTE = [bytes([value]) for value in range(0x80)]


def int_field(number: int, value: int) -> bytes:
    """An integer or bool field; nothing for zero (proto3)."""
    return varint(number << 3) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field, present even if empty (a message, or one of a repeated field)."""
    return varint(number << 3 | 2) + varint(len(value)) + value
