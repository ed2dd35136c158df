"""Golden comparison of two clients: what differs from run to run is masked, all the rest must be equal."""

import base64
import re

from harness.etcd_processes import OURS, REAL

PREFIXES = {REAL: "qz1", OURS: "qz2"}  # three bytes: a whole group of base64
_MASKS = (
    (re.compile(r'("(?:revision|create_revision|mod_revision|raftIndex|raftAppliedIndex|raft_term|raftTerm|dbSize|dbSizeInUse|hash)"):\d+'), r"\1:N"),
    (re.compile(r'("(?:\w*Revision|RaftIndex|RaftAppliedIndex|RaftTerm|DBSize|Hash)" :) \d+'), r"\1 N"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "ID"),
    (re.compile(r'("(?:ID|id|Lease|lease)"):-?\d+'), r"\1:N"),
    (re.compile(r'("(?:ID|Lease)" :) -?\d+'), r"\1 N"),
    (re.compile(r"took = \S+"), "took = T"),
    (re.compile(r'"took":"[^"]*"'), '"took":"T"'),
    (re.compile(r'"Took" : \S+'), '"Took" : T'),
    (re.compile(r"\| [\d.]+(?:µs|ms|s) \|"), "| T |"),
    (re.compile(r"compacted revision \d+"), "compacted revision N"),
    (re.compile(r"remaining\(\d+s\)"), "remaining(Ns)"),
    (re.compile(r"(memberID:|MemberID\" : )\d+"), r"\1N"),
)


def masked(text: str) -> str:
    """Without times, ids, revisions, and the client's own prefix."""
    for prefix in PREFIXES.values():
        text = text.replace(base64.b64encode(prefix.encode()).decode(), "PREF").replace(prefix, "PRE")
        text = text.replace("".join(f"\\x{byte:02x}" for byte in prefix.encode()), "PREFIXHEX")
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


def said(text: str) -> str:
    """Standard error without the client library's own log lines."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("{") and line.strip())
