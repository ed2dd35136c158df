"""What the standard library lacks. No Kubernetes or Raft word inside."""
