"""/healthz, /livez, /readyz: one line a check with ?verbose, `ok` without (apiserver's healthz package)."""

from collections.abc import Awaitable, Callable, Mapping

from kubette.kube_apiserver.filters import answer
from kubette.kube_apiserver.filters.answer import Answer

Check = Callable[[], Awaitable[str | None]]  # None when healthy, else the reason (which is not shown)


class Health:
    """The checks of one server. Post-start hooks are checks of all three; those of readiness alone are given apart."""

    def __init__(self, checks: Mapping[str, Check], readiness: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._readiness = dict(readiness)

    async def answer(self, path: str, query: Mapping[str, str], excluded: frozenset[str]) -> Answer:
        """`/readyz` or `/readyz/etcd`."""
        endpoint, _, name = path.strip("/").partition("/")
        checks = {**self._checks, **self._readiness} if endpoint == "readyz" else self._checks
        if name:
            if name not in checks:
                return answer.text("404 page not found\n", 404)
            reason = await checks[name]()
            return answer.text("ok") if reason is None else answer.text(f"internal server error: {reason}\n", 500)
        lines, failed = [], False
        for check, run in checks.items():
            if check in excluded:
                lines.append(f"[+]{check} excluded: ok\n")
                continue
            reason = await run()
            failed = failed or reason is not None
            lines.append(f"[+]{check} ok\n" if reason is None else f"[-]{check} failed: reason withheld\n")
        unknown = sorted(excluded - set(checks))
        if unknown:
            lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(map(repr, unknown))}\n")
        if failed:
            return answer.text("".join(lines) + f"{endpoint} check failed\n", 500)
        return answer.text("".join(lines) + f"{endpoint} check passed\n" if "verbose" in query else "ok")
