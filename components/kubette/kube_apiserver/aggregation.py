"""Group-versions that other servers answer: an APIService with a service is a reverse proxy (upstream's kube-aggregator).

The other server trusts this one's --proxy-client-cert-file and learns the user from X-Remote-* headers. It is reached by its endpoints, with its name as
TLS server name, so that this machine needs neither kube-proxy nor the cluster's DNS.
"""

import asyncio
import base64
import ssl
from typing import Any

from aiohttp import web

from kubette.apimachinery import meta, status
from kubette.component_base import tls
from kubette.kube_apiserver import node_proxy
from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth.interfaces import UserInfo
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.request_info import RequestInfo
from kubette.kube_apiserver.subresources.kubelet_location import Location

Object = dict[str, Any]


class Aggregator:
    """`non_resources.Delegate`."""

    def __init__(self, lister: Lister, options: Any) -> None:
        self._lister = lister
        self._cert, self._key = options.proxy_client_cert_file, options.proxy_client_key_file

    async def proxy(self, request: web.BaseRequest, info: RequestInfo, user: UserInfo) -> Answer | web.StreamResponse | None:
        """The other server's answer; None when no APIService names the group-version."""
        service = await self._lister.get("apiregistration.k8s.io", "apiservices", "", f"{info.version}.{info.group}")
        reference = ((service or {}).get("spec") or {}).get("service")
        if service is None or not reference:
            return None
        host, port = await self._endpoint(reference)
        location = Location("https", host, port, request.rel_url.raw_path_qs)
        dialer = _AggregatedDialer(self._context(service["spec"]), f"{reference['name']}.{reference['namespace']}.svc")
        headers = remote_headers(user)
        if "upgrade" in request.headers.get("Connection", "").lower():
            return await node_proxy.upgrade(dialer, request, location, kubelet=False, extra=headers)
        return await node_proxy.stream(dialer, request, location, kubelet=False, extra=headers)

    def _context(self, spec: Object) -> ssl.SSLContext:
        bundle = base64.b64decode(spec.get("caBundle") or "").decode()
        verify = not spec.get("insecureSkipTLSVerify")
        return tls.client_context("", self._cert, self._key, verify=verify, ca_data=bundle)

    async def _endpoint(self, reference: Object) -> tuple[str, int]:
        wanted = int(reference.get("port") or 443)
        service = await self._lister.get("", "services", reference["namespace"], reference["name"])
        ports = ((service or {}).get("spec") or {}).get("ports") or []
        chosen = next((one for one in ports if one.get("port") == wanted), None)
        if chosen is not None:
            for one in await self._lister.list("discovery.k8s.io", "endpointslices", reference["namespace"]):
                if meta.labels(one).get("kubernetes.io/service-name") != reference["name"]:
                    continue
                number = next((p.get("port") for p in one.get("ports") or [] if (p.get("name") or "") == (chosen.get("name") or "")), None)
                for endpoint in one.get("endpoints") or []:
                    if number and (endpoint.get("conditions") or {}).get("ready", True):
                        return str(endpoint["addresses"][0]), int(number)
        raise status.service_unavailable("service unavailable")


class _AggregatedDialer:
    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._context, self._name = context, server_name

    async def open(self, location: Location, kubelet: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await node_proxy.connect(location, self._context, self._name)


def remote_headers(user: UserInfo) -> list[tuple[str, str]]:
    """The front-proxy headers (--requestheader-* of the other server)."""
    headers = [("X-Remote-User", user.name), *(("X-Remote-Group", group) for group in user.groups)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [(f"X-Remote-Extra-{key}", value) for key, values in user.extra.items() for value in values]
    return [(name, value) for name, value in headers if value.isprintable()]
