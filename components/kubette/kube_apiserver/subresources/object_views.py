"""Subresources that are the object itself, written in part: `status`, `approval`, `ephemeralcontainers`, `resize`."""

from aiohttp import web

from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.verbs import get, patch, update


async def read(call: Call) -> Answer | web.StreamResponse:
    return await get.handle(call)


async def replace(call: Call) -> Answer | web.StreamResponse:
    return await update.handle(call, call.info.subresource)


async def change(call: Call) -> Answer | web.StreamResponse:
    return await patch.handle(call, call.info.subresource)
