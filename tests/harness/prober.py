"""Someone who uses a service fifty times a second, from a machine of the cluster, and counts every answer that was not one.

with Prober(cluster, "node01", "10.96.12.7", 80) as prober: ... upgrade things ...
assert prober.failures == [], and prober.sent says how often it asked
"""

import json
import subprocess
import sys
from types import TracebackType

from harness.cluster import Cluster

RATE_PER_S = 50
ANSWER_TIMEOUT_S = 10.0  # a busy machine answers late; an endpoint that is gone never does

# Runs on the machine, with the interpreter that machines have; ends when its standard input does. A new connection for every question:
# one that is kept open would not notice rules that changed.
_PROGRAM = """
import asyncio, json, sys, time
host, port, pause, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
sent, failures, waiting = 0, [], set()
async def ask():
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n")
            answer = await reader.read()
            writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            failures.append([time.time(), repr(answer[:40])])
    except (OSError, TimeoutError) as error:
        failures.append([time.time(), repr(error)])
async def main():
    global sent
    while True:  # it begins when the service does
        await ask()
        if not failures:
            break
        failures.clear()
        await asyncio.sleep(pause)
    print("begun", flush=True)
    loop = asyncio.get_running_loop()
    over = loop.run_in_executor(None, sys.stdin.read)
    while not over.done():
        sent += 1
        task = asyncio.create_task(ask())
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        await asyncio.sleep(pause)
    await asyncio.gather(*waiting)
asyncio.run(main())
print(json.dumps({"sent": sent, "failures": failures}))
"""


class Prober:
    """Asks `host:port` from `machine` until the block ends."""

    def __init__(self, cluster: Cluster, machine: str, host: str, port: int) -> None:
        words = [sys.executable, "-c", _PROGRAM, host, str(port), str(1 / RATE_PER_S), str(ANSWER_TIMEOUT_S)]
        self._command = cluster.command("ssh", machine, "--", *words)
        self._environment = cluster.environment
        self.sent = 0
        self.failures: list[tuple[float, str]] = []

    def __enter__(self) -> "Prober":
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=self._environment)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n", self._process.communicate()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        output, complaint = self._process.communicate(timeout=30)
        assert self._process.returncode == 0, complaint
        counted = json.loads(output)
        self.sent, self.failures = counted["sent"], [(when, what) for when, what in counted["failures"]]
