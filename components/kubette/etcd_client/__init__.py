"""Client of etcd's v3 API over gRPC: endpoint failover, watches that resume, errors that say whether they are definite.

client = Client(["https://127.0.0.1:2379"], ca_file=..., cert_file=..., key_file=...)
answer = await client.range(b"/registry/pods/", prefix_end(b"/registry/pods/"))
"""

from kubette.etcd_client.client import Client, prefix_end
from kubette.etcd_client.errors import CompactedError, EtcdError
from kubette.etcd_client.watch import Watcher

__all__ = ["Client", "CompactedError", "EtcdError", "Watcher", "prefix_end"]
