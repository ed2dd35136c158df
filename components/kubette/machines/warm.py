"""The warm parent's memory: modules imported once, shared by every process forked from it.

Importing asyncio, aiohttp, grpc and cryptography costs half a second and 60 MB in every process. The supervisor imports them, and all of our programs,
before it forks the first machine; `gc.freeze` keeps the collector from touching (and so copying) those pages.
"""

import gc
import importlib

from kubette.component_base import logs
from kubette.machines import programs

log = logs.logger(__name__)

LIBRARIES = (
    "asyncio",
    "concurrent.futures",
    "multiprocessing.connection",
    "ssl",
    "uvloop",
    "aiohttp",
    "aiohttp.web",
    "grpc",
    "grpc.aio",
    "google.protobuf.message",
    "google.protobuf.json_format",
    "orjson",
    "yaml",
    "psutil",
    "setproctitle",
    "pyroute2",
    "jwt",
    "cryptography.x509",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.asymmetric.ec",
)


def load() -> None:
    """Import everything. A program that cannot be imported is named in the log and starts cold."""
    modules = [*LIBRARIES, *sorted({value.partition(":")[0] for value in programs.console_scripts().values()})]
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            log.warning("Warm import failed", module=module, err=error)
    gc.collect()
    gc.freeze()
