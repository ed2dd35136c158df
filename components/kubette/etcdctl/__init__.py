"""etcdctl and etcdutl: the command lines with which an operator talks to etcd and works on its files. Both APIs, upstream's words and formats.

The outputs are those of etcdctl 3.4, compared with that program command by command (`tests/component/test_etcdctl.py`).
"""
