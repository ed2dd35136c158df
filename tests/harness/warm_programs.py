"""Our command line programs, started by fork from a process that has imported them: a golden table of hundreds of commands costs seconds.

Each command still has a process, standard streams, an environment and a directory of its own. `python -m harness.warm_programs` is the process
that forks; `run` talks to it, a JSON line each way.
"""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MODULES = ("kubette.etcdctl.__main__", "kubette.etcdctl.etcdutl")
_PREPARED = (
    "auth",
    "checks",
    "concurrency",
    "endpoints",
    "keys",
    "leases",
    "members",
    "mirror",
    "run",
    "snapshots",
    "txn",
    "v2.program",
    "versions",
    "watch",
)
_servers: list[subprocess.Popen[str]] = []


def run(module: str, words: Sequence[str], *, stdin: bytes, environment: Mapping[str, str], cwd: Path | None) -> tuple[int, bytes, bytes]:
    """Exit code, standard output and error of `python -m module words…`."""
    if not _servers:
        tests = str(Path(__file__).resolve().parents[1])
        variables = {**os.environ, "PYTHONPATH": tests}
        command = [sys.executable, "-m", "harness.warm_programs"]
        _servers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables))
        atexit.register(_stop)
    server = _servers[0]
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as directory:
        streams = [Path(directory) / name for name in ("in", "out", "err")]
        streams[0].write_bytes(stdin)
        request = {"module": module, "words": list(words), "environment": dict(environment), "cwd": str(cwd or Path.cwd())}
        server.stdin.write(json.dumps({**request, "streams": [str(each) for each in streams]}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return code, streams[1].read_bytes(), streams[2].read_bytes()


def _stop() -> None:
    for server in _servers:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()


def _child(request: dict[str, Any]) -> int:
    """In the forked process, the program itself."""
    os.chdir(request["cwd"])
    for descriptor, path in enumerate(request["streams"]):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    main = importlib.import_module(request["module"]).main
    sys.argv = [request["module"], *request["words"]]
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


def _serve() -> None:
    for name in (*_MODULES, *(f"kubette.etcdctl.{each}" for each in _PREPARED), "kubette.etcd.snapshot_files", "grpc"):
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 70
            try:
                code = _child(json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
