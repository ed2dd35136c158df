"""What the client sends, seen by a real server."""

import asyncio
import dataclasses

import pytest
from aiohttp import web

from kubette.client import kubeconfig
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import http_server


async def test_a_kubeconfig_that_impersonates_sends_the_user_and_every_group() -> None:
    seen: list[tuple[str, list[str]]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["Impersonate-User"], request.headers.getall("Impersonate-Group")))
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/version", answer)
    user = {"as": "alice", "as-groups": ["ops", "system:authenticated"]}
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    async with http_server.serving(app, "127.0.0.1", 0) as port:
        config = dataclasses.replace(kubeconfig.from_document(document), server=f"http://127.0.0.1:{port}")
        async with Client(config) as client:
            await client.request("GET", "/version")
    assert seen == [("alice", ["ops", "system:authenticated"])]


async def test_a_connection_that_is_closed_in_the_handshake_is_an_eof() -> None:
    """What a load balancer without a living server behind it does."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        document = {
            "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        async with Client(kubeconfig.from_document(document)) as client:
            with pytest.raises(TransportError, match=": EOF$"):
                await client.request("GET", "/version")
