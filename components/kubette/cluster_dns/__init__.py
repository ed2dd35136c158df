"""coredns's place: the names of the cluster, and everybody else's by asking upstream."""
