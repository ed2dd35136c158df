"""Pure: the container log format of CRI: `2006-01-02T15:04:05.999999999Z stdout F line`.

A line longer than 16 KiB is cut into parts, all but the last tagged `P`; so is output without a newline at its end (as containerd does).
"""

import datetime
from dataclasses import dataclass

PART_BYTES_MAX = 16 * 1024


def timestamp(now_ns: int) -> str:
    """RFC 3339 with nanoseconds, in UTC."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09d}Z"


@dataclass(slots=True)
class LineFormatter:
    """One stream's bytes in, log lines out."""

    stream: str
    _pending: bytes = b""

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """The lines that `data` completes; the rest is kept (never more than one part)."""
        *lines, rest = (self._pending + data).split(b"\n")
        head = f"{timestamp(now_ns)} {self.stream} ".encode()
        out: list[bytes] = []
        for line in lines:
            parts = self._parts(line)
            out.extend(head + b"P " + part + b"\n" for part in parts[:-1])
            out.append(head + b"F " + parts[-1] + b"\n")
        while len(rest) > PART_BYTES_MAX:
            out.append(head + b"P " + rest[:PART_BYTES_MAX] + b"\n")
            rest = rest[PART_BYTES_MAX:]
        self._pending = rest
        return b"".join(out)

    def finish(self, now_ns: int) -> bytes:
        """At the end of the stream: what is left is a partial line."""
        rest, self._pending = self._pending, b""
        return f"{timestamp(now_ns)} {self.stream} P ".encode() + rest + b"\n" if rest else b""

    @staticmethod
    def _parts(line: bytes) -> list[bytes]:
        return [line[at : at + PART_BYTES_MAX] for at in range(0, len(line), PART_BYTES_MAX)] or [b""]
