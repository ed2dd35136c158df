"""The API over plain HTTP, with the certificate of a kubeconfig: for what kubectl does not ask."""

import base64
import http.client
import json
import os
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml


def endpoint(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """The server's address, and TLS as its user."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    pair = base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
    with tempfile.NamedTemporaryFile() as file:
        os.write(file.fileno(), pair)
        context.load_cert_chain(file.name)
    return cluster["server"].removeprefix("https://"), context


class Api:
    """One connection: `api("GET", "/apis")` is the answer's body."""

    def __init__(self, kubeconfig: Path, timeout_s: float = 20.0) -> None:
        address, context = endpoint(kubeconfig)
        self._connection = http.client.HTTPSConnection(address, context=context, timeout=timeout_s)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        self._connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = json.load(answer)
        assert answer.status < 300, f"{method} {path}: {answer.status} {said}"
        return said
