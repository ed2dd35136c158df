"""Pure: what `journalctl -x` adds to init's own messages: what happened, in a sentence, and where to look (journald's message catalog)."""

import re

from kubette.init.journal_text import Record

# Message → (subject, explanation); `{0}` is the unit.
_ENTRIES = (
    (r"Starting (\S+?)(?: - .*)?\.\.\.", "A start job for unit {0} has begun execution", "A start job for unit {0} has begun execution."),
    (
        r"(?:Started|Finished|Reached target) (\S+?)(?: - .*)?\.",
        "A start job for unit {0} has finished successfully",
        "A start job for unit {0} has finished successfully.",
    ),
    (
        r"Failed to start (\S+?)(?: - .*)?\.",
        "A start job for unit {0} has failed",
        "A start job for unit {0} has finished with a failure. The lines above it say why; 'systemctl status {0}' shows the result.",
    ),
    (r"Stopping (\S+?)(?: - .*)?\.\.\.", "A stop job for unit {0} has begun execution", "A stop job for unit {0} has begun execution."),
    (r"Stopped (?:target )?(\S+?)(?: - .*)?\.", "A stop job for unit {0} has finished", "A stop job for unit {0} has finished."),
    (r"(\S+): (?:Main|Control) process exited, (code=\S+, status=\S+)", "Unit process exited", "A process belonging to unit {0} has exited: {1}."),
    (r"(\S+): Failed with result '([^']*)'\.", "Unit failed", "The unit {0} has entered the 'failed' state with result '{1}'."),
    (r"(\S+): Deactivated successfully\.", "Unit succeeded", "The unit {0} has successfully entered the 'dead' state."),
    (
        r"(\S+): Scheduled restart job, restart counter is at (\d+)\.",
        "Automatic restarting of a unit has been scheduled",
        "Automatic restarting of the unit {0} has been scheduled, as the result for the configured Restart= setting; it is restart number {1}.",
    ),
    (
        r"(\S+): Start request repeated too quickly\.",
        "Start limit of a unit reached",
        "Unit {0} was started more often than StartLimitBurst= allows within StartLimitIntervalSec=. 'systemctl reset-failed {0}' lifts the block.",
    ),
    (
        r"(\S+): Failed at step (\S+) spawning (\S+)",
        "Process {2} could not be executed",
        "The process {2} of unit {0} could not be executed and failed at step {1}. The line above says why.",
    ),
)


def explain(record: Record) -> list[str]:
    """The lines shown below a message; none for messages of services."""
    if record.identifier != "systemd" or record.pid != 1:
        return []
    for pattern, subject, text in _ENTRIES:
        match = re.fullmatch(pattern, record.message)
        if match:
            words = match.groups()
            return [f"░░ Subject: {subject.format(*words)}", "░░ Defined-By: kubette-init", "░░", f"░░ {text.format(*words)}"]
    return []
