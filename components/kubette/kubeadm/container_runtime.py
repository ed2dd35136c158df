"""kubeadm's few calls to the container runtime, through CRI."""

from kubette.kubeadm.config import ConfigError

_PULL_TIMEOUT_S = 300.0


async def pull(socket: str, image: str) -> None:
    """Have the image on this machine. Raises ConfigError with the runtime's words."""
    import grpc

    from kubette.cri import api_pb2 as cri
    from kubette.cri import services

    async with grpc.aio.insecure_channel(socket) as channel:
        service = services.Stub(channel, services.IMAGE_SERVICE)
        try:
            await service.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image=image)), timeout=_PULL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise ConfigError(f'failed to pull image "{image}": rpc error: code = {error.code().name} desc = {error.details()}') from error
