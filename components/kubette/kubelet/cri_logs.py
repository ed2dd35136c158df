"""Pure: lines of a CRI log file: `<RFC 3339 nano> <stdout|stderr> <F|P> <text>` (kuberuntime/logs)."""

from dataclasses import dataclass

from kubette.apimachinery import timestamps

LINE_BYTES_MAX = 1 << 20  # the runtime splits at 16 KiB; anything much longer is no log line


@dataclass(frozen=True, slots=True)
class Line:
    """One record; `partial` means that the text goes on in the next record of the same stream."""

    timestamp: bytes
    stream: str
    partial: bool
    text: bytes

    @property
    def seconds(self) -> float:
        return timestamps.parse_time(self.timestamp.decode())


def parse(raw: bytes) -> Line | None:
    """One line without its newline; None if it is none of ours."""
    parts = raw.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    text = parts[3] if len(parts) > 3 else b""
    partial = parts[2].split(b":")[0] == b"P"
    return Line(parts[0], parts[1].decode(), partial, text if partial else text + b"\n")


def tail_offset(read: "bytes", lines: int) -> int:
    """Where in `read` (whole lines) the last `lines` full records begin; partial records belong to the record they precede."""
    if lines <= 0:
        return len(read)
    position, seen = len(read), 0
    while position > 0:
        start = read.rfind(b"\n", 0, position - 1) + 1
        line = parse(read[start : position - 1] if read[position - 1 : position] == b"\n" else read[start:position])
        if line is None or not line.partial:
            seen += 1
            if seen > lines:
                return position
        position = start
    return 0
