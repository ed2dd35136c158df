"""Objects in etcd, and the watch cache that serves every list and watch."""
