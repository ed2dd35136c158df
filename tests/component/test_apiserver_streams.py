"""Logs and upgraded connections through the API server to a kubelet, here a small TLS server that says what it was asked."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness import apiserver
from harness.apiserver import Server
from kubette.kube_apiserver import serving_cert

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "openssl")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with apiserver.running(tmp_path_factory.mktemp("streams")) as one:
        yield one


async def _kubelet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Streams a log in two chunks; upgrades to whatever is asked and echoes; refuses pods called `refused`."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    target = head.split(" ")[1]
    if target.startswith("/containerLogs/default/refused/"):
        writer.write(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 53\r\n\r\ncontainer "c" in pod "refused" is waiting to start: x')
    elif "/refused" in target:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\npod does not exist")
    elif target.startswith("/containerLogs"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"one\n", target.encode() + b"\n"):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        writer.write(b"0\r\n\r\n")
    else:
        protocol = next(line for line in head.split("\r\n") if line.lower().startswith("upgrade:")).partition(":")[2].strip()
        assert "authorization" not in head.lower()
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n{target}\n".encode())
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    await writer.drain()
    writer.close()


@pytest.fixture
async def kubelet(tmp_path: Path, server: Server) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*serving_cert.ensure(str(tmp_path), ["127.0.0.1"]))
    listener = await asyncio.start_server(_kubelet, "127.0.0.1", 0, ssl=context)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        await _prepare(server, port)
        yield port


async def _request(server: Server, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=ssl._create_unverified_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.request(method, server.url + path, data=json.dumps(body) if body is not None else None, headers=headers) as response:
            return response.status, await response.read()


PODS = "/api/v1/namespaces/default/pods"


async def _prepare(server: Server, port: int) -> None:
    await _request(server, "DELETE", "/api/v1/nodes/n1")
    status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    code, body = await _request(server, "POST", "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": status})
    assert code == 201, body
    await _request(server, "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    for name in ("web", "refused"):
        pod = {"metadata": {"name": name}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}}
        await _request(server, "POST", PODS, pod)


async def _upgrade(server: Server, path: str, protocol: str) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = server.url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=ssl._create_unverified_context())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
    if protocol == "websocket":
        head = head.replace("POST", "GET", 1) + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    writer.write((head + "\r\n").encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    return answer.decode(), reader, writer


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
async def test_an_upgraded_connection_is_passed_through_as_bytes(server: Server, kubelet: int, protocol: str) -> None:
    answer, reader, writer = await _upgrade(server, f"{PODS}/web/exec?command=sh&stdout=true", protocol)
    assert answer.startswith("HTTP/1.1 101")
    assert await reader.readline() == b"/exec/default/web/c?output=1&command=sh\n"
    sent = bytes(range(256)) * 4096  # a megabyte: more than any buffer on the way
    writer.write(sent)
    assert await asyncio.wait_for(reader.readexactly(len(sent)), 20) == sent
    writer.close()


async def test_a_refusal_of_the_kubelet_reaches_the_client_as_a_status(server: Server, kubelet: int) -> None:
    answer, reader, writer = await _upgrade(server, f"{PODS}/refused/attach", "SPDY/3.1")
    assert answer.startswith("HTTP/1.1 404")
    body = json.loads(await asyncio.wait_for(reader.readexactly(int(answer.lower().split("content-length: ")[1].split("\r")[0])), 10))
    assert (body["kind"], body["message"]) == ("Status", "pod does not exist")
    writer.close()


async def test_exec_without_upgrade_is_a_bad_request(server: Server, kubelet: int) -> None:
    code, body = await _request(server, "POST", f"{PODS}/web/exec?command=sh")
    assert (code, json.loads(body)["message"]) == (400, "Upgrade request required")


async def test_logs_are_streamed_from_the_kubelet(server: Server, kubelet: int) -> None:
    code, body = await _request(server, "GET", f"{PODS}/web/log?tailLines=5&timestamps=true")
    assert (code, body) == (200, b"one\n/containerLogs/default/web/c?timestamps=true&tailLines=5\n")


async def test_logs_that_the_kubelet_refuses_are_a_status(server: Server, kubelet: int) -> None:
    code, body = await _request(server, "GET", f"{PODS}/refused/log")
    answer = json.loads(body)
    assert (code, answer["reason"], answer["message"]) == (400, "BadRequest", 'container "c" in pod "refused" is waiting to start: x')


async def test_the_node_proxy_reaches_any_path_of_the_kubelet(server: Server, kubelet: int) -> None:
    code, body = await _request(server, "GET", "/api/v1/nodes/n1/proxy/containerLogs/x?a=b")
    assert (code, body) == (200, b"one\n/containerLogs/x?a=b\n")
