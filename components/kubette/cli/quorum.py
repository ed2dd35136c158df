"""Pure: whether etcd keeps its quorum when a machine loses power."""

from collections.abc import Collection, Sequence

TAKES_AWAY = ("stop", "kill", "pause")  # a machine that is rebooted comes back by itself


def refusal(verb: str, machine: str, members: Sequence[str], serving: Collection[str]) -> str:
    """Why `verb` must not be done without being forced; empty when it may.

    `members` are the machines of etcd's members, `serving` those on which it runs now. What is lost already cannot be lost again.
    """
    alive = [name for name in members if name in serving]
    needed = len(members) // 2 + 1
    left = len(alive) - 1
    if verb not in TAKES_AWAY or machine not in alive or left >= needed or len(alive) < needed:
        return ""
    counted = f"{left} of its {len(members)} members would run, and {needed} must" if len(members) > 1 else "this is its only member"
    away = [name for name in members if name not in serving]
    already = f" ({', '.join(away)} {'are' if len(away) > 1 else 'is'} away already)" if away else ""
    return (
        f'cannot {verb} machine "{machine}": etcd would lose its quorum: {counted}{already}; '
        f"without a quorum nothing can be written and the API server stops answering; --force does it nevertheless"
    )
