"""Pure: the two CRI services as tables: method name, messages, streaming; for servers' handlers and clients' stubs alike.

The tables are read from the generated descriptor, so that `api.proto` stays the only place that names a method. No gRPC
library is imported: a server passes `Method` to `grpc.unary_unary_rpc_method_handler`, a client builds a `Stub`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory

from kubette.cri import api_pb2

RUNTIME_SERVICE = "runtime.v1.RuntimeService"
IMAGE_SERVICE = "runtime.v1.ImageService"
# Where a kubeadm node's kubelet looks for its runtime.
SOCKET = "unix:///run/containerd/containerd.sock"


@dataclass(frozen=True, slots=True)
class Method:
    """One remote procedure: its path on the wire and its message classes."""

    service: str
    name: str
    request: type[Any]
    response: type[Any]
    server_streaming: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


def methods(service: str) -> Iterator[Method]:
    """Every method of `RUNTIME_SERVICE` or `IMAGE_SERVICE`, in the order of `api.proto`."""
    descriptor = api_pb2.DESCRIPTOR.services_by_name[service.rsplit(".", 1)[1]]
    for method in descriptor.methods:
        yield Method(
            service,
            method.name,
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            method.server_streaming,
        )


class Stub:
    """A client of one service over `channel` (grpc or grpc.aio): each method is an attribute, called as `stub.Version(request, timeout=…)`."""

    def __init__(self, channel: Any, service: str) -> None:
        for method in methods(service):
            kind = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = kind(method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString)
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:  # only reached for a name api.proto does not have
        raise AttributeError(f"the CRI has no method {name}")
