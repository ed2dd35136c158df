"""`/debug/pprof/` (`--enable-pprof`): what this process is doing. Of Go's profiles, those that mean something here."""

import asyncio
import io
import sys
import traceback
from urllib.parse import parse_qs

from kubette.component_base import process_title
from kubette.etcd.rim.http1 import Request, Response

_ROOT = "/debug/pprof"
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_INDEX = """/debug/pprof/

cmdline: the command line of the process
goroutine: the stacks of all tasks and threads
profile: where the time goes; ?seconds=N (30)
"""
MAX_SECONDS = 300


async def handle(request: Request) -> Response | None:
    """None when the path is somebody else's."""
    if request.path != _ROOT and not request.path.startswith(_ROOT + "/"):
        return None
    name = request.path.removeprefix(_ROOT).strip("/")
    if name == "":
        return Response(body=_INDEX.encode(), headers=_TEXT)
    if name == "cmdline":
        return Response(body="\0".join(process_title.command_line()).encode(), headers=_TEXT)
    if name == "goroutine":
        return Response(body=stacks().encode(), headers=_TEXT)
    if name == "profile":
        text = parse_qs(request.query).get("seconds", ["30"])[0]
        if not text.isdigit() or not 1 <= int(text) <= MAX_SECONDS:
            return Response(400, b"profile duration is not a number of seconds up to 300\n", _TEXT)
        return Response(body=(await profile(int(text))).encode(), headers=_TEXT)
    return Response(404, b"Unknown profile\n", _TEXT)


def stacks() -> str:
    """Where each task waits, and each thread is."""
    out = io.StringIO()
    for task in sorted(asyncio.all_tasks(), key=lambda each: each.get_name()):
        task.print_stack(file=out)
    for thread, frame in sys._current_frames().items():
        out.write(f"\nthread {thread}\n" + "".join(traceback.format_stack(frame)))
    return out.getvalue()


async def profile(seconds: int) -> str:
    """The functions of the event loop's thread that took most of the time."""
    import cProfile
    import pstats

    profiler = cProfile.Profile()
    profiler.enable()
    try:
        await asyncio.sleep(seconds)
    finally:
        profiler.disable()
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(60)
    return out.getvalue()
