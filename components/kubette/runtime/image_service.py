"""runtime.v1.ImageService over the image catalogue."""

import os

from kubette.cri import api_pb2
from kubette.runtime import config as settings_module
from kubette.runtime import image_catalogue, images
from kubette.stdx import clock


class ImageService:
    """Methods are named as in api.proto."""

    def __init__(self, store: images.Images, settings: settings_module.Settings, now: clock.Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = now

    async def ListImages(self, request: api_pb2.ListImagesRequest) -> api_pb2.ListImagesResponse:
        wanted = request.filter.image.image
        # One image may have several names; it is listed once, with all of them.
        found: dict[str, api_pb2.Image] = {}
        for pulled in self._store:
            if wanted and self._store.find(wanted) != pulled:
                continue
            message = pulled.message()
            if pulled.id in found:
                found[pulled.id].repo_tags.extend(message.repo_tags)
                found[pulled.id].repo_digests.extend(message.repo_digests)
            else:
                found[pulled.id] = message
        return api_pb2.ListImagesResponse(images=found.values())

    async def ImageStatus(self, request: api_pb2.ImageStatusRequest) -> api_pb2.ImageStatusResponse:
        pulled = self._store.find(request.image.image)
        response = api_pb2.ImageStatusResponse(image=pulled.message() if pulled is not None else None)
        if request.verbose and pulled is not None:
            response.info[image_catalogue.ANNOTATION] = "provided by " + pulled.entry.described
        return response

    async def PullImage(self, request: api_pb2.PullImageRequest) -> api_pb2.PullImageResponse:
        # containerd answers the image's id; the kubelet shows its digest from ImageStatus.
        return api_pb2.PullImageResponse(image_ref=self._store.pull(request.image.image).id)

    async def RemoveImage(self, request: api_pb2.RemoveImageRequest) -> api_pb2.RemoveImageResponse:
        self._store.remove(request.image.image)
        return api_pb2.RemoveImageResponse()

    async def ImageFsInfo(self, request: api_pb2.ImageFsInfoRequest) -> api_pb2.ImageFsInfoResponse:
        mountpoint = str(self._settings.root)
        used = sum(pulled.entry.size for pulled in self._store)
        usage = api_pb2.FilesystemUsage(
            timestamp=int(self._clock.wall() * 1e9),
            fs_id=api_pb2.FilesystemIdentifier(mountpoint=mountpoint),
            used_bytes=api_pb2.UInt64Value(value=_disk_usage(mountpoint)),
            inodes_used=api_pb2.UInt64Value(value=len(os.listdir(mountpoint)) if used or os.path.isdir(mountpoint) else 0),
        )
        return api_pb2.ImageFsInfoResponse(image_filesystems=[usage], container_filesystems=[usage])


def _disk_usage(path: str) -> int:
    """Bytes that the runtime's own files take: the catalogue's images take none."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except OSError:
                continue
    return total
