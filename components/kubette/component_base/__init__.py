"""What every process of the cluster has: flags, logs, TLS, health, metrics, a run loop. Knows nothing of Kubernetes objects."""
