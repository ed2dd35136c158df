"""ReplicaSets: as many pods as asked for (upstream's replicaset controller)."""
