"""Pure: columns as Go's tabwriter sets them with the numbers kubeadm gives it (least width 10, padding 3)."""

from collections.abc import Sequence

_LEAST, _PADDING = 10, 3


def render(rows: Sequence[Sequence[str]]) -> str:
    """One line a row. The last cell of a row ends its line and widens no column."""
    columns = max((len(row) for row in rows), default=0)
    widths = [max([_LEAST, *(len(row[i]) + _PADDING for row in rows if len(row) > i + 1)]) for i in range(columns)]
    return "\n".join("".join(cell.ljust(widths[i]) for i, cell in enumerate(row[:-1])) + row[-1] for row in rows)


def short_duration(seconds: float) -> str:
    """apimachinery's ShortHumanDuration: `5m`, `364d`, `9y`."""
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    for unit, length, limit in (("s", 1, 60), ("m", 60, 3600), ("h", 3600, 86400), ("d", 86400, 365 * 86400)):
        if seconds < limit:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds // (365 * 86400))}y"
