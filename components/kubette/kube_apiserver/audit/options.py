"""Pure: the --audit-log-* flags, checked."""

from typing import Any

BATCH, BLOCKING, BLOCKING_STRICT = "batch", "blocking", "blocking-strict"
MODES = (BATCH, BLOCKING, BLOCKING_STRICT)
FORMATS = ("legacy", "json")


def check(options: Any) -> list[str]:
    """What is wrong with the --audit-log-* flags, in upstream's words. They count only where there is a log."""
    if not options.audit_log_path:
        return []
    faults = []
    if options.audit_log_mode not in MODES:
        faults.append(f'invalid audit log mode {options.audit_log_mode}, allowed modes are "{",".join(MODES)}"')
    if options.audit_log_format not in FORMATS:
        faults.append(f'invalid audit log format {options.audit_log_format}, allowed formats are "{",".join(FORMATS)}"')
    for name in ("maxage", "maxbackup", "maxsize"):
        value = getattr(options, f"audit_log_{name}")
        if value < 0:
            faults.append(f"--audit-log-{name} {value} can't be a negative number")
    return faults
