"""Node lifecycle: silent nodes become Unknown, conditions become taints, zones limit the eviction rate."""
