"""Pure: how findings are shown."""

from collections.abc import Sequence
from typing import Any

from kubette.cli.doctor.finding import ERROR, Condition, Finding


def text(cluster: str, findings: Sequence[Finding], checked: int) -> str:
    """A paragraph a finding: what was seen, the reason, the remedy."""
    if not findings:
        return f'Cluster "{cluster}": nothing is wrong ({checked} conditions looked for).'
    errors = sum(1 for finding in findings if finding.severity == ERROR)
    lines = [f'Cluster "{cluster}": {_count(errors, "error")}, {_count(len(findings) - errors, "warning")}.']
    for finding in findings:
        mark = "✗" if finding.severity == ERROR else "!"
        lines += [
            "",
            f"{mark} {finding.where}  [{finding.id}]",
            f"    seen: {finding.what}",
            f"    why:  {finding.why}",
            f"    do:   {finding.remedy}",
        ]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def document(cluster: str, findings: Sequence[Finding]) -> dict[str, Any]:
    return {"cluster": cluster, "healthy": not findings, "findings": [finding.to_json() for finding in findings]}


def known(conditions: Sequence[Condition]) -> list[tuple[str, str, str]]:
    """The table of conditions, for `--list`."""
    return [("ID", "SEVERITY", "CONDITION"), *((c.id, c.severity, c.title) for c in conditions)]
