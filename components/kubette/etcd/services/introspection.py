"""gRPC's own services: health and reflection."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from kubette.etcd.rim.grpc import MessageStream, Method
from kubette.etcd_api.errors import Code, RpcError
from kubette.etcd_api.health_pb2 import HealthCheckRequest, HealthCheckResponse

HEALTH_POLL_S = 1.0  # a watcher of the health learns of a change within this


class GrpcHealth:
    """`grpc.health.v1`: serving while there is a leader; the whole server and the KV service are known by name."""

    def __init__(self, serving: Callable[[], bool], services: Callable[[], Iterable[str]]) -> None:
        self._serving = serving
        self._services = services

    def methods(self) -> dict[bytes, Method]:
        return {b"/grpc.health.v1.Health/Check": Method(self.check), b"/grpc.health.v1.Health/Watch": Method(streaming=self.watch)}

    def _status(self, service: str) -> "HealthCheckResponse.ServingStatus":
        if service and service not in self._services():
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._serving() else HealthCheckResponse.NOT_SERVING

    def check(self, body: bytes) -> bytes:
        status = self._status(HealthCheckRequest.FromString(body).service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise RpcError(Code.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=status).SerializeToString()

    async def watch(self, call: MessageStream) -> None:
        service = HealthCheckRequest.FromString(await call.receive() or b"").service
        sent: int | None = None
        while not call.over:
            status = self._status(service)
            if status != sent:
                call.send(HealthCheckResponse(status=status).SerializeToString())
                sent = status
            await asyncio.sleep(HEALTH_POLL_S)


class Reflection:
    """`grpc.reflection.v1` and its `v1alpha`: the descriptors of the services, for clients without the .proto files."""

    def __init__(self, services: Callable[[], Iterable[str]]) -> None:
        self._services = services

    def methods(self) -> dict[bytes, Method]:
        method = Method(streaming=self.info)
        return {f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo".encode(): method for version in ("v1", "v1alpha")}

    async def info(self, call: MessageStream) -> None:
        from google.protobuf import descriptor_pool

        from kubette.etcd_api import reflection_pb2 as pb

        pool: Any = descriptor_pool.Default()
        while (body := await call.receive()) is not None:
            request = pb.ServerReflectionRequest.FromString(body)
            answer = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
            try:
                self._answer(pool, request, answer)
            except KeyError as error:
                answer.error_response.error_code = int(Code.NOT_FOUND)
                answer.error_response.error_message = str(error.args[0]) if error.args else "not found"
            call.send(answer.SerializeToString())
            await call.wait_drained()

    def _answer(self, pool: Any, request: Any, answer: Any) -> None:
        """Raises KeyError for what is not known."""
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in sorted(self._services()):
                answer.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            _add_files(pool.FindFileByName(request.file_by_filename), answer)
        elif kind == "file_containing_symbol":
            _add_files(pool.FindFileContainingSymbol(request.file_containing_symbol), answer)
        elif kind == "file_containing_extension":
            extension = request.file_containing_extension
            message = pool.FindMessageTypeByName(extension.containing_type)
            _add_files(pool.FindExtensionByNumber(message, extension.extension_number).file, answer)
        elif kind == "all_extension_numbers_of_type":
            message = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
            answer.all_extension_numbers_response.base_type_name = message.full_name
            numbers = sorted(each.number for each in pool.FindAllExtensions(message))
            answer.all_extension_numbers_response.extension_number.extend(numbers)
        else:
            answer.error_response.error_code = int(Code.INVALID_ARGUMENT)
            answer.error_response.error_message = "invalid MessageRequest"


def _add_files(file: Any, answer: Any) -> None:
    """The file and all it imports, those first."""
    files: dict[str, Any] = {}

    def visit(each: Any) -> None:
        for dependency in each.dependencies:
            if dependency.name not in files:
                visit(dependency)
        files[each.name] = each

    visit(file)
    answer.file_descriptor_response.file_descriptor_proto.extend(each.serialized_pb for each in reversed(list(files.values())))
