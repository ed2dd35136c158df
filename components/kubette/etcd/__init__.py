"""etcd: a replicated key-value store that speaks etcd's v3 API and keeps etcd's files.

`mvcc/`, `lessor.py`, `apply.py`, `membership.py` are pure: what an entry does to the state. `raft_loop.py` drives the Raft
library; `wal.py`, `snapshotter.py`, `bbolt.py` are the disk, `transport.py` the other members, `rim/` the client port.
"""
