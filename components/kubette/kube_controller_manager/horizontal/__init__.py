"""The horizontal pod autoscaler: as many replicas as the metrics of its pods ask for (upstream: pkg/controller/podautoscaler)."""
