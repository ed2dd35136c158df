"""A client that writes without pause while the cluster is hurt, and knows afterwards which writes it was promised.

with Writer(kubeconfig) as writer: ... kill things ...
assert writer.lost() == set()

Every write is a ConfigMap of a new name. What was answered 201 is acknowledged and must be there for ever; what failed or was not answered may be there or not.
"""

import contextlib
import http.client
import json
import threading
from pathlib import Path
from types import TracebackType

from harness import api
from harness.eventually import eventually

PAUSE_S = 0.005
RETRY_S = 0.05
ANSWER_TIMEOUT_S = 5.0


class Writer:
    """Writes through the endpoint and with the certificate of a kubeconfig."""

    def __init__(self, kubeconfig: Path, name: str) -> None:
        self._address, self._context = api.endpoint(kubeconfig)
        self.name = name
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        self.goes_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def goes_on(self, timeout_s: float = 20.0) -> None:
        """Waits for a further acknowledged write."""
        before = len(self.acknowledged)
        eventually(lambda: len(self.acknowledged), lambda now: now > before, timeout_s, what=f"a write, after {self.failures[-1:]}")

    def lost(self) -> set[str]:
        """Acknowledged writes that are not there."""
        connection = self._connect()
        connection.request("GET", f"/api/v1/namespaces/default/configmaps?labelSelector=writer%3D{self.name}")
        found = {item["metadata"]["name"] for item in json.load(connection.getresponse())["items"]}
        connection.close()
        return set(self.acknowledged) - found

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, context=self._context, timeout=ANSWER_TIMEOUT_S)

    def _write(self) -> None:
        connection, number = self._connect(), 0
        while not self._end.wait(PAUSE_S):
            number += 1
            name = f"{self.name}-{number}"
            body = json.dumps({"metadata": {"name": name, "labels": {"writer": self.name}}, "data": {"number": str(number)}})
            try:
                connection.request("POST", "/api/v1/namespaces/default/configmaps", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 201:
                    self.acknowledged.append(name)
                    continue
                self.failures.append(f"{answer.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                with contextlib.suppress(OSError):
                    connection.close()
                connection = self._connect()
            self._end.wait(RETRY_S)
        connection.close()
