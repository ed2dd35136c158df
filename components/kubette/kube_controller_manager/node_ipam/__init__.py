"""Node IPAM: a pod CIDR for every node (upstream's range allocator)."""
