"""The API server: one process, one write path, one watch path (DESIGN D6, D7).

Start it for a test with `tests/harness/apiserver.py`; by hand it needs `--etcd-servers` and, with no certificate given, makes a
self-signed one in `--cert-dir`, as upstream does.
"""
