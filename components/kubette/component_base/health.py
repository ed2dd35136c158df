"""`/healthz`, `/livez` and `/readyz` as apiserver's healthz package answers them (also `?verbose` and `/livez/<check>`)."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Check = Callable[[], Awaitable[str | None]]  # answers None when healthy, else the reason


def install(app: web.Application, path: str, checks: dict[str, Check]) -> None:
    """Serve `path` and `path/<name>`; any failing check makes it a 500 that names the check."""

    async def all_checks(request: web.Request) -> web.Response:
        excluded = set(request.query.getall("exclude", []))
        lines, failed = [], []
        for name, check in {"ping": _ping, **checks}.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            reason = await check()
            if reason is None:
                lines.append(f"[+]{name} ok")
            else:
                lines.append(f"[-]{name} failed: reason withheld")
                failed.append(name)
        endpoint = path.strip("/")
        if failed:
            return web.Response(status=500, text="\n".join(lines) + f"\n{endpoint} check failed\n")
        return web.Response(text="\n".join(lines) + f"\n{endpoint} check passed\n" if "verbose" in request.query else "ok")

    async def one_check(request: web.Request) -> web.Response:
        check = {"ping": _ping, **checks}.get(request.match_info["name"])
        if check is None:
            return web.Response(status=404, text="404 page not found\n")
        reason = await check()
        return web.Response(text="ok") if reason is None else web.Response(status=500, text=f"internal server error: {reason}\n")

    app.router.add_get(path, all_checks)
    app.router.add_get(path + "/{name:.+}", one_check)


async def _ping() -> str | None:
    return None
